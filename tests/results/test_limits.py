"""What requests waited for, and how full the cache was, by hand."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from specsim.results import StepLimits, StepRecord, StepTotals

LIMITS = StepLimits(max_num_seqs=8, max_num_batched_tokens=100, num_kv_blocks=50, prompt_blocks=10)
# Each 1, 2, 3, ... seconds long: all runs; seats full; tokens full; cache full; came too late for the step.
STEPS = [
    StepRecord(0.0, 1.0, 8, 100, 0, 0, 0, 50, 0),
    StepRecord(1.0, 2.0, 8, 0, 8, 0, 0, 45, 3),
    StepRecord(3.0, 3.0, 4, 96, 3, 0, 0, 20, 1),
    StepRecord(6.0, 4.0, 4, 0, 4, 0, 0, 41, 1),
    StepRecord(10.0, 5.0, 4, 0, 4, 0, 0, 20, 1),
]


def test_each_step_with_requests_waiting_is_full_of_one_thing() -> None:
    totals = StepTotals.of(STEPS, LIMITS)
    assert totals.waited_s == {"max_num_seqs": 2.0, "max_num_batched_tokens": 3.0, "kv_cache": 4.0}
    summary = totals.as_summary(LIMITS)
    assert summary["steps"] == 5
    assert summary["mean_batch"] == pytest.approx((8 + 16 + 12 + 16 + 20) / 15)
    assert summary["mean_kv_cache_usage"] == pytest.approx((50 + 90 + 60 + 164 + 100) / 15 / 50)
    assert summary["peak_kv_cache_usage"] == 1.0
    assert summary["waited_for"]["kv_cache"] == pytest.approx(4 / 15)


def test_parts_add_up_to_the_whole() -> None:
    whole, parts = StepTotals.of(STEPS, LIMITS), StepTotals()
    for step in STEPS:
        record = np.zeros(1, [(name, type(value)) for name, value in asdict(step).items()])
        for name, value in asdict(step).items():
            record[name] = value
        parts.add(record, LIMITS)
    assert parts == whole


def test_without_limits_only_the_batch_is_known() -> None:
    summary = StepTotals.of(STEPS, None).as_summary(None)
    assert summary["mean_batch"] is not None
    assert (summary["waited_for"], summary["mean_kv_cache_usage"]) == (None, None)
    assert StepTotals().as_summary(LIMITS)["mean_batch"] is None
