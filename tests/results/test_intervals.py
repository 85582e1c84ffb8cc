"""Intervals against tabulated values, and against how often they hold."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.results.intervals import metric_intervals, paired_differences, student_interval


def test_tabulated_values() -> None:
    """t at 97.5 %: 12.706 for 1 degree of freedom, 4.303 for 2, 2.262 for 9."""
    for values, t in (([0.0, 2.0], 12.706), ([1.0, 2.0, 3.0], 4.303), (list(range(10)), 2.262)):
        found = student_interval(values)
        assert found.high is not None
        half = t * np.std(values, ddof=1) / len(values) ** 0.5
        assert found.high - found.mean == pytest.approx(half, rel=2e-4)
        assert found.low == pytest.approx(2 * found.mean - found.high)


def test_one_value_has_no_limits() -> None:
    assert student_interval([4.0]).as_json() == {"mean": 4.0, "low": None, "high": None, "count": 1}


def test_coverage_is_what_it_says() -> None:
    generator, trials = np.random.default_rng(1), 4000
    hits = 0
    for sample in generator.normal(3.0, 2.0, (trials, 5)):
        found = student_interval(sample)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert abs(hits / trials - 0.95) < 4 * (0.05 * 0.95 / trials) ** 0.5


def test_only_numbers_that_all_have_get_an_interval() -> None:
    runs = [
        {"a": 1, "b": None, "c": "x", "d": True, "e": float("nan"), "num_gpus": 4},
        {"a": 3.0, "b": 2.0, "c": "y", "d": False, "e": 1.0, "num_gpus": 4},
    ]
    found = metric_intervals(runs)
    assert set(found) == {"a"}
    assert found["a"].mean == 2.0


def test_pairs_cancel_the_luck_they_share() -> None:
    """Alternatives that differ by 0.5 under luck of standard deviation 10 that both feel."""
    luck = np.random.default_rng(2).normal(0.0, 10.0, 20)
    base = [{"x": value} for value in luck]
    other = [{"x": value + 0.5} for value in luck]
    difference = paired_differences(other, base)["x"]
    assert difference.mean == pytest.approx(0.5)
    assert difference.high == pytest.approx(0.5)
    assert student_interval(luck).high is not None
    assert student_interval([1.0, 2.0]).count == 2


def test_a_metric_that_one_side_lacks_has_no_difference() -> None:
    assert set(paired_differences([{"x": 1.0, "y": 2.0}], [{"x": 0.0, "y": None}])) == {"x"}


def test_unequal_numbers_of_replications_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        paired_differences([{"x": 1.0}], [{"x": 1.0}, {"x": 2.0}])
