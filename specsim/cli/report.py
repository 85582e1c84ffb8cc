"""``specsim report``: the capacity-planning report, for a screen, paper or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.choices import GrowthOptions, PriceOptions
from specsim.cli.lists import Names, list_option, names
from specsim.cli.options import messages, progress_bar, tell_compilation
from specsim.cli.question import Question, takes_question
from specsim.cli.workers import cores, worker_processes
from specsim.errors import Faults, InvalidInput

if TYPE_CHECKING:
    from specsim.planning.plan.growth import Growth
    from specsim.planning.plan.named import Named
    from specsim.report.document import Document, Evidence
    from specsim.scenario import Asked

MARKDOWN = (".md", ".markdown")
MOST_WORKERS = 3  # as many parts are answered side by side


@takes_question
def report(
    question: Question,
    prices: PriceOptions,
    growth: GrowthOptions,
    gpu: Annotated[
        Names | None,
        list_option(names, "GPU, with how many if wished; more after commas are for the fleet too."),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulate/--by-formula", help="All of it, or what formulas tell in a second or two.")
    ] = True,
    batch: Annotated[
        int | None, typer.Option(help="Batch size the formulas' verdict speaks about; default what the load leads to.")
    ] = None,
    case: Annotated[str | None, typer.Option(help="Validation case whose measurement is shown beside it.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Page to write: HTML, or Markdown if it ends in .md.")
    ] = Path("specsim-report.html"),
) -> None:
    """A page for the team: on or off, SLO, GPUs and cost, what it rests on; HTML that prints as PDF, or Markdown."""
    from specsim.planning.plan.named import Named

    gpus, faults, usd, grows = gpu or (), Faults(), dict[str, float](), None
    with faults.kept():
        usd = prices.usd_by_gpu()
    with faults.kept():
        grows = growth.asked()
    with faults.kept():
        _refuse_of_plans(gpus, growth, simulated=simulated)
    with faults.kept():
        asked = replace(question, short=question.short | ({"gpu": gpus[0]} if gpus else {})).ask()
        evidence = None if case is None else _evidence(case, asked)
    faults.tell()
    named = Named(gpus=gpus[1:] and [asked.scenario.gpu.name, *gpus[1:]], usd=usd)
    several = ["--gpu", ",".join(gpus)] if len(gpus) > 1 else []
    options = [*several, *prices.words(), *growth.words()]
    count = workers or min(cores(), MOST_WORKERS)
    document = _written(asked, named, grows, evidence, batch, count, options, simulated=simulated)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document.markdown() if out.suffix in MARKDOWN else document.html(), encoding="utf-8")
    messages().print(f"wrote {out}", markup=False)


def _refuse_of_plans(gpus: Sequence[str], growth: GrowthOptions, *, simulated: bool) -> None:
    """Raises InvalidInput for what only a plan answers, which is simulated."""
    asked = [*(["--growth"] if growth.growth is not None else []), *(["--gpu of several"] if gpus[1:] else [])]
    if asked and not simulated:
        raise InvalidInput(f"{' and '.join(asked)} asks for a plan, which is simulated; drop it or --by-formula")


def _written(
    asked: Asked,
    named: Named,
    growth: Growth | None,
    evidence: Evidence | None,
    batch: int | None,
    workers: int,
    options: list[str],
    *,
    simulated: bool,
) -> Document:
    from specsim.report.document import capacity_report

    if not simulated:
        return capacity_report(asked, simulated=False, batch=batch, evidence=evidence)
    tell_compilation()
    with progress_bar() as bar, worker_processes(workers) as pool:
        task = bar.add_task("report", total=100)

        def tell(name: str, share: float) -> None:
            bar.update(task, completed=round(100 * share))

        return capacity_report(
            asked,
            named=named,
            growth=growth,
            batch=batch,
            evidence=evidence,
            options=options,
            pool=pool,
            progress=tell,
        )


def _evidence(name: str, asked: Asked) -> Evidence:
    """The case's drafter that measured this very scenario. Raises InvalidInput where none did."""
    from specsim.cases import load_case, score
    from specsim.report.document import Evidence

    case, scenario = load_case(name), asked.scenario
    same = [drafter for drafter, one in case.drafters.items() if one.sha256() == scenario.sha256()]
    if not same:
        raise InvalidInput(f"case {case.name} measured another scenario than {scenario.name!r}; drop --case")
    return Evidence(score(case, same[0]), case.origin())
