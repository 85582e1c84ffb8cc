"""Runs written and read back are the same runs."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.acceptance import read_acceptance
from specsim.results import (
    AcceptanceCounts,
    Goodput,
    KvTransfers,
    RequestRecord,
    RunResult,
    Slo,
    StepRecord,
    StepTotals,
    Totals,
    Trim,
)
from specsim.results.files import TableFormat, read_run, write_run, write_series
from specsim.results.series import series

TIMES = st.floats(0, 1e9)
COUNTS = st.integers(0, 2**40)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)


@st.composite
def runs(draw: st.DrawFn) -> RunResult:
    """Runs of a few arbitrary records."""
    requests = draw(
        st.lists(
            st.builds(
                RequestRecord,
                request_id=COUNTS,
                request_class=NAMES,
                arrival_s=TIMES,
                first_token_s=TIMES,
                finish_s=TIMES,
                prompt_tokens=st.integers(1, 10**6),
                output_tokens=st.integers(1, 10**6),
                rounds=COUNTS,
                drafted=COUNTS,
                accepted=COUNTS,
                preemptions=COUNTS,
                replica=st.integers(0, 9),
            ),
            max_size=5,
        )
    )
    steps = draw(
        st.lists(
            st.builds(
                StepRecord,
                start_s=TIMES,
                duration_s=TIMES,
                sequences=COUNTS,
                prefill_tokens=COUNTS,
                verify_tokens=COUNTS,
                draft_tokens=COUNTS,
                accepted=COUNTS,
                kv_blocks=COUNTS,
                waiting=COUNTS,
                lag_s=TIMES,
            ),
            max_size=5,
        )
    )
    acceptance = AcceptanceCounts()
    for drafted, accepted, count in draw(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 9)), max_size=5)
    ):
        acceptance.add(drafted, min(drafted, accepted), count)
    gaps = draw(st.lists(st.tuples(TIMES, COUNTS), max_size=5))
    return RunResult(
        engine=draw(st.sampled_from(("simulated", "reference"))),
        scenario_sha256=draw(st.text("0123456789abcdef")),
        duration_s=draw(TIMES),
        requests=requests,
        steps=steps,
        itl_s=np.array([gap for gap, _ in gaps]),
        acceptance=acceptance,
        price_source="roofline",
        versions={"specsim": "0"},
        saturated=draw(st.booleans()),
        truncated=draw(st.booleans()),
        interrupted=draw(st.booleans()),
        num_gpus=draw(st.integers(1, 64)),
        rejected=draw(COUNTS),
        kv_transfers=draw(st.none() | st.builds(KvTransfers, COUNTS, TIMES)),
        num_kv_blocks=draw(st.none() | COUNTS),
        itl_request=draw(st.sampled_from((None, np.array([number for _, number in gaps], dtype=np.int64)))),
        trim=draw(st.none() | st.builds(Trim, TIMES, TIMES, COUNTS)),
    )


def comparable(result: RunResult) -> dict[str, Any]:
    found = {one.name: getattr(result, one.name) for one in fields(result)}
    arrays = {name: None if found[name] is None else found[name].tolist() for name in ("itl_s", "itl_request")}
    return found | arrays


@pytest.mark.parametrize("tables", ["csv", "parquet"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=runs())
def test_round_trip_to_the_last_digit(tmp_path: Path, tables: TableFormat, result: RunResult) -> None:
    write_run(tmp_path, result, tables=tables)
    assert comparable(read_run(tmp_path)) == comparable(result)


def record(number: int, arrival: float, finish: float, output: int = 5) -> RequestRecord:
    return RequestRecord(number, "default", arrival, (arrival + finish) / 2, finish, 10, output)


def small_run(**changes: Any) -> RunResult:
    plain: dict[str, Any] = {
        "engine": "simulated",
        "scenario_sha256": "ab",
        "duration_s": 9.0,
        "requests": [record(0, 0.0, 3.0), record(1, 1.0, 5.0), record(2, 4.0, 9.0, output=1)],
        "steps": [StepRecord(float(i), 1.0, 2, 0, 6, 4, 1, 10 + i, i) for i in range(9)],
        "itl_s": np.array([0.5, 0.25, 1.0]),
        "acceptance": AcceptanceCounts(),
        "price_source": "roofline",
        "itl_request": np.array([0, 1, 1]),
    }
    return RunResult(**(plain | changes))


def test_the_summary_has_the_keys_of_vllm_bench_serve(tmp_path: Path) -> None:
    write_run(tmp_path, small_run(), slo=Slo(goodput=Goodput(e2e_s=4.0)), header={"model_id": "m"})
    summary = json.loads((tmp_path / "summary.json").read_text())
    expected = {
        "model_id",
        "duration",
        "completed",
        "failed",
        "total_input_tokens",
        "total_output_tokens",
        "request_throughput",
        "request_goodput",
        "output_throughput",
        "total_token_throughput",
    } | {
        f"{statistic}_{metric}_ms"
        for statistic in ("mean", "median", "std", "p50", "p90", "p99")
        for metric in ("ttft", "tpot", "itl", "e2el")
    }
    assert expected <= set(summary)
    assert summary["request_goodput"] == pytest.approx(2 / 9)  # E2E 3, 4 and 5 s


def test_acceptance_reads_back_as_a_benchmarks_would(tmp_path: Path) -> None:
    """By the project's own record, and by vLLM's keys alone as far as these go: rates by position and drafts."""
    acceptance = AcceptanceCounts()
    for drafted, accepted, count in ((0, 0, 7), (3, 3, 2), (3, 0, 5), (3, 1, 4)):
        acceptance.add(drafted, accepted, count)
    write_run(tmp_path, small_run(acceptance=acceptance))
    path = tmp_path / "summary.json"
    assert read_acceptance(path).counts == acceptance
    summary = json.loads(path.read_text())
    del summary["spec_decode_acceptance_counts"]
    path.write_text(json.dumps(summary))
    found = read_acceptance(path).counts
    assert found is not None
    assert found.as_table() == {"3": [5, 4, 0, 2]}


def test_a_streamed_run_keeps_its_sketches(tmp_path: Path) -> None:
    """Its summary agrees with the exact one within the sketch's error, and survives the folder."""
    slo = Slo(goodput=Goodput(e2e_s=4.0))
    exact = small_run().summary(slo)
    kept = small_run()
    totals, steps = Totals(3, 30, 11, 0, good=2), StepTotals.of(kept.steps, None)
    totals.ttft.add(np.array([r.ttft_s for r in kept.requests]))
    totals.tpot.add(np.array([r.tpot_s for r in kept.requests if r.tpot_s is not None]))
    totals.e2el.add(np.array([r.e2e_s for r in kept.requests]))
    totals.itl.add(kept.itl_s)
    streamed = small_run(requests=[], steps=[], itl_s=np.zeros(0), itl_request=None, totals=totals, step_totals=steps)
    write_run(tmp_path, streamed)
    found = read_run(tmp_path).summary()
    assert found == streamed.summary()
    for key, value in exact.items():
        assert found[key] == (pytest.approx(value, rel=0.005 + 1e-9) if isinstance(value, float) else value), key


