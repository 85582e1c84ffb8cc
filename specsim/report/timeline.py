"""A simulated or measured run as a timeline: Chrome trace JSON, compressed, which ui.perfetto.dev opens.

Events as in the Trace Event Format: ``M`` names, ``X`` complete slices (one a step, a process a replica), ``C``
counters, nestable async ``b``/``e`` slices (one a request, within it waiting for the first token and decoding), which
may overlap where ``X`` may not. Times are microseconds with three decimals: Perfetto counts nanoseconds.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from specsim.errors import InvalidInput
from specsim.kept_files import replacing
from specsim.results import RequestRecord, RunResult, StepRecord

Event = dict[str, Any]
STEPS_THREAD = 1


def write_timeline(path: Path, result: RunResult) -> None:
    """Write the steps and requests of ``result``; ``path`` ends in ``.json.gz``, or ``.json`` for plain text.

    Raises InvalidInput: another ending, or a run that kept no steps.
    """
    if not path.name.endswith((".json", ".json.gz")):
        raise InvalidInput(f"timeline {path}: the name must end in .json.gz or .json, or Perfetto may not know it")
    if not result.steps:
        raise InvalidInput("the run kept no steps to draw; simulate fewer requests")
    path.parent.mkdir(parents=True, exist_ok=True)
    other = {"engine": result.engine, "scenario_sha256": result.scenario_sha256, "versions": result.versions}
    with replacing(path) as draft, _opened(draft, compressed=path.suffix == ".gz") as file:
        file.write(f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other)},"traceEvents":[\n')
        for index, event in enumerate(events(result)):
            file.write(("" if index == 0 else ",\n") + json.dumps(event, separators=(",", ":"), allow_nan=False))
        file.write("\n]}\n")


def _opened(path: Path, *, compressed: bool) -> TextIO:
    if compressed:
        return gzip.open(path, "wt", compresslevel=4, encoding="utf-8")
    return path.open("w", encoding="utf-8")


def events(result: RunResult) -> Iterator[Event]:
    """The trace's events, replica by replica; process ids count replicas from 1."""
    steps, requests = defaultdict(list), defaultdict(list)
    for step in result.steps:
        steps[step.replica].append(step)
    for request in result.requests:
        requests[request.replica].append(request)
    for replica in sorted({*steps, *requests}):
        pid = replica + 1
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"replica {replica}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": STEPS_THREAD, "args": {"name": "steps"}}
        yield from _step_events(sorted(steps[replica], key=lambda step: step.start_s), pid)
        for request in requests[replica]:
            yield from _request_events(request, pid)


def _step_events(steps: list[StepRecord], pid: int) -> Iterator[Event]:
    ends = [_ns(step.start_s + step.duration_s) for step in steps]
    starts = [_ns(step.start_s) for step in steps]
    shown: dict[str, int] = {}
    for index, step in enumerate(steps):
        # Rounding to nanoseconds must not make neighbours overlap: slices of a thread have to nest.
        following = starts[index + 1] if index + 1 < len(steps) else ends[index]
        start, end = starts[index], max(starts[index], min(ends[index], following))
        yield {
            "ph": "X",
            "name": _step_name(step),
            "cat": "step",
            "pid": pid,
            "tid": STEPS_THREAD,
            "ts": start / 1e3,
            "dur": (end - start) / 1e3,
            "args": {
                "sequences": step.sequences,
                "prefill_tokens": step.prefill_tokens,
                "verify_tokens": step.verify_tokens,
                "draft_tokens": step.draft_tokens,
                "accepted": step.accepted,
            },
        }
        held = {"running": step.sequences, "waiting": step.waiting, "KV blocks": step.kv_blocks}
        yield from _counters(start, pid, held, shown)
        if end < following or index + 1 == len(steps):
            yield from _counters(end, pid, dict.fromkeys(held, 0), shown)


def _counters(time_ns: int, pid: int, held: dict[str, int], shown: dict[str, int]) -> Iterator[Event]:
    """Counters whose value changes; ``shown`` is what the viewer has so far."""
    for name, value in held.items():
        if shown.get(name) != value:
            shown[name] = value
            yield {"ph": "C", "name": name, "pid": pid, "ts": time_ns / 1e3, "args": {"value": value}}


def _step_name(step: StepRecord) -> str:
    if not step.verify_tokens:
        return "prefill"
    decode = "verify" if step.draft_tokens else "decode"
    return f"prefill + {decode}" if step.prefill_tokens else decode


def _request_events(request: RequestRecord, pid: int) -> Iterator[Event]:
    whole = f"request {request.request_id}"
    arrival, first, finish = (_ns(t) for t in (request.arrival_s, request.first_token_s, request.finish_s))
    shared = {"cat": "request", "id": request.request_id, "pid": pid, "tid": STEPS_THREAD}
    args = {
        "class": request.request_class,
        "prompt_tokens": request.prompt_tokens,
        "output_tokens": request.output_tokens,
        "rounds": request.rounds,
        "drafted": request.drafted,
        "accepted": request.accepted,
        "preemptions": request.preemptions,
    }
    yield {"ph": "b", "name": whole, "ts": arrival / 1e3, "args": args} | shared
    yield {"ph": "b", "name": "to first token", "ts": arrival / 1e3} | shared
    yield {"ph": "e", "name": "to first token", "ts": first / 1e3} | shared
    if finish > first:
        yield {"ph": "b", "name": "decoding", "ts": first / 1e3} | shared
        yield {"ph": "e", "name": "decoding", "ts": finish / 1e3} | shared
    yield {"ph": "e", "name": whole, "ts": finish / 1e3} | shared


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
