"""A run without its warm-up counts what arrived later, and says so."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, StepRecord, Totals


def run() -> RunResult:
    """Ten requests, one a second, each of 2 s: first token after 1 s, two tokens, one gap of 1 s."""
    return RunResult(
        engine="simulated",
        scenario_sha256="",
        duration_s=11.0,
        requests=[RequestRecord(i, "default", float(i), i + 1.0, i + 2.0, 100, 2) for i in range(10)],
        steps=[StepRecord(float(i), 1.0, 1, 0, 1, 0, 0, 1, 0) for i in range(11)],
        itl_s=np.arange(10) + 1.0,
        itl_request=np.arange(10),
        acceptance=AcceptanceCounts(),
        price_source="roofline",
    )


def test_trimmed_by_hand() -> None:
    whole, kept = run(), run().trimmed(3.0, 6.0)
    assert [r.request_id for r in kept.requests] == [3, 4, 5, 6]
    assert kept.duration_s == 5.0  # from 3 to 8, where request 6 ends
    assert [step.start_s for step in kept.steps] == [3.0, 4.0, 5.0, 6.0, 7.0]
    assert kept.itl_s.tolist() == [4.0, 5.0, 6.0, 7.0]
    summary = kept.summary()
    assert summary["output_throughput"] == 8 / 5.0
    assert summary["trimmed"] == {"from_s": 3.0, "to_s": 6.0, "dropped": 6}
    assert whole.summary()["trimmed"] is None


def test_gaps_of_unknown_requests_give_no_statistic() -> None:
    result = run()
    result.itl_request = None
    summary = result.trimmed(3.0).summary()
    assert summary["completed"] == 7
    assert summary["mean_itl_ms"] is None
    assert summary["mean_ttft_ms"] == 1000.0


def test_all_of_a_run_is_itself() -> None:
    assert run().trimmed(0.0).requests == run().requests


def test_nothing_left_is_refused() -> None:
    with pytest.raises(InvalidInput, match="arrivals run from 0 to 9 s"):
        run().trimmed(50.0)


def test_a_streamed_run_cannot_be_trimmed_afterwards() -> None:
    result = run()
    result.totals = Totals()
    with pytest.raises(InvalidInput, match="give its warm-up to the run itself"):
        result.trimmed(1.0)