def test_a_former_run_in_the_other_format_leaves_nothing_behind(tmp_path: Path) -> None:
    write_run(tmp_path, small_run(), tables="parquet")
    write_run(tmp_path, small_run(requests=[record(7, 0.0, 1.0)]), tables="csv")
    assert [one.request_id for one in read_run(tmp_path).requests] == [7]


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("summary.json", "{", "summary.json is not JSON"),
        ("summary.json", "{}", "no run of specsim"),
        ("summary.json", "[]", "holds a list, no JSON object"),
        ("requests.csv", "request_id\n1\n", "no column 'request_class'"),
        ("steps.csv", "start_s,duration_s\n1\n", "different widths"),
        ("itl.csv", "itl_s\nsoon\n", "could not convert"),
        ("requests.parquet", "not parquet", "not a readable Parquet file"),
    ],
)
def test_damaged_folders_are_told(tmp_path: Path, file: str, text: str, fault: str) -> None:
    write_run(tmp_path, small_run(), tables="csv")
    (tmp_path / file).write_text(text)
    with pytest.raises(InvalidInput, match=fault):
        read_run(tmp_path)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*summary\.json"):
        read_run(tmp_path)


def test_series_file_leaves_empty_what_has_no_value(tmp_path: Path) -> None:
    steps = [StepRecord(0.0, 1.0, 2, 0, 6, 4, 1, 10, 3), StepRecord(5.0, 1.0, 1, 7, 0, 0, 0, 4, 0)]
    write_series(tmp_path / "s.csv", series(steps, 2.0))
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["start_s"] for row in rows] == ["0.0", "2.0", "4.0"]
    assert [row["tokens_per_step"] for row in rows] == ["6.0", "", "7.0"]
    assert [row["accepted_per_round"] for row in rows] == ["0.5", "", ""]
    assert [float(row["waiting"]) for row in rows] == [1.5, 0.0, 0.0]


def test_a_run_that_was_not_written_to_its_end_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, small_run(), tables="csv")
    (tmp_path / "steps.csv").unlink()
    with pytest.raises(InvalidInput, match="half a run: its table 'steps' is missing"):
        read_run(tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(InvalidInput, match=r"there is no file .*summary\.json"):
        read_run(tmp_path)
