"""A sweep's Pareto frontier as a table and as a page, with speculation and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.table import Table

from specsim.kept_files import replace_text
from specsim.planning.sweep.frontier import Offer, cheapness, frontier, gains, throughput
from specsim.report.figures import OFF, ON, laid_out

PER_USER = "output tokens/s a user (interactivity)"
MOST_ROWS = 12  # of a side of a table


def frontier_tables(offers: Sequence[Offer]) -> list[Table]:
    """The frontiers with speculation and without, by throughput, and by cost where there are prices."""
    tables = [_table("output tokens/s/GPU against output tokens/s a user", offers, throughput)]
    if any(one.usd is not None for one in offers):
        tables.append(_table("cost against output tokens/s a user", offers, cheapness))
    return tables


def _table(title: str, offers: Sequence[Offer], worth: Callable[[Offer], float]) -> Table:
    table = Table(title=f"Pareto frontier of {len(offers)} points: {title}", title_justify="left")
    priced = any(one.usd is not None for one in offers)
    table.add_column("setting", justify="left", overflow="fold")
    figures = ("GPUs", "batch", "tokens/s\na user", "tokens/s\na GPU", *(("USD per\n1M tokens",) if priced else ()))
    for column in figures:
        table.add_column(column, justify="right", no_wrap=True)
    for speculates in (True, False):
        best = frontier([one for one in offers if one.speculates == speculates], worth)
        for one in _thinned(best):
            cells = [one.label, str(one.gpus), f"{one.batch:.0f}", f"{one.per_user:,.1f}", f"{one.per_gpu:,.1f}"]
            table.add_row(*cells, *(("-" if one.usd is None else f"{one.usd:.3f}",) if priced else ()))
        if len(best) > MOST_ROWS:
            table.add_row(f"and {len(best) - MOST_ROWS} between these, in pareto.html")
        table.add_section()
    return table


def _thinned(best: list[Offer]) -> list[Offer]:
    """At most MOST_ROWS, the ends among them."""
    if len(best) <= MOST_ROWS:
        return best
    return [best[round(i * (len(best) - 1) / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]


def gain_line(offers: Sequence[Offer]) -> str | None:
    """What speculation adds to throughput a GPU at equal speed for a user, and which speeds only one side reaches."""
    on, off = (frontier([one for one in offers if one.speculates == wanted]) for wanted in (True, False))
    if not on or not off:
        return None
    return "; ".join([_gain(on, off), *_reach("speculation on", on, "off", off), *_reach("off", off, "on", on)])


def _gain(on: Sequence[Offer], off: Sequence[Offer]) -> str:
    found = sorted(gains(on, off), key=lambda one: one.ratio)
    if not found:
        ends = [f"{best[0].per_user:,.1f} to {best[-1].per_user:,.1f}" for best in (on, off)]
        return (
            f"the frontiers share no output tokens/s a user (speculation on {ends[0]}, off {ends[1]}), so there is no "
            "ratio of their output tokens/s/GPU"
        )
    least, middle, most = (
        f"{one.ratio:.2f}x (at {one.per_user:,.1f})" for one in (found[0], found[len(found) // 2], found[-1])
    )
    told = least if len(found) == 1 else f"{least} to {most}"
    median = f", {middle} in the median of their points" if len(found) > 2 else ""
    return (
        "at equal output tokens/s a user, straight lines between the points of a frontier, speculation on gives "
        f"{told} the output tokens/s/GPU of off{median}"
    )


def _reach(name: str, best: Sequence[Offer], other: str, slower: Sequence[Offer]) -> list[str]:
    fastest, limit = best[-1].per_user, slower[-1].per_user
    if fastest <= limit:
        return []
    return [
        f"{name} reaches up to {fastest:,.1f} output tokens/s a user, which {other} does not reach at all (at most "
        f"{limit:,.1f})"
    ]


def write_page(path: Path, name: str, offers: Sequence[Offer]) -> None:
    """A self-contained page of figures (about 5 MB)."""
    figures = [frontier_figure(offers, throughput, "output tokens/s/GPU")]
    if any(one.usd is not None for one in offers):
        figures.append(frontier_figure(offers, _usd, "USD per 1M output tokens", cheapness))
    divs = [one.to_html(full_html=False, include_plotlyjs=number == 0) for number, one in enumerate(figures)]
    body = "\n".join(divs)
    replace_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title></head>\n'
        f"<body><h1>{escape(name)}</h1>\n<p>Every point of the sweep; lines join those that no other beats in both."
        f"</p>\n{body}\n</body></html>\n",
    )


def frontier_figure(
    offers: Sequence[Offer], value: Callable[[Offer], float], title: str,
    worth: Callable[[Offer], float] = throughput, *, height: int = 560,
) -> Any:  # fmt: skip
    """All points, and the frontiers with speculation and without, labelled with k and parallelism."""
    figure = go.Figure()
    cards = len({one.gpu for one in offers}) > 1
    for name, colour, speculates, mark, dash, side in (
        ("off", OFF, False, "square-open", "dash", "bottom"),
        ("speculation on", ON, True, "circle", "solid", "top"),
    ):
        mine = [one for one in offers if one.speculates == speculates]
        figure.add_scatter(
            x=[one.per_user for one in mine], y=[value(one) for one in mine], mode="markers", name=name,
            marker={"color": colour, "size": 6, "opacity": 0.5, "symbol": mark},
            text=[escape(one.label) for one in mine],
            hovertemplate="%{text}<br>%{x:.1f} a user, %{y:.4g}<extra></extra>",
        )  # fmt: skip
        best = frontier(mine, worth)
        figure.add_scatter(
            x=[one.per_user for one in best], y=[value(one) for one in best], mode="lines+markers+text",
            name=f"{name}, frontier", line={"color": colour, "width": 2, "dash": dash},
            textposition=_sides(best, side), cliponaxis=False,
            marker={"size": 8, "symbol": mark}, text=_marks(best, cards), textfont={"size": 10},
            hovertext=[escape(one.label) for one in best],
            hovertemplate="%{hovertext}<br>%{x:.1f} a user, %{y:.4g}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title=PER_USER, rangemode="tozero")
    figure.update_yaxes(title=title, rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0})
    return laid_out(figure, height, top=40)


def _marks(best: Sequence[Offer], cards: bool) -> list[str]:
    """k, parallelism and, if asked, the card along a frontier, where one of them changes."""
    drafts = [f"k={one.draft_tokens}" if one.speculates else "off" for one in best]
    where = [f"TP{one.tensor_parallel} {one.gpu if cards else ''}".rstrip() for one in best]
    names = [f"{each} {there}" for each, there in zip(drafts, where, strict=True)]
    return [name if place == 0 or name != names[place - 1] else "" for place, name in enumerate(names)]


def _sides(best: Sequence[Offer], side: str) -> list[str]:
    """Where each label stands: inwards at the ends, so that the figure's edge cuts none.

    A frontier falls to the right, so that above and to the right of its first point there is none of it.
    """
    usual = f"{side} {'left' if side == 'bottom' else 'right'}"
    return ["top right", *[usual] * (len(best) - 2), *[f"{side} left"] * (len(best) > 1)][: len(best)]


def _usd(offer: Offer) -> float:
    return offer.usd or 0.0
