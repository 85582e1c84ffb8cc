"""One self-contained HTML page: verdict, map, anatomy of a round, and the comparison with a measured run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from specsim.analytic.speedups import SpeedupMap
from specsim.fidelity import Fidelity
from specsim.report.assumed import assumed_lines
from specsim.report.figures import anatomy_figure, map_figure
from specsim.report.validation.map_figures import map_agreement
from specsim.report.verdict import Verdict
from specsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured run of the scenario and how the prediction compares."""

    fidelity: Fidelity
    origin: str  # which machine and engine, in a sentence


def write_report(
    path: Path, scenario: Scenario, speedups: SpeedupMap, answer: Verdict, evidence: Evidence | None
) -> None:
    """Write the page; plotly's script is inside it, so it opens without a network (about 5 MB)."""
    environment = Environment(loader=PackageLoader("specsim.report"), autoescape=select_autoescape())
    figures = [map_figure(speedups, answer.batch), anatomy_figure(speedups)]
    if evidence is not None:
        figures.append(map_agreement(evidence.fidelity))
    divs = [figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(figures)]
    page = environment.get_template("report.html").render(
        scenario=scenario,
        map=speedups,
        answer=answer,
        evidence=evidence,
        figures=divs,
        assumed=assumed_lines(scenario, speedups),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
