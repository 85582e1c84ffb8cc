"""Intervals of error figures: closed forms, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.fidelity.bootstrap import (
    difference_range,
    error_range,
    mean_absolute,
    noise,
    percentile_absolute,
    spread,
)


def test_noise_and_spread_by_hand() -> None:
    """0.9, 1.0, 1.1: s = 0.1, t_2 = 2.920 at 95 %, so 2.920 * 0.1 / sqrt(3) = 16.86 %."""
    repeats = np.array([0.9, 1.1, 1.0])
    assert noise(repeats) == pytest.approx(2.91999 * 0.1 / 3**0.5, rel=1e-4)
    assert spread(repeats) == pytest.approx(0.2)
    assert noise(repeats[:1]) is None
    assert spread(repeats[:1]) is None


def test_noise_falls_with_repeats_and_spread_does_not() -> None:
    few, many = np.array([0.9, 1.0, 1.1]), np.tile([0.9, 1.0, 1.1], 20)
    assert (noise(many) or 1.0) < (noise(few) or 0.0) / 5
    assert spread(many) == spread(few)


def test_equal_errors_have_an_interval_of_no_width() -> None:
    """Every row 10 % too high in every repeat: whatever is drawn, |error| is 10 %."""
    predicted = np.array([1.1, 2.2, 3.3])
    measured = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    for statistic in (mean_absolute, percentile_absolute(95)):
        found = error_range(predicted, measured, statistic)
        assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_a_missing_repeat_is_no_zero() -> None:
    measured = np.array([[1.0, np.nan], [1.0, 1.0], [np.nan, 1.0]])
    found = error_range(np.full(3, 1.2), measured)
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))


def test_repeats_that_differ_for_all_rows_alike_widen_the_interval() -> None:
    """Machine-wide drift between two repeats, no difference between rows: the interval is the drift."""
    steady = np.ones((40, 2))
    drifting = steady * np.array([1.0, 1.1])
    assert error_range(np.full(40, 1.2), steady).high == pytest.approx(0.2)
    found = error_range(np.full(40, 1.2), drifting)
    assert found.low == pytest.approx(1.2 / 1.1 - 1)
    assert found.high == pytest.approx(0.2)


def test_the_interval_holds_the_true_mean_about_nine_times_in_ten() -> None:
    """|error| uniform in [0, 20 %] has the mean 10 %: 100 cases of 40 rows, one repeat. 3 sigma of 90 is 9."""
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(100):
        measured = 1.0 / (1.0 + generator.uniform(0.0, 0.2, (40, 1)))
        found = error_range(np.ones(40), measured)
        held += found.low <= 0.1 <= found.high
    assert 80 <= held <= 98


def test_a_difference_is_drawn_row_by_row() -> None:
    """Rows differ widely, the two laws by 1 point in each: the interval is exactly that point."""
    one = np.array([0.01, 0.1, 0.5, -0.3])
    found = difference_range(one + 0.01 * np.sign(one), one)
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))
