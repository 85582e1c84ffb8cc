"""Served loads predicted against measured as plotly figures, a small plot a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from plotly.subplots import make_subplots

from specsim.fidelity.bars import Bar
from specsim.fidelity.served_errors import LENGTH, MEAN_E2E, MetricError, ServedFidelity
from specsim.report.figures import INK, PALETTE, laid_out
from specsim.report.validation.agreement import add_band, add_diagonal, limits, log_axis, whiskers
from specsim.report.validation.served_tables import NAMES

OFF = "#6b7280"  # what does not draft
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star", "cross", "pentagon")
SHOWN = ("output_throughput", "median_ttft_ms", "median_tpot_ms", MEAN_E2E, "p99_ttft_ms", "p99_tpot_ms")
UNITS = {"output_throughput": " (output)"}  # the rest are ms
COLUMNS = 3


def served_agreement(served: ServedFidelity, bars: tuple[Bar, ...]) -> Any:
    """Each metric predicted against measured: a colour an alternative, a symbol a load."""
    metrics = _shown(served)
    figure = _grid(metrics, lambda metric: f"{NAMES[metric]}{UNITS.get(metric, ' (ms)')}")
    colours, symbols = _colours(served), _symbols(served)
    for index, metric in enumerate(metrics):
        row, col = divmod(index, COLUMNS)
        place = {"row": row + 1, "col": col + 1}
        found = served.of(metric)
        ends = limits([value for one in found for value in (one.measured, one.predicted.value)])
        add_band(figure, ends, max((bar.limit for bar in bars if bar.metric == metric), default=0.0), **place)
        add_diagonal(figure, ends, **place)
        for name, colour in colours.items():
            mine = [one for one in found if one.alternative == name]
            _add_points(figure, mine, name, colour, symbols, first=index == 0, place=place)
        figure.update_xaxes(**log_axis(ends, None), **place)
        figure.update_yaxes(**log_axis(ends, None), **place)
        figure.update_xaxes(title="measured" if row == (len(metrics) - 1) // 3 else None, **place)
        figure.update_yaxes(title="predicted" if col == 0 else None, **place)
    for load, symbol in symbols.items():  # the legend's second half
        marker = {"color": "white", "size": 9, "symbol": symbol, "line": {"color": INK, "width": 1}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=load, marker=marker, row=1, col=1)
    figure.update_layout(legend={"orientation": "h", "y": -0.1})
    return laid_out(figure, 370 * math.ceil(len(metrics) / COLUMNS) + 40, top=40)


def _add_points(
    figure: Any,
    rows: Sequence[MetricError],
    name: str,
    colour: str,
    symbols: dict[str, str],
    *,
    first: bool,
    place: dict[str, int],
) -> None:
    measured = np.array([one.measured for one in rows])
    predicted = np.array([one.predicted.value for one in rows])
    figure.add_scatter(
        x=measured,
        y=predicted,
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=first,
        marker={
            "color": colour,
            "size": 9,
            "symbol": [symbols[one.load] for one in rows],
            "line": {"color": "white", "width": 1},
        },
        error_y=whiskers(predicted, [one.predicted.low for one in rows], [one.predicted.high for one in rows]),
        error_x=whiskers(measured, [one.repeats.min() for one in rows], [one.repeats.max() for one in rows]),
        text=[_row_text(one) for one in rows],
        hovertemplate="%{text}<br>predicted %{y:.4g}, measured %{x:.4g}<extra>" + name + "</extra>",
        **place,
    )


def served_errors(served: ServedFidelity, bars: tuple[Bar, ...]) -> Any:
    """Signed error by load, with the predicted 90 % interval about it; the band is the bar."""
    metrics = _shown(served)
    figure = _grid(metrics, lambda metric: NAMES[metric])
    loads = list(dict.fromkeys(row.load for row in served.rows))
    colours = _colours(served)
    for index, metric in enumerate(metrics):
        row, col = divmod(index, COLUMNS)
        place = {"row": row + 1, "col": col + 1}
        _draw_bars(figure, served.of(metric), loads, bars, place)
        for number, (name, colour) in enumerate(colours.items()):
            mine = [one for one in served.of(metric) if one.alternative == name]
            shift = 0.5 * ((number + 0.5) / len(colours) - 0.5)
            errors = np.array([100 * one.error for one in mine])
            figure.add_scatter(
                x=[loads.index(one.load) + shift for one in mine],
                y=errors,
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=index == 0,
                marker={"color": colour, "size": 8},
                error_y=whiskers(
                    errors,
                    [100 * (one.predicted.low / one.measured - 1) for one in mine],
                    [100 * (one.predicted.high / one.measured - 1) for one in mine],
                ),
                text=[_row_text(one) for one in mine],
                hovertemplate="%{text}<extra>" + name + "</extra>",
                **place,
            )
        figure.add_hline(y=0, line={"color": INK, "width": 1}, **place)
        figure.update_xaxes(
            tickvals=list(range(len(loads))), ticktext=loads, range=[-0.6, len(loads) - 0.4], showgrid=False, **place
        )
        figure.update_yaxes(title="error (%)" if col == 0 else None, zeroline=False, **place)
    figure.update_layout(legend={"orientation": "h", "y": -0.12})
    return laid_out(figure, 320 * math.ceil(len(metrics) / COLUMNS) + 60, top=40)


def _draw_bars(
    figure: Any, rows: Sequence[MetricError], loads: Sequence[str], bars: tuple[Bar, ...], place: dict[str, int]
) -> None:
    """A band as wide as its bar at each load that has one."""
    for at, load in enumerate(loads):
        held = [b.limit for one in rows if one.load == load and (b := one.bar(bars)) is not None]
        if held:
            figure.add_shape(
                type="rect",
                x0=at - 0.45,
                x1=at + 0.45,
                y0=-100 * held[0],
                y1=100 * held[0],
                line_width=0,
                fillcolor="#dcfce7",
                layer="below",
                **place,
            )


def _row_text(row: MetricError) -> str:
    spread = "one run" if row.spread is None else f"spread of repeats {row.spread:.1%}"
    return f"<b>{row.load}, {row.alternative}</b><br>error {row.error:+.1%}, {spread}<br>price {row.source}"


def _shown(served: ServedFidelity) -> list[str]:
    return [metric for metric in SHOWN if served.of(metric)]


def _colours(served: ServedFidelity) -> dict[str, str]:
    """A colour an alternative; grey where the engine did not draft."""
    drafting = {row.alternative for row in served.of(LENGTH)}
    names = list(dict.fromkeys(row.alternative for row in served.rows))
    on = [name for name in names if name in drafting]
    return {name: PALETTE[on.index(name) % len(PALETTE)] if name in drafting else OFF for name in names}


def _symbols(served: ServedFidelity) -> dict[str, str]:
    loads = dict.fromkeys(row.load for row in served.rows)
    return {load: SYMBOLS[i % len(SYMBOLS)] for i, load in enumerate(loads)}


def _grid(metrics: Sequence[str], title: Callable[[str], str]) -> Any:
    rows = math.ceil(len(metrics) / COLUMNS)
    return make_subplots(
        rows=rows,
        cols=COLUMNS,
        subplot_titles=[f"<b>{title(m)}</b>" for m in metrics],
        horizontal_spacing=0.08,
        vertical_spacing=0.14 if rows > 1 else 0.0,
    )
