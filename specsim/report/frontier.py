"""A sweep's Pareto frontier as a table and as a page, with speculation and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.table import Table

from specsim.kept_files import replace_text
from specsim.planning.sweep.frontier import Offer, cheapness, frontier, throughput
from specsim.report.figures import INK, OFF, ON, laid_out

PER_USER = "output tokens/s a user (interactivity)"
Side = tuple[str, list[Offer], str]


def frontier_table(offers: Sequence[Offer]) -> Table:
    """The frontier of all points by throughput, and by cost where there are prices; * marks who is on it."""
    fast = frontier(offers)
    cheap = frontier(offers, cheapness) if any(one.usd is not None for one in offers) else []
    table = Table(title=f"Pareto frontier of {len(offers)} points", title_justify="left")
    table.add_column("setting")
    for column in ("GPUs", "output tokens/s/GPU", "output tokens/s a user"):
        table.add_column(column, justify="right")
    if cheap:
        table.add_column("USD per 1M output tokens", justify="right")
        table.add_column("on the frontier of")
    both = sorted({one.key: one for one in (*fast, *cheap)}.values(), key=lambda one: one.per_user)
    for one in both:
        cells = [one.label, str(one.gpus), f"{one.per_gpu:,.1f}", f"{one.per_user:,.1f}"]
        if cheap:
            sides = [name for name, side in (("throughput", fast), ("cost", cheap)) if one in side]
            cells += ["-" if one.usd is None else f"{one.usd:.3f}", ", ".join(sides)]
        table.add_row(*cells)
    return table


def gain_line(offers: Sequence[Offer]) -> str | None:
    """What speculation adds where its gain is largest: throughput at a user's speed that off reaches too."""
    on, off = (frontier([one for one in offers if one.speculates == wanted]) for wanted in (True, False))
    gains = [(one.per_gpu / best.per_gpu, one, best) for best in off for one in _at_least(on, best.per_user)]
    if not gains:
        return None
    gain, one, best = max(gains, key=lambda found: found[0])
    return (
        f"at {best.per_user:.0f} output tokens/s a user, {one.label} gives {gain:.2f}x the output tokens/s/GPU of off "
        f"({best.label})"
    )


def write_page(path: Path, name: str, offers: Sequence[Offer]) -> None:
    """A self-contained page of figures (about 5 MB)."""
    figures = [frontier_figure(offers, throughput, "output tokens/s/GPU")]
    if any(one.usd is not None for one in offers):
        figures.append(frontier_figure(offers, _usd, "USD per 1M output tokens", cheapness))
    divs = [one.to_html(full_html=False, include_plotlyjs=number == 0) for number, one in enumerate(figures)]
    body = "\n".join(divs)
    replace_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escaped(name)}</title></head>\n'
        f"<body><h1>{_escaped(name)}</h1>\n<p>Every point of the sweep; lines join those that no other beats in both."
        f"</p>\n{body}\n</body></html>\n",
    )


def frontier_figure(
    offers: Sequence[Offer], value: Callable[[Offer], float], title: str, worth: Callable[[Offer], float] = throughput
) -> Any:
    """All points, and the frontiers with speculation and without, labelled with k and parallelism."""
    figure = go.Figure()
    for name, colour, speculates in (("off", OFF, False), ("speculation on", ON, True)):
        mine = [one for one in offers if one.speculates == speculates]
        figure.add_scatter(
            x=[one.per_user for one in mine], y=[value(one) for one in mine], mode="markers", name=name,
            marker={"color": colour, "size": 6, "opacity": 0.35}, text=[one.label for one in mine],
            hovertemplate="%{text}<br>%{x:.1f} a user, %{y:.4g}<extra></extra>",
        )  # fmt: skip
        best = frontier(mine, worth)
        figure.add_scatter(
            x=[one.per_user for one in best], y=[value(one) for one in best], mode="lines+markers+text",
            name=f"{name}, frontier", line={"color": colour, "width": 2}, textposition="top right",
            text=[f"k={one.draft_tokens} TP{one.tensor_parallel}" for one in best],
            textfont={"size": 10, "color": INK}, hovertext=[one.label for one in best],
            hovertemplate="%{hovertext}<br>%{x:.1f} a user, %{y:.4g}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title=PER_USER, rangemode="tozero")
    figure.update_yaxes(title=title, rangemode="tozero")
    return laid_out(figure, 560)


def _at_least(best: Sequence[Offer], per_user: float) -> list[Offer]:
    """The offer with the most throughput among those that are as fast for a user; none, or one."""
    return [one for one in best if one.per_user >= per_user][:1]


def _usd(offer: Offer) -> float:
    return offer.usd or 0.0


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
