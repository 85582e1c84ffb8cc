"""Arrival processes against their laws. Tolerances are five standard errors of the statistic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.workload.arrivals import (
    ClosedLoopArrivals,
    DiurnalArrivals,
    GammaArrivals,
    OpenArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
)

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


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), rate=st.floats(1e-3, 1e3), cv=st.floats(0.2, 4.0))
def test_times_ascend_and_scale_with_the_rate(seed: int, rate: float, cv: float) -> None:
    times = GammaArrivals(rate_per_s=rate, cv=cv).times_s(50, np.random.default_rng(seed))
    faster = GammaArrivals(rate_per_s=2 * rate, cv=cv).times_s(50, np.random.default_rng(seed))
    assert times.shape == (50,)
    assert times[0] >= 0
    assert np.all(np.diff(times) >= 0)
    np.testing.assert_allclose(faster, times / 2, rtol=1e-9)


OPEN = (
    PoissonArrivals(rate_per_s=7.0),
    GammaArrivals(rate_per_s=7.0, cv=2.0),
    PiecewiseArrivals(pieces=((10.0, 5.0), (5.0, 0.0), (20.0, 1.0)), cv=0.5),
    DiurnalArrivals(rate_per_s=7.0, amplitude=0.8, period_s=60.0, peak_s=20.0),
    DiurnalArrivals(rate_per_s=7.0, factors=(0.0, 1.0, 3.0), period_s=60.0, cv=1.5),
)


@pytest.mark.parametrize("law", OPEN, ids=lambda law: law.kind)
@pytest.mark.parametrize("size", [1, 7, 400])
def test_times_do_not_depend_on_the_size_of_the_blocks(law: OpenArrivals, size: int) -> None:
    blocks = law.blocks_s(size, np.random.default_rng(8))
    found = np.concatenate([next(blocks) for _ in range(-(-400 // size))])[:400]
    assert found.tolist() == law.times_s(400, np.random.default_rng(8)).tolist()
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("law", OPEN, ids=lambda law: law.kind)
def test_long_run_rate(law: OpenArrivals) -> None:
    """A count over T has the standard deviation cv·√(rate·T) (renewal theory), and one cycle may be unfinished."""
    times = law.times_s(COUNT, np.random.default_rng(9))
    cv = getattr(law, "cv", 1.0)
    assert abs(law.mean_rate_per_s() * times[-1] - COUNT) < 5 * cv * COUNT**0.5 + 60 * law.mean_rate_per_s()


def test_sinusoid_counts_follow_the_integral_of_the_rate() -> None:
    law = DiurnalArrivals(rate_per_s=10.0, amplitude=0.6, period_s=100.0, peak_s=30.0)
    times = law.times_s(COUNT, np.random.default_rng(10))
    cycles = np.floor(times[-1] / 100.0)
    edges = np.linspace(0.0, 100.0, 11)
    counts = np.histogram(times[times < 100.0 * cycles] % 100.0, bins=edges)[0]
    turn = 2 * np.pi / 100.0
    expected = 10.0 * cycles * (10.0 + 0.6 / turn * np.diff(np.sin(turn * (edges - 30.0))))
    assert np.all(np.abs(counts - expected) < 5 * expected**0.5)
    assert np.argmax(counts) in (2, 3)  # the bins on either side of the peak at 30 s


@pytest.mark.parametrize("amplitude", [0.3, 1.0])
def test_sinusoid_inverts_its_own_cumulative_rate(amplitude: float) -> None:
    """Time-changed back, the arrivals are the unit-rate ones that a Poisson process of the same seed has."""
    law = DiurnalArrivals(rate_per_s=2.0, amplitude=amplitude, period_s=50.0, peak_s=11.0)
    t = law.times_s(5000, np.random.default_rng(11))
    turn = 2 * np.pi / 50.0
    reached = 2.0 * (t + amplitude / turn * (np.sin(turn * (t - 11.0)) + np.sin(turn * 11.0)))
    unit = PoissonArrivals(rate_per_s=1.0).times_s(5000, np.random.default_rng(11))
    np.testing.assert_allclose(reached, unit, rtol=1e-9, atol=1e-9)


def test_hourly_factors_are_pieces_of_the_day() -> None:
    factors = tuple(float(1 + hour % 5) for hour in range(24))
    hourly = DiurnalArrivals(rate_per_s=3.0, factors=factors)
    pieces = tuple((3600.0, 3.0 * factor * 24 / sum(factors)) for factor in factors)
    same = PiecewiseArrivals(pieces=pieces).times_s(10_000, np.random.default_rng(12))
    np.testing.assert_allclose(hourly.times_s(10_000, np.random.default_rng(12)), same, rtol=1e-9)


def test_bursty_pieces_have_gamma_gaps_in_unit_time() -> None:
    law = PiecewiseArrivals(pieces=((5.0, 4.0), (5.0, 12.0)), cv=2.0)
    times = law.times_s(COUNT, np.random.default_rng(13))
    cycle, inside = np.divmod(times, 10.0)
    unit = 80.0 * cycle + np.where(inside < 5.0, 4.0 * inside, 20.0 + 12.0 * (inside - 5.0))
    gaps = np.diff(unit)
    assert abs(gaps.mean() - 1) < 5 * 2.0 / COUNT**0.5
    assert gaps.std() == pytest.approx(2.0, rel=5 * 26**0.5 / 2 / COUNT**0.5)  # var(s²) ≈ σ⁴(2 + 6 cv²)/n


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"rate_per_s": 1.0}, "amplitude or factors"),
        ({"rate_per_s": 1.0, "amplitude": 0.5, "factors": (1.0,)}, "amplitude or factors"),
        ({"rate_per_s": 1.0, "factors": (0.0, 0.0)}, "at least one must be positive"),
        ({"rate_per_s": 1.0, "factors": (1.0, 2.0), "peak_s": 5.0}, "peak_s goes with amplitude"),
        ({"rate_per_s": 1.0, "amplitude": 1.5}, "less than or equal to 1"),
        ({"rate_per_s": float("inf"), "amplitude": 0.5}, "rate_per_s"),
        ({"rate_per_s": float("nan"), "amplitude": 0.5}, "rate_per_s"),
    ],
)
def test_diurnal_refusals(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        DiurnalArrivals(**fields)


def test_think_times() -> None:
    fixed = ClosedLoopArrivals(concurrency=4, think_s=1.5)
    assert fixed.think_times_s(3, np.random.default_rng(0)).tolist() == [1.5] * 3
    drawn = ClosedLoopArrivals(concurrency=4, think_s=1.5, think="exponential").think_times_s(
        COUNT, np.random.default_rng(14)
    )
    assert abs(drawn.mean() / 1.5 - 1) < 5 / COUNT**0.5
    assert abs((drawn > 3.0).mean() - np.exp(-2)) < 5 * (np.exp(-2) / COUNT) ** 0.5


def test_faster_multiplies_the_rate_of_every_moment() -> None:
    """Arrival i comes where the integral of f times the rate reaches its unit time, and periods keep their length."""
    factor, count = 3.7, 500

    def of_pieces(times: np.ndarray) -> np.ndarray:  # 5 s at 2 /s, 3 s at 0.5 /s
        cycles, rest = np.divmod(times, 8.0)
        return 11.5 * cycles + 2 * np.minimum(rest, 5) + 0.5 * np.maximum(rest - 5, 0)

    def of_wave(times: np.ndarray) -> np.ndarray:  # 2 /s (1 + 0.5 cos(2 pi t / 10))
        return 2 * (times + 0.5 * 10 / (2 * np.pi) * np.sin(2 * np.pi * times / 10))

    laws: list[tuple[OpenArrivals, Any]] = [
        (PoissonArrivals(rate_per_s=2), lambda times: 2 * times),
        (GammaArrivals(rate_per_s=2, cv=2), lambda times: 2 * times),
        (PiecewiseArrivals(cv=2, pieces=((5, 2), (3, 0.5))), of_pieces),
        (DiurnalArrivals(rate_per_s=2, period_s=10, amplitude=0.5), of_wave),
    ]
    for law, integral in laws:
        slow, fast = (one.times_s(count, np.random.default_rng(5)) for one in (law, law.faster(factor)))
        np.testing.assert_allclose(factor * integral(fast), integral(slow), rtol=1e-9)
        assert law.faster(factor).mean_rate_per_s() == pytest.approx(factor * law.mean_rate_per_s())
