"""Arrival processes against their laws. Tolerances are five standard errors of the statistic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.workload.arrivals import GammaArrivals, PiecewiseArrivals, PoissonArrivals

COUNT = 200_000


@pytest.mark.parametrize("rate", [0.2, 40.0])
def test_poisson_gaps_are_exponential(rate: float) -> None:
    times = PoissonArrivals(rate_per_s=rate).times_s(COUNT, np.random.default_rng(3))
    gaps = np.diff(times) * rate
    assert abs(gaps.mean() - 1) < 5 / COUNT**0.5
    assert abs((gaps > 2).mean() - np.exp(-2)) < 5 * (np.exp(-2) / COUNT) ** 0.5
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 5 / COUNT**0.5


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
def test_gamma_mean_and_cv(cv: float) -> None:
    times = GammaArrivals(rate_per_s=8.0, cv=cv).times_s(COUNT, np.random.default_rng(4))
    gaps = np.diff(times, prepend=0.0)
    assert abs(gaps.mean() * 8.0 - 1) < 5 * cv / COUNT**0.5
    # Gamma: excess kurtosis is 6 cv², so var(s²) ≈ σ⁴(2 + 6 cv²)/n.
    error = (2 + 6 * cv**2) ** 0.5 / COUNT**0.5
    assert abs((gaps.std() * 8.0 / cv) ** 2 - 1) < 5 * error


def test_gamma_of_cv_one_is_poisson_in_law() -> None:
    gaps = np.diff(GammaArrivals(rate_per_s=1.0, cv=1.0).times_s(COUNT, np.random.default_rng(5)), prepend=0.0)
    for limit in (0.1, 1.0, 3.0):
        share = np.exp(-limit)
        assert abs((gaps > limit).mean() - share) < 5 * (share * (1 - share) / COUNT) ** 0.5


def test_piecewise_counts_follow_the_rates_and_start_over() -> None:
    pieces = ((10.0, 5.0), (5.0, 0.0), (20.0, 1.0))  # 50 + 0 + 20 expected in a cycle of 35 s
    times = PiecewiseArrivals(pieces=pieces).times_s(70 * 1000, np.random.default_rng(6))
    cycles = np.floor(times[-1] / 35.0)
    assert abs(cycles - 1000) < 5 * (70_000**0.5) / 70 + 1
    within = times[times < cycles * 35.0] % 35.0
    counts = np.histogram(within, bins=[0.0, 10.0, 15.0, 35.0])[0] / cycles
    assert counts[1] == 0
    assert abs(counts[0] - 50) < 5 * (50 / cycles) ** 0.5
    assert abs(counts[2] - 20) < 5 * (20 / cycles) ** 0.5


def test_piecewise_of_one_piece_is_poisson_to_the_digit() -> None:
    one = PiecewiseArrivals(pieces=((7.0, 3.0),)).times_s(1000, np.random.default_rng(7))
    plain = PoissonArrivals(rate_per_s=3.0).times_s(1000, np.random.default_rng(7))
    np.testing.assert_allclose(one, plain, rtol=1e-12)


def test_piecewise_refuses_a_cycle_without_arrivals() -> None:
    with pytest.raises(ValidationError, match="at least one must be positive"):
        PiecewiseArrivals(pieces=((1.0, 0.0), (2.0, 0.0)))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), rate=st.floats(1e-3, 1e3), cv=st.floats(0.2, 4.0))
def test_times_ascend_and_scale_with_the_rate(seed: int, rate: float, cv: float) -> None:
    times = GammaArrivals(rate_per_s=rate, cv=cv).times_s(50, np.random.default_rng(seed))
    faster = GammaArrivals(rate_per_s=2 * rate, cv=cv).times_s(50, np.random.default_rng(seed))
    assert times.shape == (50,)
    assert times[0] >= 0
    assert np.all(np.diff(times) >= 0)
    np.testing.assert_allclose(faster, times / 2, rtol=1e-9)
