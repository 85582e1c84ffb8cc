"""``specsim validate``: predictions against measured runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specsim.cli.options import JsonOption, messages, print_json
from specsim.errors import InvalidInput


def validate(
    case: Annotated[str | None, typer.Argument(help="A case's name or folder; none: all that are shipped.")] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Only write the prediction, before a run.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Profile, predict and measure it on this machine.")] = False,
    out: Annotated[Path, typer.Option(help="Folder that --here writes.")] = Path("validation-here"),
    report: Annotated[bool, typer.Option("--report", help="Also write report.md into each case's folder.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also write a page of plots, self-contained HTML.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Errors with their intervals, where they sit, coverage of the stated intervals, and what the advice costs."""
    from specsim.cases import case_names, load_case
    from specsim.cases.scores import score_case
    from specsim.cli.case_runs import predict_into
    from specsim.cli.case_scores import measured, print_score, print_together, write_report
    from specsim.cli.here import repeat_here

    names = case_names() if case is None else [case]
    if not names:
        raise InvalidInput("no validation case is shipped; give a case's folder")
    if here:
        names = [str(repeat_here(load_case(names[0]), out))]
    cases = [load_case(name) for name in names]
    if predict:
        for one in cases:
            messages().print(f"wrote {predict_into(one)}", soft_wrap=True)
        return
    scores = [score_case(one) for one in measured(cases)]
    if report:
        for score in scores:
            write_report(score)
    if plot is not None:
        from specsim.report.fidelity_page import write_fidelity_page

        write_fidelity_page(plot, scores)
        messages().print(f"wrote {plot}", soft_wrap=True)
    if as_json:
        from specsim.report.fidelity_json import fidelity_document

        print_json(fidelity_document(scores))
        return
    for score in scores:
        print_score(score)
    print_together(scores)
