"""``specsim.write_report``: the document about a question, for the team."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.planning.plan.growth import Growth
from specsim.report.document import capacity_report

MARKDOWN = (".md", ".markdown")


@checked
def write_report(
    path: str | Path,
    scenario: ScenarioLike = None,
    *,
    batch: int | None = None,
    simulate: bool = True,
    growth: float | None = None,
    months: int = 12,
    **words: Unpack[QuestionOptions],
) -> Path:
    """Write one self-contained HTML page, or Markdown where ``path`` ends in .md, and return where.

    ``simulate``: all of it, a minute of simulations; false: what formulas tell in a second or two. ``batch``: that
    the verdict by formula speaks about; None: what the load leads to. ``growth``: percent a month by which the load
    of the plan grows, over so many ``months``. ``words``: as of ``specsim.ask``. Raises InvalidInput, NoAnswer where
    the models do not fit, OSError where the path cannot be written.

    >>> page = specsim.write_report("report.md", model="llama-3.1-8b", gpu="h100", drafter="eagle-3", simulate=False)
    >>> "Llama-3.1-8B" in page.read_text()
    True
    """
    grows = None if growth is None else Growth(growth, months)
    document = capacity_report(ask(scenario, **words), growth=grows, batch=batch, simulated=simulate)
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(document.markdown() if place.suffix in MARKDOWN else document.html(), encoding="utf-8")
    return place
