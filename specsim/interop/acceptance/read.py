"""Acceptance from any file that an engine or a load generator wrote; the format is known by what is in it."""

from __future__ import annotations

import re
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.interop.acceptance.counters import read_counters
from specsim.interop.acceptance.record import AcceptanceRecord
from specsim.interop.acceptance.results import read_results
from specsim.interop.acceptance.server_log import read_log
from specsim.text_file import read_text

_JSON = re.compile(r"\s*(\{|\[\s*[\[{\"\]\d])(?!\d{3}-)")  # a log may begin with [2026-11-29


def read_acceptance(path: Path, before: Path | None = None, *, model: str | None = None) -> AcceptanceRecord:
    """A dump of ``/metrics`` (with an earlier one as ``before``), a server's log, or JSON of results or responses.

    ``model`` chooses one of several whose counters a dump holds. Raises InvalidInput: no such file, none of these, or
    no speculation in it.
    """
    text = read_text(path, "an engine's metrics, log or results")
    if _JSON.match(text):
        record = read_results(path)
    elif "# TYPE " in text or "# HELP " in text or "vllm:" in text:
        return read_counters(path, before, model=model)
    else:
        record = read_log(path)
    if before is not None:
        raise InvalidInput(f"{path} is no dump of /metrics, so nothing can be subtracted from it; give it alone")
    return record
