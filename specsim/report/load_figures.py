"""Latency and throughput as the load grows, speculation off and on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from specsim.planning.load_curve import LoadPoint
from specsim.report.figures import INK, OFF, ON, laid_out
from specsim.report.served import number
from specsim.report.sheet import Sheet
from specsim.results import Slo, slo_met

COLOURS = {"off": OFF, "on": ON}
MARKS = {"off": "square-open", "on": "circle"}
PERCENTILES = (50, 95, 99)
LATENCIES = {"ttft": "TTFT", "tpot": "TPOT"}  # that paper has room for
ALL_LATENCIES = {**LATENCIES, "e2el": "E2E"}
OF_SLO = {"e2el": "e2e"}  # what an SLO calls a latency, where that differs
GROWS = "queue grows"
LIMIT, GREY = "#dc2626", "#9ca3af"


def load_unit(points: Sequence[LoadPoint]) -> str:
    """Of a point's level."""
    return "requests/s" if points[0].load.clients is None else "clients"


def holding(points: Sequence[LoadPoint], slo: Slo) -> dict[str, int]:
    """By alternative, how many of the loads, from the lightest on, meet the SLO before one misses it."""
    met = {name: [slo_met(point.runs[name], slo) for point in points] for name in points[0].runs}
    return {name: each.index(False) if False in each else len(each) for name, each in met.items()}


def holding_line(points: Sequence[LoadPoint], slo: Slo) -> str:
    """Up to which of the simulated loads each alternative meets the SLO."""
    told = []
    for name, count in holding(points, slo).items():
        most = ", the most simulated" if count == len(points) else ""
        level = f"up to {_level(points[count - 1])} {load_unit(points)}{most}" if count else "at none of the loads"
        told.append(f"{name} {level}")
    return f"SLO met: {'; '.join(told)}"


def own_line(point: LoadPoint) -> str:
    """Each alternative's p95 at the load that was asked about."""
    told = []
    for latency, label in ALL_LATENCIES.items():
        each = (f"{name} {_latency(run, latency, 95)}" for name, run in point.runs.items())
        told.append(f"{label} {', '.join(each)}")
    return f"p95 in ms at your {_level(point)} {load_unit([point])}: {'; '.join(told)}"


def load_figure(points: Sequence[LoadPoint], slo: Slo | None) -> Any:
    """TTFT and TPOT, p50 dotted and p95, and throughput; a level line is the SLO's limit of p95.

    A run whose queue kept growing is left out: its latencies depend on how long it was.
    """
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.09)
    limits = {} if slo is None else {(one.latency, one.percentile): one.limit_s for one in slo.bounds()}
    good = any(run.get("request_goodput") is not None for point in points for run in point.runs.values())
    for name in points[0].runs:
        steady = [point for point in points if not point.runs[name]["saturated"]]
        levels, line = [point.level for point in steady], {"color": COLOURS[name], "width": 2}
        looks = {"mode": "lines+markers", "marker": {"size": 5}, "legendgroup": name, "row": 1}
        for column, latency in enumerate(LATENCIES, start=1):
            for percentile, dash in ((50, "dot"), (95, "solid")):
                values = [point.runs[name][f"p{percentile}_{latency}_ms"] for point in steady]
                figure.add_scatter(
                    x=levels,
                    y=values,
                    line=line | {"dash": dash},
                    name=f"{name} p{percentile}",
                    showlegend=column == 1,
                    col=column,
                    **looks,
                )
        key = "request_goodput" if good else "output_throughput"
        values = [point.runs[name][key] for point in points]
        every = [point.level for point in points]
        figure.add_scatter(x=every, y=values, line=line, name=name, showlegend=False, col=3, **looks)
    for column, (latency, label) in enumerate(LATENCIES.items(), start=1):
        figure.update_yaxes(title_text=f"{label} (ms)", rangemode="tozero", row=1, col=column)
        if (limit_s := limits.get((latency, 95))) is not None:
            figure.add_hline(y=1e3 * limit_s, line={"color": INK, "width": 1, "dash": "dash"}, row=1, col=column)
    third = "goodput (requests/s)" if good else "output tokens/s"
    figure.update_yaxes(title_text=third, rangemode="tozero", row=1, col=3)
    figure.update_yaxes(title_standoff=4)
    figure.update_xaxes(title_text=load_unit(points), rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 300, top=40)


