"""Alternatives side by side: replications with their intervals and paired differences, predictions with theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from specsim.report.served import ALWAYS, FIGURES, number, short_name
from specsim.results.intervals import Interval, metric_intervals, paired_differences
from specsim.serving.uncertainty import PredictedInterval

ReplicatedSummaries = Mapping[str, Sequence[Mapping[str, Any]]]  # of each alternative, replication by replication
Pairs = Sequence[tuple[str, str]]  # (what is compared, to what): differences are the first minus the second


def replications_json(summaries: ReplicatedSummaries, pairs: Pairs) -> dict[str, Any]:
    """Intervals of each alternative's metrics, and of the first minus the second of each pair."""
    return {
        "intervals": {name: _as_json(metric_intervals(runs)) for name, runs in summaries.items()},
        "differences": {
            f"{one} minus {other}": _as_json(paired_differences(summaries[one], summaries[other]))
            for one, other in pairs
        },
    }


def replications_tables(summaries: ReplicatedSummaries, pairs: Pairs, first_seed: int = 0) -> list[Table]:
    """Mean ± half of the 95 % interval by metric, and differences under equal seeds, the first minus the second.

    Of two alternatives in one table, of more in two.
    """
    runs = list(summaries.values())
    count = len(runs[0])
    seeds = f"seeds {first_seed} to {first_seed + count - 1}" if count > 1 else f"seed {first_seed}"
    what = "mean of the runs ± half of its 95 % interval" if count > 1 else "one run"
    title = f"each simulated {count} time{'s' if count > 1 else ''}, {seeds}: {what}"
    own = {short_name(name): metric_intervals(one) for name, one in summaries.items()}
    apart = {
        f"{short_name(one)}\nminus {short_name(other)}": paired_differences(summaries[one], summaries[other])
        for one, other in pairs
    }
    flags = _flags(runs)
    if len(summaries) <= 2:
        return [_intervals_table(title, own | apart, flags)]
    tables = [_intervals_table(title, own, flags)]
    if apart:
        tables.append(_intervals_table("differences, under the same requests", apart, {}))
    return tables


def _intervals_table(
    title: str, columns: Mapping[str, Mapping[str, Interval]], flags: Mapping[str, Sequence[str]]
) -> Table:
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, pad_edge=False
    )
    table.add_column("metric", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", overflow="fold")
    for figure in FIGURES:
        found = [column.get(figure.key) for column in columns.values()]
        if any(interval is not None and (figure.key in ALWAYS or interval.mean) for interval in found):
            table.add_row(figure.label, *(_shown(interval, figure.scale) for interval in found))
    for label, cells in flags.items():
        table.add_row(label, *cells, *[""] * (len(columns) - len(cells)))
    return table


def _flags(runs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """Of how many runs of each alternative something is true that spoils them."""
    found = {}
    for flag, label in (("saturated", "queue kept growing"), ("truncated", "cut short")):
        counts = [sum(bool(run[flag]) for run in one) for one in runs]
        if any(counts):
            found[label] = [f"{n} of {len(one)}" for n, one in zip(counts, runs, strict=True)]
    return found


def predicted_json(metrics: Mapping[str, PredictedInterval]) -> dict[str, dict[str, float]]:
    """Value, low and high of each metric."""
    return {name: asdict(metric) for name, metric in metrics.items()}


def predicted_table(alternatives: Mapping[str, Mapping[str, PredictedInterval]]) -> Table:
    """Each alternative's metrics with what the errors of prices and the luck of acceptance leave open."""
    table = Table(
        title="90 % intervals: errors of prices, luck in acceptance",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("metric", no_wrap=True)
    for name in alternatives:
        table.add_column(short_name(name), justify="right", overflow="fold")
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
    if interval.high is None or interval.high == interval.mean:
        return number(float(interval.mean), scale)
    return f"{number(float(interval.mean), scale)} ± {number(interval.high - interval.mean, scale)}"
