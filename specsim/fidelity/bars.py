"""The accuracy this project aims at, as data: what is judged, by which statistic, and where the bar is.

They hold for the price source ``kernels`` (no whole pass of the tested model was profiled). ``worst`` means that every
row has to be inside: a load that misses cannot hide behind the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BarStatistic = Literal["mean", "p95", "worst"]

ROUND_TIME, REGRET = "round_s", "regret"


@dataclass(frozen=True, slots=True)
class Bar:
    """|error| of ``metric`` by ``statistic`` is to be at most ``limit``; ``from_load``: of loads above that share of
    saturation."""

    metric: str
    statistic: BarStatistic
    limit: float
    from_load: float = 0.0

    def judge(self, value: float) -> str:
        """``bar 6%: met`` or ``bar 6%: missed``."""
        return f"bar {self.limit:.0%}: {met(value <= self.limit)}"


# Imposed acceptance: the cost model's error alone.
MAP = (Bar(ROUND_TIME, "mean", 0.06), Bar(ROUND_TIME, "p95", 0.15), Bar(REGRET, "worst", 0.02))
SERVED = (
    Bar("output_throughput", "worst", 0.05),
    Bar("median_tpot_ms", "worst", 0.08),
    Bar("median_ttft_ms", "worst", 0.10),
    Bar("median_ttft_ms", "worst", 0.25, from_load=0.7),
    Bar("p99_tpot_ms", "worst", 0.25),
    Bar("p99_ttft_ms", "worst", 0.25),
)
# A real engine's map, as ratios to its own plain rounds; by price source.
SPEEDUP = "speedup"
MAP_REAL = {
    "steps": (Bar(SPEEDUP, "mean", 0.05), Bar(SPEEDUP, "worst", 0.12), Bar(REGRET, "worst", 0.02)),
    "kernels": (Bar(SPEEDUP, "mean", 0.08), Bar(SPEEDUP, "worst", 0.20), Bar(REGRET, "worst", 0.02)),
}
# Served by a real engine, as ratios to its plain run in the same repeat.
SERVED_RATIO = (Bar("output_throughput", "worst", 0.05), Bar("median_tpot_ms", "worst", 0.08))
# Real acceptance: the cost model's error and the acceptance law's together.
SERVED_REAL = (
    Bar("output_throughput", "worst", 0.08),
    Bar("median_tpot_ms", "worst", 0.10),
    Bar("p99_tpot_ms", "worst", 0.20),
)
COVERAGE = (0.85, 0.95)  # of nominal 90 % intervals, over all rows


def served_bars(*, real_acceptance: bool) -> tuple[Bar, ...]:
    """The bars of a served case."""
    return SERVED_REAL if real_acceptance else SERVED


def bar_of(bars: tuple[Bar, ...], metric: str, load: float = 0.0, statistic: BarStatistic = "worst") -> Bar | None:
    """The bar that a row of ``metric`` under ``load`` (share of saturation) is held to; None if there is none."""
    fitting = [bar for bar in bars if (bar.metric, bar.statistic) == (metric, statistic) and load >= bar.from_load]
    return max(fitting, key=lambda bar: bar.from_load, default=None)


def judge_coverage(share: float) -> str:
    """``bar 85 to 95%: met`` or missed."""
    low, high = COVERAGE
    return f"bar {low:.0%} to {high:.0%}: {met(low <= share <= high)}".replace("% to", " to", 1)


def met(within: bool) -> str:
    return "met" if within else "missed"