def latency_figure(points: Sequence[LoadPoint], own: LoadPoint, slo: Slo | None, latency: str) -> Any:
    """One latency, p50 dotted and p95 drawn through; level lines are the SLO's limits, the upright one ``own``.

    Growing queues are left out.
    """
    figure = go.Figure()
    for name in points[0].runs:
        steady = [point for point in points if not point.runs[name]["saturated"]]
        for percentile, dash in ((50, "dot"), (95, "solid")):
            figure.add_scatter(
                x=[point.level for point in steady],
                y=[point.runs[name][f"p{percentile}_{latency}_ms"] for point in steady],
                line={"color": COLOURS[name], "width": 2, "dash": dash},
                mode="lines+markers",
                marker={"size": 8, "symbol": MARKS[name]},
                name=f"{name} p{percentile}",
            )
    for bound in () if slo is None else slo.bounds():
        if bound.latency == OF_SLO.get(latency, latency):
            figure.add_hline(
                y=1e3 * bound.limit_s,
                line={"color": LIMIT, "width": 2, "dash": "dash"},
                annotation={"text": f"SLO p{bound.percentile}", "font": {"color": LIMIT}},
                annotation_position="top left",
            )
    figure.update_yaxes(title=f"{ALL_LATENCIES[latency]} (ms)", rangemode="tozero")
    return _by_load(figure, points, own)


def served_figure(points: Sequence[LoadPoint], own: LoadPoint, *, good: bool) -> Any:
    """Requests within their limits a second, or output tokens a second, as the load grows."""
    figure, key = go.Figure(), "request_goodput" if good else "output_throughput"
    for name in points[0].runs:
        figure.add_scatter(
            x=[point.level for point in points],
            y=[point.runs[name][key] for point in points],
            name=name,
            line={"color": COLOURS[name], "width": 2},
            mode="lines+markers",
            marker={"size": 8, "symbol": MARKS[name]},
        )
    figure.update_yaxes(title="goodput (requests/s)" if good else "output tokens/s", rangemode="tozero")
    return _by_load(figure, points, own)


def _by_load(figure: Any, points: Sequence[LoadPoint], own: LoadPoint) -> Any:
    figure.add_vline(
        x=own.level,
        line={"color": GREY, "width": 1, "dash": "dot"},
        annotation={"text": "you"},
        annotation_position="bottom right",
    )
    figure.update_xaxes(title=load_unit(points), rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 320, top=10)


def load_sheets(points: Sequence[LoadPoint], slo: Slo | None, latencies: Mapping[str, str] = LATENCIES) -> list[Sheet]:
    """A table of each latency, and one of throughput."""
    names = list(points[0].runs)
    sheets = []
    for latency, label in latencies.items():
        header = [load_unit(points), *(f"{name}\np{p}" for name in names for p in PERCENTILES)]
        rows = [
            [_level(point), *(_latency(point.runs[name], latency, p) for name in names for p in PERCENTILES)]
            for point in points
        ]
        sheets.append(Sheet(f"{label}, ms", header, rows, words=()))
    figures = {"output\ntokens/s": ("output_throughput", 1.0), "batch": ("mean_batch", 1.0)}
    if slo is not None:
        figures |= {"goodput\n%": ("goodput_share", 100.0)}
    header = [load_unit(points), *(f"{name}\n{label}" for name in names for label in figures)]
    rows = [
        [_level(point), *(number(point.runs[name][key], scale) for name in names for key, scale in figures.values())]
        for point in points
    ]
    return [*sheets, Sheet("Throughput", header, rows, words=())]


def _level(point: LoadPoint) -> str:
    return f"{point.level:g}"


def _latency(run: Mapping[str, Any], latency: str, percentile: int) -> str:
    return GROWS if run["saturated"] else number(run[f"p{percentile}_{latency}_ms"])
