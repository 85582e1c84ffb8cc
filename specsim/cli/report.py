"""``specsim report``: one self-contained HTML page about a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specsim.cli.options import ScenarioArgument, SetOption, messages
from specsim.errors import InvalidInput


def report(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    batch: Annotated[
        int | None, typer.Option(help="Batch size the verdict speaks about; default what the load leads to.")
    ] = None,
    case: Annotated[str | None, typer.Option(help="Validation case whose measurement is shown beside it.")] = None,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("specsim-report.html"),
) -> None:
    """Verdict, map, anatomy of a round and, with --case, predicted against measured."""
    from specsim.analytic.load import answered_map
    from specsim.assembly import assemble
    from specsim.cases import load_case, score
    from specsim.report.document import Evidence, write_report
    from specsim.report.verdict import verdict
    from specsim.scenario import load_scenario

    question = load_scenario(scenario, settings or ())
    speedups, chosen = answered_map(assemble(question), batch=batch)
    evidence = None
    if case is not None:
        measured = load_case(case)
        asked = [name for name, one in measured.drafters.items() if one.sha256() == question.sha256()]
        if not asked:
            raise InvalidInput(f"case {measured.name} measured another scenario than {question.name!r}; drop --case")
        evidence = Evidence(score(measured, asked[0]), measured.origin())
    write_report(out, question, speedups, verdict(speedups, chosen), evidence)
    messages().print(f"wrote {out}")
