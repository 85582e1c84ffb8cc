"""A conversation with an engine's own Python, which steps it (vllm_driver.py): one JSON object a line each way."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from specsim.engines.guarded import GuardedProcess
from specsim.engines.installation import cpu_environment, engine_environment
from specsim.errors import InvalidInput, NoAnswer

VLLM_SCRIPT = Path(__file__).with_name("vllm_driver.py")
NAMES = {"vllm": "vLLM", "transformers": "transformers"}
TRIED = {"vllm": "0.32.0", "transformers": "5.19.0"}  # the versions whose engines the drivers were written against
CLOSING_S = 60
Step = Mapping[str, Any]  # ``seconds`` by part; of rounds what they drafted and accepted too


class StepSkipped(Exception):
    """The engine ran another step than it was asked for, for instance for want of KV blocks."""


class Driver:
    """An engine in a subprocess, up from the making of this on; ``with`` waits for it. ``facts``: its version, device,
    dtype and mode. Its own messages go to ``log``, which only a failure leaves behind.
    """

    def __init__(
        self,
        python: Path,
        job: Mapping[str, Any],
        log: Path,
        *,
        device: str,
        script: Path = VLLM_SCRIPT,
        kind: str = "vllm",
    ) -> None:
        self._python, self._job, self._log, self._device, self._kind = python, job, log, device, kind
        self._file: IO[str] = log.open("w")
        environment = engine_environment(python, cpu_environment() if device == "cpu" else {})
        self._guarded = GuardedProcess(
            [str(python), str(script)], environment, stdin=subprocess.PIPE, stderr=self._file
        )
        self._killed = False
        self.facts: dict[str, Any] = {}

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The engine's answer to one line; raises NoAnswer if it failed or its process ended."""
        stdin, stdout = self._guarded.process.stdin, self._guarded.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(dict(message)) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        try:
            answer = json.loads(line) if line else {"error": f"its process ended with status {self._status()}"}
        except json.JSONDecodeError:
            answer = {"error": f"it answered {line.strip()[:80]!r}"}
        if "error" in answer:
            name = NAMES[self._kind]
            version = self.facts.get(self._kind) or answer.get(self._kind)
            raise NoAnswer(
                f"{name}{f' {version}' if version else ''} stopped: {answer['error']}; see {self._log} (tried with "
                f"{name} {TRIED[self._kind]})"
            )
        found: dict[str, Any] = answer
        return found

    def begin(self, what: Mapping[str, Any]) -> None:
        """Make ready what the next steps are of (vllm_driver.py says what it may be)."""
        self.ask({"begin": dict(what)})

    def steps(self, count: int, arrive: Sequence[Mapping[str, Any]] = ()) -> list[Step]:
        """Its next steps, fewer where they end; ``arrive``: requests of a load that come before them.

        Raises StepSkipped where the engine ran another step than it was asked for.
        """
        answer = self.ask({"steps": count} | ({"arrive": list(arrive)} if arrive else {}))
        if "skipped" in answer:
            raise StepSkipped(answer["skipped"])
        found: list[Step] = answer["steps"]
        return found

    def __enter__(self) -> Driver:
        """Wait for the engine. Raises NoAnswer where it does not start, InvalidInput on another device; it has ended
        then.
        """
        try:
            self.facts = self.ask(self._job)
            if (runs_on := self.facts.get("device")) != self._device:
                raise InvalidInput(
                    f"{NAMES[self._kind]} in {self._python} runs on {runs_on} and --device is {self._device}; choose "
                    "the other"
                )
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self.kill()  # the user does not wait for what it is at
        self._close(keep_log=isinstance(error, NoAnswer) and not self._killed)

    def kill(self) -> None:
        """End the engine at once, whatever it is at; whoever waits for its answer gets NoAnswer."""
        self._killed = True
        self._guarded.kill()

    def _status(self) -> int:
        return self._guarded.process.wait()

    def _close(self, *, keep_log: bool) -> None:
        process = self._guarded.process
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()  # the driver's loop ends with its input
        self._guarded.wait(CLOSING_S)
        if process.stdout is not None:
            process.stdout.close()
        self._file.close()
        if not keep_log:
            self._log.unlink(missing_ok=True)
