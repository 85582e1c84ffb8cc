"""One self-contained page of cases: verdict and figures of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from specsim.cases.scores import MapScore, Score, ServedScore
from specsim.report.validation.map_figures import (
    error_map,
    map_agreement,
    maps_agreement,
    target_error_map,
    where_figure,
)
from specsim.report.validation.map_tables import map_lines, together_lines
from specsim.report.validation.served_figures import served_agreement, served_errors
from specsim.report.validation.served_tables import bars_of, served_lines

POINTS = (
    "One point a cell. Upright lines are the stated 90 % interval, level ones the range of the repeats; shaded are "
    "the bars about the diagonal."
)
Plot = tuple[str, str, Any]  # heading, note, figure


def write_fidelity_page(path: Path, scores: Sequence[Score]) -> None:
    """All maps together where there are several, then each case.

    plotly's script is inside the page, so that it opens without a network (about 5 MB).
    """
    maps = [score for score in scores if isinstance(score, MapScore)]
    sections = []
    if len(maps) > 1:
        plots = [("Predicted against measured round time", POINTS, maps_agreement(maps))]
        sections.append(_section("All maps", "", together_lines(maps), plots, first=True))
    for score in scores:
        lines, plots = _of_map(score) if isinstance(score, MapScore) else _of_served(score)
        sections.append(_section(_title(score), score.case.origin(), lines, plots, first=not sections))
    environment = Environment(loader=PackageLoader("specsim.report"), autoescape=select_autoescape())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template("fidelity.html").render(sections=sections), encoding="utf-8")


def _title(score: Score) -> str:
    return f"{score.case.name}: {score.drafter}" if isinstance(score, MapScore) else score.case.name


def _section(title: str, origin: str, lines: Sequence[str], plots: Sequence[Plot], *, first: bool) -> dict[str, Any]:
    """The first plot of the page brings plotly's script."""
    settings = {"displayModeBar": False, "responsive": True}
    divs = [
        (heading, note, figure.to_html(full_html=False, include_plotlyjs=first and i == 0, config=settings))
        for i, (heading, note, figure) in enumerate(plots)
    ]
    return {"title": title, "origin": origin, "lines": lines, "figures": divs}


def _of_map(score: MapScore) -> tuple[list[str], list[Plot]]:
    plots: list[Plot] = [
        ("Predicted against measured round time", POINTS, map_agreement(score.told)),
        (
            "Error of round time (%)",
            "Predicted / measured - 1: blue is predicted too fast, amber too slow.",
            error_map(score.told),
        ),
    ]
    if score.parts:
        plots += [
            ("Error of the target's pass alone (%)", "", target_error_map(score.parts)),
            (
                "Where the error sits",
                "Parts stack up to the round's error. Slow rounds: the mean round's excess over its parts' medians.",
                where_figure(score.parts),
            ),
        ]
    return map_lines(score), plots


def _of_served(score: ServedScore) -> tuple[list[str], list[Plot]]:
    bars = bars_of(score)
    agreement = (
        "Predicted against measured",
        "A colour an alternative, a symbol a load. Upright lines are the stated 90 % interval, level ones the range "
        "of the repeats; shaded is the widest bar.",
        served_agreement(score.committed, bars),
    )
    errors = (
        "Error by load",
        "Lines are the stated 90 % interval; they should cross 0. Shaded is the bar.",
        served_errors(score.committed, bars),
    )
    return served_lines(score), [agreement, errors]
