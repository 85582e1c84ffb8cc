"""Metric definitions, worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from specsim.results import AcceptanceCounts, Goodput, RequestRecord, RunResult, Slo, StepRecord, good_requests, meets


def record(
    number: int, *, arrival: float, first: float, finish: float, output: int, prompt: int = 10
) -> RequestRecord:
    return RequestRecord(number, "default", arrival, first, finish, prompt, output)


# E2E 3.0, TTFT 1.0, TPOT 2.0 / 4 = 0.5 | E2E 2.0 = TTFT, one token | E2E 1.0, TTFT 0.5, TPOT 0.5 / 2 = 0.25
THREE = [
    record(0, arrival=0.0, first=1.0, finish=3.0, output=5),
    record(1, arrival=1.0, first=3.0, finish=3.0, output=1),
    record(2, arrival=3.0, first=3.5, finish=4.0, output=3, prompt=20),
]


def result(requests: list[RequestRecord], **changes: object) -> RunResult:
    fields = {
        "engine": "simulated",
        "scenario_sha256": "",
        "duration_s": 4.0,
        "requests": requests,
        "steps": [],
        "itl_s": np.array([0.5, 1.0, 0.5, 0.5]),
        "acceptance": AcceptanceCounts(),
        "price_source": "roofline",
    }
    return RunResult(**(fields | changes))  # type: ignore[arg-type]


def limits(**seconds: float) -> Slo:
    """Limits of each request."""
    return Slo(goodput=Goodput(**seconds))


def test_request_times() -> None:
    assert [r.ttft_s for r in THREE] == [1.0, 2.0, 0.5]
    assert [r.e2e_s for r in THREE] == [3.0, 2.0, 1.0]
    assert [r.tpot_s for r in THREE] == [0.5, None, 0.25]


def test_summary_by_hand() -> None:
    summary = result(THREE, num_gpus=2).summary(limits(ttft_s=1.5))
    expected = {
        "duration": 4.0, "completed": 3, "total_input_tokens": 40, "total_output_tokens": 9,
        "request_throughput": 0.75, "output_throughput": 2.25, "output_throughput_per_gpu": 1.125,
        "total_token_throughput": 12.25, "request_goodput": 0.5, "goodput_share": 2 / 3,
        "mean_ttft_ms": 3500 / 3, "median_ttft_ms": 1000.0, "p50_e2el_ms": 2000.0, "mean_e2el_ms": 2000.0,
        "mean_tpot_ms": 375.0, "std_tpot_ms": 125.0, "p90_tpot_ms": 475.0, "mean_itl_ms": 625.0,
        "spec_decode_acceptance_length": None, "spec_decode_acceptance_rate": None, "spec_decode_num_drafts": 0,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == pytest.approx(expected)
    json.dumps(summary, allow_nan=False)


def test_mean_batch_counts_time_and_not_steps() -> None:
    """1 s alone and 3 s with five: (1 + 15) / 4."""
    steps = [StepRecord(0.0, 1.0, 1, 0, 1, 0, 0, 0, 0), StepRecord(2.0, 3.0, 5, 0, 5, 0, 0, 0, 0)]
    assert result(THREE, steps=steps).summary()["mean_batch"] == pytest.approx(4.0)
    assert result(THREE).summary()["mean_batch"] is None


def test_one_token_outputs_leave_tpot_without_a_statistic() -> None:
    summary = result([THREE[1]], itl_s=np.array([])).summary()
    assert summary["mean_tpot_ms"] is None
    assert summary["p99_itl_ms"] is None
    assert summary["mean_ttft_ms"] == 2000.0
    assert summary["request_goodput"] is None
    assert summary["spec_decode_per_position_acceptance_rates"] is None


def test_one_token_outputs_meet_any_tpot_limit() -> None:
    assert [meets(r, limits(tpot_s=0.3)) for r in THREE] == [False, True, True]
    assert [meets(r, limits(tpot_s=0.3, e2e_s=1.5)) for r in THREE] == [False, False, True]
    assert [meets(r, Slo()) for r in THREE] == [True, True, True]


def test_a_limit_is_met_when_it_is_equalled() -> None:
    assert good_requests(THREE, limits(ttft_s=1.0, tpot_s=0.5, e2e_s=3.0)) == 2


def test_acceptance_record_by_hand() -> None:
    counts = AcceptanceCounts()
    counts.add(0, 0, 7)  # plain rounds count nowhere
    counts.add(3, 3)
    counts.add(3, 0, 2)
    counts.add(2, 1)
    assert counts.drafting_rounds() == 4
    assert counts.drafted() == 11
    assert counts.accepted() == 4
    assert counts.acceptance_length() == 2.0
    assert counts.acceptance_rate() == pytest.approx(4 / 11)
    assert counts.per_position_rates() == [2 / 4, 1 / 4, 1 / 4]
    assert counts.as_table() == {"0": [7], "2": [0, 1, 0], "3": [2, 0, 0, 1]}


def test_acceptance_weights_by_rounds() -> None:
    """A request at AL 1.5 needs more rounds than one at AL 4: 120 tokens of each pool to 240/110 = 2.18, not 2.75."""
    counts = AcceptanceCounts()
    counts.add(4, 0, 40)
    counts.add(4, 1, 40)  # 80 rounds, 120 tokens
    counts.add(4, 3, 30)  # 30 rounds, 120 tokens
    assert counts.acceptance_length() == pytest.approx(240 / 110)
