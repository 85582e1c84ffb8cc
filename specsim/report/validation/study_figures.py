"""Studies as figures: predicted against measured, and the error of each study."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from specsim.report.figures import MARKS, OFF, ON, PALETTE, laid_out
from specsim.report.validation.study_errors import StudyError
from specsim.studies.score import MeasuredFigure


def errors_figure(errors: Sequence[StudyError], figure: str) -> Any:
    """Mean |error| of each study's rows of one kind, test and calibration rows apart."""
    mine = [one for one in errors if one.figure == figure]
    names = sorted({one.study for one in mine}, key=lambda name: -max(one.mean for one in mine if one.study == name))
    drawn = go.Figure()
    for split, colour, pattern in (("test", ON, ""), ("calibration", OFF, "/")):
        sums = {name: _pooled([one for one in mine if (one.study, one.split) == (name, split)]) for name in names}
        values = [None if (share := sums[name]) is None else 100 * share for name in names]
        drawn.add_bar(
            y=names,
            x=values,
            orientation="h",
            name=f"{split} rows",
            marker={"color": colour, "pattern_shape": pattern},
            texttemplate="%{x:.0f}",
            textangle=0,
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
    drawn.update_xaxes(title=f"mean |error| of {figure} (%)", rangemode="tozero")
    drawn.update_yaxes(automargin=True)
    drawn.update_layout(barmode="group", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(drawn, 120 + 30 * len(names), top=40)


def _pooled(errors: Sequence[StudyError]) -> float | None:
    rows = sum(one.rows for one in errors)
    return sum(one.mean * one.rows for one in errors) / rows if rows else None


def agreement_figure(figures: Sequence[MeasuredFigure], label: str) -> Any:
    """Predicted against measured figures of one kind, with stated intervals; the line is equality."""
    drawn = go.Figure()
    mine = [one for one in figures if one.label == label]
    told = [(one, one.measured or one.smallest) for one in mine]
    ends = [value for one, forecast in told for value in (one.value, forecast.value)]
    low, high = 0.85 * min(ends), 1.18 * max(ends)
    drawn.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": "#9ca3af", "dash": "dash"},
        name="equal",
        hoverinfo="skip",
    )
    for number, k in enumerate(sorted({one.row.k for one, _ in told})):
        pairs = [(one, forecast) for one, forecast in told if one.row.k == k]
        drawn.add_scatter(
            x=[one.value for one, _ in pairs],
            y=[forecast.value for _, forecast in pairs],
            mode="markers",
            name=f"k = {k}" if k else "off",
            error_y=_bars([forecast for _, forecast in pairs]),
            marker={"symbol": MARKS[number % len(MARKS)], "color": PALETTE[number % len(PALETTE)], "size": 9},
            text=[" ".join(f"{name}={value}" for name, value in one.row.condition.items()) for one, _ in pairs],
            hovertemplate="%{text}<br>measured %{x:.4g}, predicted %{y:.4g}<extra></extra>",
        )
    drawn.update_xaxes(title=f"measured {label}", type="log", range=_logs(low, high))
    drawn.update_yaxes(title=f"predicted {label}", type="log", range=_logs(low, high))
    drawn.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(drawn, 430, top=50)


def _bars(forecasts: Sequence[Any]) -> dict[str, Any] | None:
    if any(one.low is None or one.high is None for one in forecasts):
        return None
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 0,
        "array": [one.high - one.value for one in forecasts],
        "arrayminus": [one.value - one.low for one in forecasts],
    }


def _logs(low: float, high: float) -> list[float]:
    return [log10(low), log10(high)]
