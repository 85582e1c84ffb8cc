"""Timelines obey the Trace Event Format: nested slices, matched async pairs, ordered counters, known phases."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.report.timeline import Event, events, write_timeline
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, StepRecord
from specsim.scenario import load_scenario
from specsim.serving.simulate import simulate

# Required by phase, as the Trace Event Format and Perfetto's page on JSON traces list them.
REQUIRED = {
    "M": {"name", "pid", "args"},
    "X": {"name", "pid", "tid", "ts", "dur"},
    "C": {"name", "pid", "ts", "args"},
    "b": {"name", "cat", "id", "pid", "tid", "ts"},
    "e": {"name", "cat", "id", "pid", "tid", "ts"},
}


def result_of(requests: list[RequestRecord], steps: list[StepRecord]) -> RunResult:
    return RunResult(
        engine="simulated",
        scenario_sha256="ab",
        duration_s=1.0,
        requests=requests,
        steps=steps,
        itl_s=np.zeros(0),
        acceptance=AcceptanceCounts(),
        price_source="roofline",
        versions={"specsim": "0"},
    )


def check(found: list[Event]) -> None:
    """The rules that a viewer relies on."""
    ends: dict[Any, float] = {}
    counted: dict[Any, float] = {}
    open_slices: dict[Any, list[tuple[str, float]]] = {}
    for event in found:
        assert REQUIRED[event["ph"]] <= set(event)
        assert event.get("ts", 0.0) >= 0
        if event["ph"] == "X":
            thread = event["pid"], event["tid"]
            assert event["ts"] >= ends.get(thread, 0.0)  # one after the other, so that they nest
            assert event["dur"] >= 0
            ends[thread] = round(event["ts"] + event["dur"], 3)
        elif event["ph"] == "C":
            counter = event["pid"], event["name"]
            assert event["ts"] >= counted.get(counter, 0.0)
            assert event["args"]["value"] >= 0
            counted[counter] = event["ts"]
        elif event["ph"] == "b":
            open_slices.setdefault(event["id"], []).append((event["name"], event["ts"]))
        elif event["ph"] == "e":
            name, start = open_slices[event["id"]].pop()
            assert name == event["name"]
            assert event["ts"] >= start
    assert not any(open_slices.values())


@settings(max_examples=200)
@given(
    durations=st.lists(st.floats(1e-8, 0.1), min_size=1, max_size=30),
    gaps=st.lists(st.sampled_from((0.0, -6e-10, 1e-9, 0.01)), min_size=30, max_size=30),
    replicas=st.lists(st.integers(0, 2), min_size=30, max_size=30),
)
def test_slices_nest_whatever_the_rounding(durations: list[float], gaps: list[float], replicas: list[int]) -> None:
    clocks, steps = [0.0, 0.0, 0.0], []
    for duration, gap, replica in zip(durations, gaps, replicas, strict=False):
        start = max(0.0, clocks[replica] + gap)  # clocks may disagree in the last digits
        steps.append(StepRecord(start, duration, 3, 0, 6, 3, 1, 9, 2, replica))
        clocks[replica] = start + duration
    found = list(events(result_of([], steps)))
    check(found)
    slices = [event for event in found if event["ph"] == "X"]
    assert len(slices) == len(steps)
    drawn = sum(event["dur"] for event in slices)
    assert drawn == pytest.approx(1e6 * sum(durations[: len(steps)]), abs=2e-3 * len(steps))


def test_a_simulated_run_draws_every_step_and_request(tmp_path: Path) -> None:
    result = simulate(assemble(load_scenario("cpu-144m", ["workload.requests=12", "deployment.replicas=2"])))
    path = tmp_path / "deep" / "run.json.gz"
    write_timeline(path, result)
    with gzip.open(path, "rt") as file:
        document = json.load(file)
    assert document["displayTimeUnit"] == "ms"
    assert document["otherData"]["scenario_sha256"] == result.scenario_sha256
    found = document["traceEvents"]
    check(found)
    assert sum(event["ph"] == "X" for event in found) == len(result.steps)
    whole = [event for event in found if event["ph"] == "b" and event["name"].startswith("request ")]
    assert {event["id"] for event in whole} == set(range(12))
    assert sum(event["args"]["accepted"] for event in whole) == sum(r.accepted for r in result.requests)
    names = {event["args"]["name"] for event in found if event["name"] == "process_name"}
    assert "replica 0" in names


def test_one_request_by_hand(tmp_path: Path) -> None:
    request = RequestRecord(4, "code", 0.001, 0.003, 0.007, 10, 5, 2, 6, 2, replica=1)
    steps = [StepRecord(0.001, 0.002, 1, 10, 0, 0, 0, 1, 0, 1), StepRecord(0.004, 0.003, 1, 0, 4, 3, 2, 1, 0, 1)]
    found = list(events(result_of([request], steps)))
    slices = [(e["name"], e["ts"], e["dur"], e["pid"]) for e in found if e["ph"] == "X"]
    assert slices == [("prefill", 1000.0, 2000.0, 2), ("verify", 4000.0, 3000.0, 2)]
    pairs = [(e["ph"], e["name"], e["ts"]) for e in found if e["ph"] in "be"]
    assert pairs == [
        ("b", "request 4", 1000.0),
        ("b", "to first token", 1000.0),
        ("e", "to first token", 3000.0),
        ("b", "decoding", 3000.0),
        ("e", "decoding", 7000.0),
        ("e", "request 4", 7000.0),
    ]
    running = [(e["ts"], e["args"]["value"]) for e in found if e["ph"] == "C" and e["name"] == "running"]
    assert running == [(1000.0, 1), (3000.0, 0), (4000.0, 1), (7000.0, 0)]
    write_timeline(tmp_path / "t.json", result_of([request], steps))
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"] == found


def test_refusals(tmp_path: Path) -> None:
    steps = [StepRecord(0.0, 1.0, 1, 1, 0, 0, 0, 1, 0)]
    with pytest.raises(InvalidInput, match=r"must end in \.json\.gz"):
        write_timeline(tmp_path / "t.txt", result_of([], steps))
    with pytest.raises(InvalidInput, match="kept no steps"):
        write_timeline(tmp_path / "t.json", result_of([], []))
