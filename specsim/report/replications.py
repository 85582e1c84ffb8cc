"""Alternatives side by side: replications with their intervals and paired differences, predictions with theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from specsim.report.served import ALWAYS, FIGURES, number
from specsim.results.intervals import Interval, metric_intervals, paired_differences
from specsim.serving.uncertainty import PredictedInterval

Summaries = Mapping[str, Sequence[Mapping[str, Any]]]  # of each alternative, replication by replication
Pairs = Sequence[tuple[str, str]]  # (what is compared, to what): differences are the first minus the second


def replications_json(summaries: Summaries, pairs: Pairs) -> dict[str, Any]:
    """Intervals of each alternative's metrics, and of the first minus the second of each pair."""
    return {
        "intervals": {name: _as_json(metric_intervals(runs)) for name, runs in summaries.items()},
        "differences": {
            f"{one} minus {other}": _as_json(paired_differences(summaries[one], summaries[other]))
            for one, other in pairs
        },
    }


def replications_table(summaries: Summaries, pairs: Pairs, first_seed: int = 0) -> Table:
    """Mean ± half of the 95 % interval by metric; differences are under equal seeds, the first minus the second."""
    runs = list(summaries.values())
    count = len(runs[0])
    seeds = f"seeds {first_seed} to {first_seed + count - 1}" if count > 1 else f"seed {first_seed}"
    what = "the mean of its runs ± half of its 95 % interval (Student t)" if count > 1 else "one run"
    table = Table(
        title=f"Each alternative simulated {count} time{'s' if count > 1 else ''}, with {seeds}: {what}",
        caption="A minus B: above 0 where A's figure is larger; both met the same requests" if pairs else None,
        title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", no_wrap=True)
    for heading in (*summaries, *(f"{one} minus {other}" for one, other in pairs)):
        table.add_column(heading, justify="right", overflow="fold")
    columns = [metric_intervals(one) for one in runs]
    columns += [paired_differences(summaries[one], summaries[other]) for one, other in pairs]
    for figure in FIGURES:
        found = [column.get(figure.key) for column in columns]
        if any(interval is not None and (figure.key in ALWAYS or interval.mean) for interval in found):
            table.add_row(figure.label, *(_shown(interval, figure.scale) for interval in found))
    for flag, label in (("saturated", "queue kept growing"), ("truncated", "cut short")):
        flags = [sum(bool(run[flag]) for run in one) for one in runs]
        if any(flags):
            table.add_row(label, *(f"{n} of {count}" for n in flags), *("" for _ in pairs))
    return table


def predicted_json(metrics: Mapping[str, PredictedInterval]) -> dict[str, dict[str, float]]:
    """Value, low and high of each metric."""
    return {name: asdict(metric) for name, metric in metrics.items()}


def predicted_table(alternatives: Mapping[str, Mapping[str, PredictedInterval]]) -> Table:
    """Each alternative's metrics with what the errors of prices and the luck of acceptance leave open."""
    table = Table(title="90 % intervals: errors of prices, luck in acceptance", title_justify="left")
    table.add_column("metric", no_wrap=True)
    for name in alternatives:
        table.add_column(name, justify="right", overflow="fold")
    for figure in FIGURES:
        found = [metrics.get(figure.key) for metrics in alternatives.values()]
        if any(metric is not None for metric in found):
            table.add_row(figure.label, *(_ends(metric, figure.scale) for metric in found))
    return table


def _ends(metric: PredictedInterval | None, scale: float) -> str:
    if metric is None:
        return "-"
    value = number(metric.value, scale)
    if metric.low == metric.high:
        return value
    return f"{value} ({number(metric.low, scale)} to {number(metric.high, scale)})"


def _as_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.as_json() for name, interval in intervals.items()}


def _shown(interval: Interval | None, scale: float) -> str:
    if interval is None:
        return "-"
    if interval.high is None:
        return number(float(interval.mean), scale)
    return f"{number(float(interval.mean), scale)} ± {number(interval.high - interval.mean, scale)}"
