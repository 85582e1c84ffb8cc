"""Alternatives side by side: replications with their intervals and paired differences, predictions with theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from specsim.results.intervals import Interval, metric_intervals, paired_differences
from specsim.serving.uncertainty import PredictedInterval

ROWS = (
    "completed", "failed", "duration", "request_throughput", "request_goodput", "output_throughput",
    "output_throughput_per_gpu", "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "median_tpot_ms",
    "p99_tpot_ms", "median_itl_ms", "p99_itl_ms", "mean_e2el_ms", "median_e2el_ms", "p99_e2el_ms",
    "spec_decode_acceptance_length", "spec_decode_acceptance_rate", "preemptions", "steps",
)  # fmt: skip

Summaries = Mapping[str, Sequence[Mapping[str, Any]]]  # of each alternative, replication by replication


def replications_json(summaries: Summaries, main: str) -> dict[str, Any]:
    """Intervals of each alternative's metrics, and of ``main`` minus each other one."""
    return {
        "intervals": {name: _as_json(metric_intervals(runs)) for name, runs in summaries.items()},
        "differences": {
            name: _as_json(paired_differences(summaries[main], runs))
            for name, runs in summaries.items()
            if name != main
        },
    }


def replications_table(summaries: Summaries, main: str) -> Table:
    """Mean ± half of the 95 % interval by metric; differences are ``main`` minus the other, under equal seeds."""
    count = len(summaries[main])
    table = Table(title=f"{count} replication{'s' if count > 1 else ''}, 95 % intervals (Student t)")
    table.add_column("metric", no_wrap=True)
    others = [name for name in summaries if name != main]
    for heading in (*summaries, *(f"{main} minus {name}" for name in others)):
        table.add_column(heading, justify="right", overflow="fold")
    columns = [metric_intervals(runs) for runs in summaries.values()]
    columns += [paired_differences(summaries[main], summaries[name]) for name in others]
    for row in ROWS:
        if any(row in column for column in columns):
            table.add_row(row, *(_shown(column.get(row)) for column in columns))
    for flag in ("saturated", "truncated"):
        found = [sum(bool(run[flag]) for run in runs) for runs in summaries.values()]
        if any(found):
            table.add_row(flag, *(f"{n} of {count}" for n in found), *("" for _ in others))
    return table


def predicted_json(metrics: Mapping[str, PredictedInterval]) -> dict[str, dict[str, float]]:
    """Value, low and high of each metric."""
    return {name: asdict(metric) for name, metric in metrics.items()}


def predicted_table(alternatives: Mapping[str, Mapping[str, PredictedInterval]]) -> Table:
    """Each alternative's metrics with what the errors of prices and the luck of acceptance leave open."""
    table = Table(title="90 % intervals: errors of prices, luck in acceptance")
    table.add_column("metric", no_wrap=True)
    for name in alternatives:
        table.add_column(name, justify="right", overflow="fold")
    for row in ROWS:
        if any(row in metrics for metrics in alternatives.values()):
            table.add_row(row, *(_ends(metrics.get(row)) for metrics in alternatives.values()))
    return table


def _ends(metric: PredictedInterval | None) -> str:
    if metric is None:
        return "-"
    if metric.low == metric.high:
        return f"{metric.value:,g}"
    return f"{metric.value:,.2f} ({metric.low:,.2f} to {metric.high:,.2f})"


def _as_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.as_json() for name, interval in intervals.items()}


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    if interval.high is None:
        return f"{interval.mean:,.2f}"
    return f"{interval.mean:,.2f} ± {interval.high - interval.mean:,.2f}"
