"""Bars as data."""

from __future__ import annotations

from specsim.fidelity.bars import MAP, REGRET, ROUND_TIME, bar_of, judge_coverage, served_bars


def limit(metric: str, load: float, *, real: bool = False) -> float | None:
    bar = bar_of(served_bars(real_acceptance=real), metric, load)
    return None if bar is None else bar.limit


def test_the_bar_of_first_tokens_is_wider_at_the_highest_load() -> None:
    assert [limit("median_ttft_ms", load) for load in (0.3, 0.6, 0.8)] == [0.10, 0.10, 0.25]
    assert [limit("p99_ttft_ms", load) for load in (0.3, 0.6, 0.8)] == [0.25] * 3


def test_real_acceptance_has_bars_of_its_own_and_none_for_first_tokens() -> None:
    metrics = ("output_throughput", "median_tpot_ms", "p99_tpot_ms", "median_ttft_ms")
    assert [limit(metric, 0.6) for metric in metrics] == [0.05, 0.08, 0.25, 0.10]
    assert [limit(metric, 0.6, real=True) for metric in metrics] == [0.08, 0.10, 0.20, None]


def test_a_value_at_the_bar_meets_it() -> None:
    bar = bar_of(MAP, ROUND_TIME, statistic="mean")
    assert bar is not None
    assert bar.judge(0.06) == "bar 6%: met"
    assert bar.judge(0.0601) == "bar 6%: missed"
    assert bar_of(MAP, REGRET) is not None
    assert bar_of(MAP, ROUND_TIME, statistic="worst") is None


def test_coverage_can_be_too_high_too() -> None:
    assert judge_coverage(0.9) == "bar 85 to 95%: met"
    assert judge_coverage(0.84).endswith("missed")
    assert judge_coverage(0.97).endswith("missed")
