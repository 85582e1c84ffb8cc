"""Drafters side by side as a figure."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from specsim.planning.compare import Comparison
from specsim.report.figures import MARKS, PALETTE, laid_out


def comparison_figure(found: Comparison) -> Any:
    """Speed-up of each drafter's best k by batch size, off at 1."""
    figure = go.Figure()
    for index, one in enumerate(found.drafters):
        cells = [one.best_drafting(batch) for batch in found.batches if batch in one.speedups.batches]
        figure.add_scatter(
            x=[str(cell.batch) for cell in cells],
            y=[cell.speedup for cell in cells],
            name=one.name,
            mode="lines+markers",
            line={"color": PALETTE[index % len(PALETTE)], "width": 2},
            marker={"symbol": MARKS[index % len(MARKS)], "size": 9},
            customdata=[[cell.draft_tokens, cell.low, cell.high] for cell in cells],
            hovertemplate="batch %{x}: %{y:.2f}x with k = %{customdata[0]}<br>90 %: %{customdata[1]:.2f} to "
            "%{customdata[2]:.2f}<extra>%{fullData.name}</extra>",
        )
    figure.add_hline(y=1.0, line={"color": "#9ca3af", "dash": "dash"}, annotation={"text": "off"})
    figure.update_xaxes(title="batch size (sequences)", type="category")
    figure.update_yaxes(title="speed-up over no drafter", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 400, top=60)
