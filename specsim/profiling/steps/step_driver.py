"""A conversation with vLLM's own Python, which steps its engine (vllm_driver.py): one JSON object a line each way."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from specsim.engines.installation import cpu_environment, engine_environment
from specsim.errors import InvalidInput, NoAnswer

SCRIPT = Path(__file__).parent / "vllm_driver.py"
TRIED = "0.32.0"  # the version whose engine vllm_driver.py was written against
CLOSING_S = 60


class Driver:
    """vLLM in a subprocess. ``facts``: its version, device, dtype and mode. Its own messages go to ``log``, which
    only a failure leaves behind.
    """

    def __init__(self, python: Path, job: dict[str, Any], log: Path, *, device: str, script: Path = SCRIPT) -> None:
        self._log = log
        self._file: IO[str] = log.open("w")
        environment = engine_environment(cpu_environment() if device == "cpu" else {})
        self._process = subprocess.Popen(
            [str(python), str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
            env=environment,
        )
        self.facts: dict[str, Any] = {}
        try:
            self.facts = self.ask(job)
            if self.facts.get("device") != device:
                raise InvalidInput(
                    f"vLLM in {python} runs on {self.facts.get('device')} and --device is {device}; choose the other"
                )
        except BaseException:
            self._end(keep_log=True)
            raise

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The engine's answer to one line; raises NoAnswer if it failed or its process ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        try:
            answer = json.loads(line) if line else {"error": f"its process ended with status {self._process.wait()}"}
        except json.JSONDecodeError:
            answer = {"error": f"it answered {line.strip()[:80]!r}"}
        if "error" in answer:
            version = self.facts.get("vllm") or answer.get("vllm")
            which = f"vLLM {version}" if version else "vLLM"
            raise NoAnswer(f"{which} stopped: {answer['error']}; see {self._log} (tried with vLLM {TRIED})")
        found: dict[str, Any] = answer
        return found

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(keep_log=kind is not None and issubclass(kind, NoAnswer))

    def _end(self, *, keep_log: bool) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()  # the driver's loop ends with its input
        try:
            self._process.wait(CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._file.close()
        if not keep_log:
            self._log.unlink(missing_ok=True)
