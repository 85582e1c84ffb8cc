"""Acceptance from any file that an engine or a load generator wrote; the format is known by what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from specsim.errors import Faults, InvalidInput
from specsim.interop.acceptance.counters import read_counters
from specsim.interop.acceptance.record import AcceptanceRecord
from specsim.interop.acceptance.results import read_results, read_specdecode_bench, specdecode_bench_drafters
from specsim.interop.acceptance.server_log import read_log
from specsim.results import pooled
from specsim.speculation.acceptance import RoundHistory, TraceAcceptance
from specsim.speculation.fit.observed import Observed, observed
from specsim.text_file import read_text

_TRACE = re.compile(r'\s*\{[^\n]*"cap": ?\d+\}?[^\n]*\n\{[^\n]*"runs":')  # a head, then a line a request
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


def read_log_file(
    path: Path, before: Path | None = None, *, model: str | None = None, drafter: str | None = None
) -> AcceptanceRecord:
    """As ``read_acceptance``, and traces that do not depend on k (``specsim profile acceptance``, SpecDecode-Bench).

    ``drafter`` chooses one of those in a trace of SpecDecode-Bench.
    """
    text = read_text(path, "an engine's metrics, log or results, or an acceptance trace")
    if _TRACE.match(text):
        return _of_trace("acceptance trace", TraceAcceptance.model_validate({"path": str(path)}))
    if _JSON.match(text) and (drafters := specdecode_bench_drafters(path)):
        if drafter is None and len(drafters) > 1:
            raise InvalidInput(f"{path}: traces of drafters {', '.join(drafters)}; choose one")
        return _of_trace("SpecDecode-Bench trace", read_specdecode_bench(path, drafter or drafters[0]))
    return read_acceptance(path, before, model=model)


def read_log_files(
    paths: Sequence[Path], before: Path | None = None, *, model: str | None = None, drafter: str | None = None
) -> list[AcceptanceRecord]:
    """``read_log_file`` of each. Raises InvalidInput for all faults at once, rounds that would count twice among
    them: of a file given twice, or of one and its packed copy.
    """
    faults, records, seen = Faults(), list[AcceptanceRecord](), dict[bytes, Path]()
    if before is not None and len(paths) > 1:
        faults.found.append(f"--before belongs to one dump of /metrics and {len(paths)} logs are given; give it alone")
    for path in paths:
        with faults.kept():
            text = read_text(path, "an engine's metrics, log or results, or an acceptance trace")
            digest = sha256(text.encode()).digest()
            if digest in seen:
                raise InvalidInput(f"{path} is {seen[digest]} again, and would count twice; give it once")
            seen[digest] = path
            records.append(read_log_file(path, before, model=model, drafter=drafter))
    faults.tell()
    return records


def rounds_of(records: Sequence[AcceptanceRecord]) -> tuple[Observed, tuple[bool, ...]]:
    """The rounds of those records that tell most, in order, by request or pooled, and which records these are.

    Raises InvalidInput where all tell a mean alone.
    """
    detail = [2 if len(one.histories) > 1 else 1 if len(one.requests) > 1 else 0 for one in records]
    used = tuple(level == max(detail) and one.counts is not None for level, one in zip(detail, records, strict=True))
    chosen = [one for one, use in zip(records, used, strict=True) if use]
    if not chosen:
        raise InvalidInput("no file counts rounds by what they accepted; each tells a mean alone")
    counts = pooled(one.counts for one in chosen if one.counts is not None)
    requests = [one for record in chosen for one in record.requests]
    histories = [one for record in chosen for one in record.histories]
    return observed(counts, requests, histories if max(detail) == 2 else ()), used


def _of_trace(kind: str, trace: TraceAcceptance) -> AcceptanceRecord:
    """The rounds of a replay of each request at the longest draft tried."""
    histories = tuple(
        RoundHistory(np.full(len(accepted), number), np.full(len(accepted), trace.cap), accepted)
        for number, accepted in enumerate(trace.replay(trace.cap))
    )
    requests = tuple(one.counts() for one in histories)
    notes = ("replayed at the longest draft tried; acceptance: {kind: trace, path: ...} replays the trace itself",)
    return AcceptanceRecord(kind, pooled(requests), requests=requests, histories=histories, notes=notes)
