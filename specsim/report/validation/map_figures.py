"""Maps predicted against measured as plotly figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from specsim.cases.scores import MapScore
from specsim.fidelity import CellError, Fidelity
from specsim.fidelity.bars import MAP
from specsim.fidelity.where import DRAFT, HOST, PARTS, SAMPLE, SLOW, TARGET, CellParts, by_width, summaries
from specsim.report.figures import INK, LINE, PALETTE, laid_out
from specsim.report.validation.agreement import add_band, add_diagonal, limits, log_axes, whiskers

PART_COLOURS = {TARGET: "#1e40af", DRAFT: "#f59e0b", SAMPLE: "#a78bfa", HOST: "#9ca3af", SLOW: "#e5b8b8"}


def map_agreement(fidelity: Fidelity) -> Any:
    """Round times of one map, a colour a draft length."""
    cells = fidelity.cells
    lengths = sorted({cell.predicted.draft_tokens for cell in cells})
    shades = sample_colorscale("Viridis", [0.9 * i / max(1, len(lengths) - 1) for i in range(len(lengths))])
    groups = [
        (f"k = {k}", shade, [cell for cell in cells if cell.predicted.draft_tokens == k])
        for k, shade in zip(lengths, shades, strict=True)
    ]
    return _agreement(groups)


def maps_agreement(scores: Sequence[MapScore]) -> Any:
    """Round times of several maps as they were predicted before the run, a colour a drafter."""
    names = list(dict.fromkeys(score.drafter for score in scores))
    groups = [
        (name, PALETTE[i % len(PALETTE)], [c for s in scores if s.drafter == name for c in s.headline.cells])
        for i, name in enumerate(names)
    ]
    return _agreement(groups)


def _agreement(groups: Sequence[tuple[str, str, Sequence[CellError]]]) -> Any:
    figure = go.Figure()
    cells = [cell for _, _, found in groups for cell in found]
    ends = limits([1e3 * value for cell in cells for value in (cell.measured_s, cell.predicted.round_s)])
    for bar in MAP[:2]:
        add_band(figure, ends, bar.limit)
    add_diagonal(figure, ends)
    for name, colour, found in groups:
        predicted = np.array([1e3 * cell.predicted.round_s for cell in found])
        measured = np.array([1e3 * cell.measured_s for cell in found])
        figure.add_scatter(
            x=measured,
            y=predicted,
            mode="markers",
            name=name,
            marker={"color": colour, "size": 8, "line": {"color": "white", "width": 1}},
            error_y=whiskers(
                predicted, [1e3 * c.predicted.low_s for c in found], [1e3 * c.predicted.high_s for c in found]
            ),
            error_x=whiskers(
                measured, [1e3 * np.nanmin(c.repeats_s) for c in found], [1e3 * np.nanmax(c.repeats_s) for c in found]
            ),
            text=[_cell_text(cell) for cell in found],
            hovertemplate="%{text}<br>predicted %{y:.2f} ms, measured %{x:.2f} ms<extra>" + name + "</extra>",
        )
    log_axes(figure, ends, "measured round (ms)", "predicted round (ms)")
    return laid_out(figure, 560)


def _cell_text(cell: CellError) -> str:
    p = cell.predicted
    return (
        f"<b>batch {p.batch}, k = {p.draft_tokens}</b><br>error {cell.error:+.1%}, spread of repeats {cell.spread:.1%}"
        f"<br>price {p.source}"
    )


def error_map(fidelity: Fidelity) -> Any:
    """Signed error of round time over batch × k: blue is predicted too fast, amber too slow."""
    found = {(c.predicted.batch, c.predicted.draft_tokens): c.error for c in fidelity.cells}
    return _error_heatmap(found)


def target_error_map(cells: Sequence[CellParts]) -> Any:
    """The same of the target's pass alone."""
    return _error_heatmap(
        {(c.cell.predicted.batch, c.cell.predicted.draft_tokens): c.error(TARGET) or 0.0 for c in cells}
    )


def _error_heatmap(found: dict[tuple[int, int], float]) -> Any:
    batches, lengths = sorted({b for b, _ in found}), sorted({k for _, k in found})
    values = [[100 * found.get((b, k), math.nan) for k in lengths] for b in batches]
    largest = max(15.0, float(np.nanmax(np.abs(values))))
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=[str(k) for k in lengths],
            y=[str(b) for b in batches],
            zmin=-largest,
            zmax=largest,
            colorscale=[(0.0, "#3b82f6"), (0.5, "#ffffff"), (1.0, "#f59e0b")],
            xgap=2,
            ygap=2,
            text=[["" if math.isnan(v) else f"{v:+.0f}" for v in row] for row in values],
            texttemplate="%{text}",
            textfont={"color": INK},
            colorbar={"title": "error (%)", "thickness": 14},
            hovertemplate="batch %{y}, k = %{x}<br>predicted / measured - 1 = %{z:+.1f} %<extra></extra>",
        )
    )
    figure.update_xaxes(title="draft length k (tokens)", type="category", showgrid=False)
    figure.update_yaxes(title="batch size (sequences)", type="category", showgrid=False, ticksuffix="  ")
    figure.update_layout(plot_bgcolor=LINE)
    return laid_out(figure, 100 + 40 * len(batches))


def where_figure(cells: Sequence[CellParts]) -> Any:
    """What each part adds to the round's error, by tokens in the target's pass."""
    groups = by_width(cells)
    labels = [str(first) if first == last else f"{first}-{last}" for first, last in groups]
    found = [{summary.part: summary for summary in summaries(group)} for group in groups.values()]
    figure = go.Figure()
    for part in PARTS:
        figure.add_bar(
            name=part,
            x=labels,
            y=[100 * one[part].contribution for one in found],
            marker_color=PART_COLOURS[part],
            hovertemplate=f"{part}: %{{y:+.1f}} points of the round<extra>%{{x}} tokens</extra>",
        )
    totals = [100 * float(np.mean([cell.cell.error for cell in group])) for group in groups.values()]
    figure.add_scatter(
        x=labels,
        y=totals,
        mode="lines+markers",
        name="the round",
        line={"color": INK, "width": 1.5},
        marker={"size": 7},
        hovertemplate="round: %{y:+.1f} %<extra>%{x} tokens</extra>",
    )
    figure.update_layout(barmode="relative", bargap=0.35)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title="tokens in the target's pass, batch × (k + 1)", type="category")
    figure.update_yaxes(title="predicted - measured (% of the round)", ticksuffix=" ")
    return laid_out(figure, 380)
