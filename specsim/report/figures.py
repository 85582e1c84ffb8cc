"""Results as plotly figures: pure functions shared by the report and the dashboard."""

from __future__ import annotations

from math import log10
from typing import Any

import plotly.graph_objects as go

from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.report.measures import SPEEDUP, Measure
from specsim.units import format_seconds

# The target's own work in blues, what speculation adds in amber, the host in grey, prompts in teal.
PARTS = {
    "draft": "#f59e0b",
    "verify": "#1e40af",
    "gemm": "#1e40af",
    "attention": "#3b82f6",
    "lm_head": "#93c5fd",
    "elementwise": "#bfdbfe",
    "sampling": "#a78bfa",
    "communication": "#10b981",
    "host": "#9ca3af",
    "prompts": "#0f766e",
}
NAMES = {"gemm": "GEMM", "communication": "links"}  # as tables call them
PATTERNS = {  # that parts are told apart by where colours are not seen
    part: {"shape": shape, "size": 7, "solidity": 0.25, "fgcolor": "rgba(255,255,255,.35)", "bgcolor": PARTS[part]}
    for part, shape in {"draft": "/", "prompts": ".", "communication": "x", "attention": "-"}.items()
}
SHOWN_SHARE = 9.0  # percent of the time; smaller parts have no room for a number
YOURS = "you \N{RIGHTWARDS ARROW}"  # before the batch that the load leads to
INK, ON, OFF, LINE = "#1f2937", "#2563eb", "#b45309", "#e5e7eb"
PALETTE = ("#2563eb", "#f59e0b", "#10b981", "#8b5cf6", "#ef4444", "#0891b2", "#be185d")  # of things without an order
MARKS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "triangle-down", "hexagon")  # beside it
FONT = "Source Sans, system-ui, sans-serif"


def map_figure(speedups: SpeedupMap, batch: int | None = None, measure: Measure = SPEEDUP) -> Any:
    """The batch × k map: colour and number are the measure, a frame marks each row's best, an arrow ``batch``."""
    batches = speedups.batches
    lengths = sorted({cell.draft_tokens for cell in speedups.cells})
    rows = [[speedups.cell(b, k) for k in lengths] for b in batches]
    labels = [f"<b>{YOURS} {b}</b>" if b == batch else str(b) for b in batches]
    figure = go.Figure(
        go.Heatmap(
            x=[str(k) for k in lengths],
            y=labels,
            xgap=2,
            ygap=2,
            showscale=False,
            text=[[measure.text(cell) for cell in row] for row in rows],
            texttemplate="%{text}",
            textfont={"color": INK},
            customdata=[[_cell_words(cell) for cell in row] for row in rows],
            hovertemplate="batch %{y}, k = %{x}<br>%{customdata}<extra></extra>",
            **_shades(rows, measure),
        )
    )
    for best in speedups.best():
        x, y = lengths.index(best.draft_tokens), batches.index(best.batch)
        figure.add_shape(
            type="rect", x0=x - 0.47, x1=x + 0.47, y0=y - 0.45, y1=y + 0.45, line={"color": INK, "width": 3}
        )
    whole = ((-0.5, len(lengths) - 0.5), (-0.5, len(batches) - 0.5))
    figure.update_xaxes(title="draft length k (tokens)", type="category", showgrid=False, range=whole[0])
    figure.update_yaxes(
        title="batch size (sequences)", type="category", showgrid=False, ticksuffix="  ", range=whole[1]
    )
    figure.update_layout(plot_bgcolor=LINE)  # shows through the gaps as cell borders
    return laid_out(figure, 90 + 38 * len(batches))


def _shades(rows: list[list[Cell]], measure: Measure) -> dict[str, Any]:
    """Colours of cells: for speed-ups white at 1, so that the sides of break-even differ in hue as in the number."""
    values = [[measure.of(cell) for cell in row] for row in rows]
    if measure is SPEEDUP:
        largest = max(2.0, *(max(row) for row in values))
        scale = [(0.0, "#f59e0b"), (1.0 / largest, "#ffffff"), (1.0, "#60a5fa")]
        return {"z": values, "zmin": 0, "zmax": largest, "colorscale": scale}
    return {"z": [[log10(value) for value in row] for row in values], "colorscale": [(0, "#eff6ff"), (1, "#60a5fa")]}


def _cell_words(cell: Cell) -> str:
    return (
        f"speed-up {cell.speedup:.3f} (90 %: {cell.low:.2f} to {cell.high:.2f})<br>"
        f"{cell.output_tokens_per_s:,.0f} output tokens/s<br>{cell.tokens_per_round:.2f} tokens a round of "
        f"{format_seconds(cell.round_s)}<br>waits for {cell.bound}; prices {cell.source}"
    )


def anatomy_figure(speedups: SpeedupMap) -> Any:
    """Where time goes at each batch size's best draft length, as shares of a mean step."""
    cells = [speedups.cell(best.batch, best.draft_tokens) for best in speedups.best()]
    figure = go.Figure()
    for part, colour in PARTS.items():
        shares = [100 * cell.parts.get(part, 0.0) / cell.step_s for cell in cells]
        if any(share > 0 for share in shares):
            bars = [f"{cell.batch}<br>k={cell.draft_tokens}" for cell in cells]
            figure.add_bar(
                name=NAMES.get(part, part),
                x=bars,
                y=shares,
                marker={"color": colour, "pattern": PATTERNS.get(part, {})},
                text=[f"{share:.0f}" if share >= SHOWN_SHARE else "" for share in shares],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                hovertemplate="%{fullData.name} %{y:.1f} %<extra>%{x}</extra>",
            )
    figure.update_layout(barmode="stack", legend={"orientation": "h", "y": -0.28, "yanchor": "top", "x": 0})
    figure.update_xaxes(title="batch size and its best k", type="category", tickangle=0)
    figure.update_yaxes(title="share of the time (%)", range=[0, 100])
    return laid_out(figure, 420)


def laid_out(figure: Any, height: int, *, top: int = 20) -> Any:
    """The look that all figures share; ``top``: pixels above the plot."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": top, "b": 50},
        font={"color": INK, "family": FONT},
    )
    return figure
