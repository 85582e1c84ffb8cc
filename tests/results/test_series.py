"""Time averages against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.results import StepRecord
from specsim.results.series import series


@st.composite
def replicas(draw: st.DrawFn) -> list[StepRecord]:
    """Up to three replicas' steps, which do not overlap within a replica."""
    steps = []
    for replica in range(draw(st.integers(1, 3))):
        now = 0.0
        for gap, duration, values in draw(
            st.lists(
                st.tuples(st.sampled_from((0.0, 0.5)), st.floats(0.01, 2.0), st.tuples(*[st.integers(0, 9)] * 4)),
                max_size=8,
            )
        ):
            sequences, prefill, drafts, waiting = values
            accepted = min(drafts, 2)
            steps.append(
                StepRecord(
                    now + gap,
                    duration,
                    sequences,
                    prefill,
                    sequences + drafts,
                    drafts,
                    accepted,
                    3 * sequences,
                    waiting,
                    replica,
                )
            )
            now += gap + duration
    return steps


def overlap(step: StepRecord, low: float, high: float) -> float:
    return max(0.0, min(high, step.start_s + step.duration_s) - max(low, step.start_s))


@settings(max_examples=200)
@given(steps=replicas(), interval=st.floats(0.1, 5.0))
def test_averages_are_sums_over_overlaps(steps: list[StepRecord], interval: float) -> None:
    found = series(steps, interval)
    for index, low in enumerate(found.start_s.tolist()):
        high = low + interval
        for name, attribute in (("running", "sequences"), ("waiting", "waiting"), ("kv_blocks", "kv_blocks")):
            expected = sum(getattr(s, attribute) * overlap(s, low, high) for s in steps) / interval
            assert getattr(found, name)[index] == pytest.approx(expected, abs=1e-9)
    assert found.steps.sum() == len(steps)
    total = np.nansum(found.tokens_per_step * found.steps)
    assert total == pytest.approx(sum(s.prefill_tokens + s.verify_tokens for s in steps))


def test_accepted_per_round_by_hand() -> None:
    """Two steps of 3 and 2 verifications that accept 4 and 1: (4 + 1) / (3 + 2)."""
    steps = [StepRecord(0.0, 1.0, 3, 0, 9, 6, 4, 1, 0), StepRecord(1.0, 1.0, 3, 50, 6, 4, 1, 1, 0)]
    assert series(steps, 2.0).accepted_per_round.tolist() == [1.0]
    assert series(steps, 2.0).tokens_per_step.tolist() == [32.5]


def test_a_run_without_steps_is_one_empty_interval() -> None:
    found = series([], 1.0)
    assert found.running.tolist() == [0.0]
    assert np.isnan(found.tokens_per_step).all()


@pytest.mark.parametrize("interval", [0.0, -1.0, 1e-9])
def test_absurd_intervals_are_refused(interval: float) -> None:
    with pytest.raises(InvalidInput, match="choose 1 to 1,000,000"):
        series([StepRecord(0.0, 10.0, 1, 0, 1, 0, 0, 1, 0)], interval)
