"""What plots of predicted against measured have in common: the diagonal, the bars' band, intervals, log axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def limits(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found) / 1.25, max(found) * 1.25


def whiskers(values: Any, lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": np.array(highs) - values,
        "arrayminus": values - np.array(lows),
        "thickness": 1,
        "width": 0,
    }


def add_band(figure: Any, ends: tuple[float, float], share: float, **place: int) -> None:
    low, high = ends
    figure.add_scatter(
        x=[low, high, high, low],
        y=[low * (1 + share), high * (1 + share), high / (1 + share), low / (1 + share)],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor="rgba(16, 185, 129, 0.13)",
        hoverinfo="skip",
        name=f"± {share:.0%}",
        showlegend=not place,
        **place,
    )


def add_diagonal(figure: Any, ends: tuple[float, float], **place: int) -> None:
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="equal",
        line={"color": "#9ca3af", "dash": "dot", "width": 1.5},
        hoverinfo="skip",
        showlegend=not place,
        **place,
    )


def log_axes(figure: Any, ends: tuple[float, float], x: str, y: str) -> None:
    figure.update_xaxes(**log_axis(ends, x))
    figure.update_yaxes(**log_axis(ends, y))


def log_axis(ends: tuple[float, float], title: str | None) -> dict[str, Any]:
    """A log axis with ticks at 1, 2 and 5 times powers of ten; over less than a decade at 1 to 10 all."""
    low, high = (math.log10(end) for end in ends)
    steps = (1, 2, 5) if high - low > 0.8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    inside = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    return {
        "type": "log",
        "range": [low, high],
        "tickvals": inside,
        "ticktext": [f"{tick:g}" for tick in inside],
        "title": title,
    }
