"""What an engine's command line or file, a model's configuration or a trace says of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.interop.server import read_server
from specsim.interop.traces.read import Trace, read_trace
from specsim.text_file import read_text

LONGEST_PATH = 1024  # a file name; longer text is a command line
TRACES = {".csv", ".jsonl", ".json", ".gz", ".parquet"}


def read_source(source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fields of a scenario, and what could not be said in them, a line each.

    ``source``: a model's config.json or its folder, a trace, a file with an engine's command line, manifest or YAML,
    or the command line itself. Raises InvalidInput for what is none of these.
    """
    path = Path(source)
    if len(source) >= LONGEST_PATH or "\n" in source or not path.exists():
        if len(source.split()) == 1:
            raise InvalidInput(f"--from {shown(source)} is no file, and no engine's command line in quotes")
        return read_server(source).scenario_fields()
    if path.is_dir() or path.name == "config.json":
        return {"model": str(path.resolve())}, ()
    if path.suffix.lower() in TRACES:
        return _trace(path)
    return read_server(read_text(path, "a command line")).scenario_fields()


def _trace(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A trace with arrival times is replayed; of one without, lengths are drawn."""
    path = path.resolve()
    return trace_fields(read_trace(path), str(path))


def trace_fields(trace: Trace, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The workload of a trace that is called ``name``, and remarks on it."""
    if trace.requests.arrival_s is not None and len(trace.requests) > 1:
        return {"workload": {"kind": "trace", "path": name}}, trace.remarks()
    lengths = {"kind": "trace", "path": name}
    return {"workload": {"kind": "synthetic", "lengths": lengths}}, trace.remarks()
