"""``specsim report``: the capacity-planning report, for a screen, paper or Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.options import messages
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.report.document import Evidence

MARKDOWN = (".md", ".markdown")


@takes_question
def report(
    question: Question,
    batch: Annotated[
        int | None, typer.Option(help="Batch size the formulas' verdict speaks about; default what the load leads to.")
    ] = None,
    case: Annotated[str | None, typer.Option(help="Validation case whose measurement is shown beside it.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Page to write: HTML, or Markdown if it ends in .md.")
    ] = Path("specsim-report.html"),
) -> None:
    """The report for the team: HTML that prints as PDF, or Markdown."""
    from specsim.report.document import capacity_report

    asked = question.ask()
    evidence = None if case is None else _evidence(case, asked.scenario.sha256(), asked.scenario.name)
    document = capacity_report(asked, batch=batch, evidence=evidence)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document.markdown() if out.suffix in MARKDOWN else document.html(), encoding="utf-8")
    messages().print(f"wrote {out}", markup=False)


def _evidence(name: str, asked: str, scenario: str) -> Evidence:
    """The case's drafter that measured this very scenario. Raises InvalidInput where none did."""
    from specsim.cases import load_case, score
    from specsim.report.document import Evidence

    case = load_case(name)
    same = [drafter for drafter, one in case.drafters.items() if one.sha256() == asked]
    if not same:
        raise InvalidInput(f"case {case.name} measured another scenario than {scenario!r}; drop --case")
    return Evidence(score(case, same[0]), case.origin())
