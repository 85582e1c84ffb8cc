"""The machine as an engine's own Python sees it, asked in a subprocess: specsim's Python needs no torch for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from specsim.engines.guarded import run_guarded
from specsim.errors import NoAnswer

# Imports this package and nothing else from where specsim is installed: the engine keeps its own versions of the rest.
_START = """
import importlib.util, sys
found = importlib.util.spec_from_file_location("specsim", {file!r}, submodule_search_locations=[{folder!r}])
sys.modules["specsim"] = importlib.util.module_from_spec(found)
found.loader.exec_module(sys.modules["specsim"])
from specsim.profiling.device.facts import main
main()
"""


class EngineMachine:
    """This machine, seen from ``python``. ``facts`` are fields of a header; ``default_dtype`` what is native to it.

    Raises NoAnswer where that Python has no usable torch, or not the device.
    """

    def __init__(self, python: Path, device: str) -> None:
        self._python, self._device = python, device
        told = self._ask("facts")
        self.facts: dict[str, Any] = told["facts"]
        self.slug, self.default_dtype = str(told["slug"]), str(told["default_dtype"])

    def rates(self, dtype: str, limit_s: float) -> dict[str, Any]:
        """Launch overhead and ceilings in a dtype, measured now in about ``limit_s`` seconds."""
        return self._ask("rates", dtype=dtype, limit_s=limit_s)

    def probe_s(self, dtype: str) -> float:
        """Seconds of the fixed probe, measured now."""
        return float(self._ask("probe", dtype=dtype)["probe_s"])

    def _ask(self, what: str, **wanted: object) -> dict[str, Any]:
        file = Path(__file__).parents[2] / "__init__.py"
        start = _START.format(file=str(file), folder=str(file.parent))
        request = json.dumps({"what": what, "device": self._device, **wanted})
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = run_guarded([str(self._python), "-c", start, request], environment)
        try:
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            said = done.stderr.strip().splitlines()[-1:] or [f"it ended with status {done.returncode}"]
            raise NoAnswer(
                f"{self._python} cannot measure this machine: {said[0][:150]}; give an environment that has torch"
            ) from None
        if "error" in answer:
            raise NoAnswer(answer["error"])
        return answer
