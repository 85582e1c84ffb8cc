"""Results as plotly figures: pure functions shared by the report and the dashboard."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from specsim.analytic.rounds import SpeedupMap
from specsim.fidelity import Fidelity

# The target's own work in blues, what speculation adds in amber, the host in grey.
PARTS = {
    "draft": "#f59e0b", "verify": "#1e40af", "gemm": "#1e40af", "attention": "#3b82f6", "lm_head": "#93c5fd",
    "elementwise": "#bfdbfe", "sampling": "#a78bfa", "communication": "#10b981", "host": "#9ca3af",
}  # fmt: skip
INK, ON, OFF, LINE = "#1f2937", "#1d4ed8", "#b45309", "#e5e7eb"
FONT = "Source Sans, system-ui, sans-serif"


def speedup_figure(speedups: SpeedupMap, batch: int | None = None) -> Any:
    """The batch × k map: colour and number are the speed-up, a frame marks each row's best, ▸ is ``batch``."""
    batches = sorted({cell.batch for cell in speedups.cells})
    lengths = sorted({cell.draft_tokens for cell in speedups.cells})
    values = [[speedups.cell(b, k).speedup for k in lengths] for b in batches]
    largest = max(2.0, *(max(row) for row in values))
    labels = [f"<b>▸ {b}</b>" if b == batch else str(b) for b in batches]
    # White at 1, so that the two sides of break-even differ in hue as well as in the printed number.
    scale = [(0.0, "#f59e0b"), (1.0 / largest, "#ffffff"), (1.0, "#60a5fa")]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=[str(k) for k in lengths], y=labels, zmin=0, zmax=largest, colorscale=scale, xgap=2, ygap=2,
            text=[[f"{v:.2f}" for v in row] for row in values], texttemplate="%{text}", textfont={"color": INK},
            colorbar={"title": "speed-up"},
            hovertemplate="batch %{y}, k = %{x}<br>speed-up %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    for best in speedups.best():
        x, y = lengths.index(best.draft_tokens), batches.index(best.batch)
        figure.add_shape(
            type="rect", x0=x - 0.47, x1=x + 0.47, y0=y - 0.45, y1=y + 0.45, line={"color": INK, "width": 3}
        )
    figure.update_xaxes(title="draft length k (tokens)", type="category", showgrid=False)
    figure.update_yaxes(title="batch size (sequences)", type="category", showgrid=False, ticksuffix="  ")
    figure.update_layout(plot_bgcolor=LINE)  # shows through the gaps as cell borders
    return _laid_out(figure, 90 + 38 * len(batches))


def anatomy_figure(speedups: SpeedupMap) -> Any:
    """Where a round's time goes at each batch size's best draft length, as shares of the round."""
    cells = [speedups.cell(best.batch, best.draft_tokens) for best in speedups.best()]
    figure = go.Figure()
    for part, colour in PARTS.items():
        shares = [100 * cell.parts.get(part, 0.0) / cell.round_s for cell in cells]
        if any(share > 0 for share in shares):
            bars = [f"{cell.batch}<br>k={cell.draft_tokens}" for cell in cells]
            figure.add_bar(
                name=part, x=bars, y=shares, marker_color=colour,
                hovertemplate=f"{part} %{{y:.1f}} %<extra>%{{x}}</extra>",
            )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="batch size and its best k", type="category")
    figure.update_yaxes(title="share of the round's time (%)", range=[0, 100])
    return _laid_out(figure, 360)


def fidelity_figure(fidelity: Fidelity) -> Any:
    """Predicted against measured round time, one point a cell, with the predicted 90 % interval."""
    figure = go.Figure()
    lengths = sorted({cell.predicted.draft_tokens for cell in fidelity.cells})
    colours = sample_colorscale("Viridis", [0.9 * i / len(lengths) for i in range(len(lengths))])
    for k, colour in zip(lengths, colours, strict=True):
        cells = [cell for cell in fidelity.cells if cell.predicted.draft_tokens == k]
        predicted = [1e3 * cell.predicted.round_s for cell in cells]
        figure.add_scatter(
            x=[1e3 * cell.measured_s for cell in cells], y=predicted, mode="markers", name=f"k={k}",
            marker_color=colour,
            text=[f"batch {cell.predicted.batch}, error {cell.error:+.1%}" for cell in cells],
            error_y={
                "array": [1e3 * cell.predicted.high_s - y for cell, y in zip(cells, predicted, strict=True)],
                "arrayminus": [y - 1e3 * cell.predicted.low_s for cell, y in zip(cells, predicted, strict=True)],
                "thickness": 1,
            },
        )  # fmt: skip
    ends = [1e3 * f(cell.measured_s for cell in fidelity.cells) for f in (min, max)]
    figure.add_scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": "#9ca3af", "dash": "dot"})
    figure.update_xaxes(title="measured round (ms)", type="log", dtick=math.log10(2))
    figure.update_yaxes(title="predicted round (ms)", type="log", dtick=math.log10(2))
    return _laid_out(figure, 460)


def _laid_out(figure: Any, height: int) -> Any:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        font={"color": INK, "family": FONT},
    )
    return figure
