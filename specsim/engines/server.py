"""A server as a subprocess: started, waited for, and stopped whatever happens."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from specsim.engines.adapter import Launch
from specsim.engines.client import BrokenLoad
from specsim.engines.guarded import GuardedProcess
from specsim.engines.installation import engine_environment
from specsim.errors import NoAnswer

_Loaded = TypeVar("_Loaded")
READY_S = 900.0  # a large model's weights take minutes to load
POLL_S, ASK_S, CLOSING_S = 0.25, 5.0, 40.0
# A line that says why; a traceback's own lines and a logger's prefix say nothing.
_CAUSE = re.compile(r"^(?:\([^)]*\)\s*)?(?:ERROR[^\]]*\]\s*)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*)$")


class Server:
    """``python`` runs ``launch`` and takes requests at ``url``. Everything that it prints goes to ``log``.

    Raises NoAnswer, and leaves no process, where the port is taken, the server ends, or is not ready in ``ready_s``.
    """

    def __init__(
        self, python: Path, launch: Launch, log: Path, *, port: int, health: str, ready_s: float = READY_S
    ) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}", log
        _require_free(port)
        with log.open("w") as file:
            self._guarded = GuardedProcess(
                [str(python), *launch.arguments], engine_environment(python, launch.environment), stdout=file
            )
        try:
            self._wait_until(lambda: _answers(self.url + health), ready_s)
        except BaseException:
            self.stop()
            raise

    def metrics(self) -> str:
        """The text of ``/metrics``. Raises NoAnswer if the server has gone."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=ASK_S) as answer:
                text: str = answer.read().decode()
                return text
        except OSError as error:
            raise self.gone(str(error)) from None

    def reset(self, route: str) -> None:
        """POST to ``route``, which takes no content."""
        try:
            urllib.request.urlopen(urllib.request.Request(self.url + route, method="POST"), timeout=ASK_S).close()
        except OSError as error:
            raise self.gone(str(error)) from None

    def drive_with(self, load: Callable[[], _Loaded]) -> _Loaded:
        """What ``load`` brings back; raises NoAnswer with the server's own reason where it died under it."""
        try:
            return load()
        except BrokenLoad as error:
            raise self.gone(str(error)) from None

    def gone(self, said: str) -> NoAnswer:
        """What happened to a server under a load: its log's own reason if it has ended, else ``said``."""
        with suppress(subprocess.TimeoutExpired):
            self._guarded.process.wait(2 * POLL_S)
        if self._guarded.process.poll() is None:
            return NoAnswer(f"the engine's server does not do what it was asked: {said}; see {self.log}")
        return NoAnswer(f"the engine's server has ended: {_cause(self.log) or said}; see {self.log}")

    def stop(self) -> None:
        """End the server and all that it started. Safe to call twice."""
        self._guarded.interrupt()
        self._guarded.wait(CLOSING_S)

    def _wait_until(self, ready: Callable[[], bool], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not ready():
            status = self._guarded.process.poll()
            if status is not None:
                raise NoAnswer(
                    f"the engine's server ended with status {status}: {_cause(self.log) or 'it gave no reason'}; see "
                    f"{self.log}"
                )
            if time.monotonic() > until:
                raise NoAnswer(f"the engine's server was not ready after {limit_s:.0f} s; see {self.log}")
            time.sleep(POLL_S)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise NoAnswer(f"port {port} is in use ({error.strerror}); give another with --port") from None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ASK_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _cause(log: Path) -> str | None:
    """The first line that names an error, at most 200 characters of it: later ones tell what followed from it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    causes = [found[1] for line in lines if (found := _CAUSE.match(line.strip()))]
    return " ".join(causes[0].split())[:200] if causes else None
