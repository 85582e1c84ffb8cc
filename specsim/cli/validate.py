"""``specsim validate``: predictions against measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from specsim.cases import Case, case_names, load_case
from specsim.cases.scores import MapScore, Score, ServedScore, measured_at_all, score_case
from specsim.cli.case_runs import predict_into
from specsim.cli.here import repeat_here
from specsim.cli.options import JsonOption, console, messages, print_json
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
    scores = [score_case(one) for one in _measured(cases)]
    if report:
        for score in scores:
            _write_report(score)
    if plot is not None:
        from specsim.report.fidelity_page import write_fidelity_page

        write_fidelity_page(plot, scores)
        messages().print(f"wrote {plot}", soft_wrap=True)
    if as_json:
        from specsim.report.fidelity_json import fidelity_document

        print_json(fidelity_document(scores))
        return
    for score in scores:
        _print_map(score) if isinstance(score, MapScore) else _print_served(score)
    _print_together(scores)


def _measured(cases: Sequence[Case]) -> Sequence[Case]:
    """Those that can be scored; a single case is tried whatever it lacks, so that the error tells."""
    if len(cases) == 1:
        return cases
    for one in cases:
        if not measured_at_all(one):
            messages().print(f"{one.name} is not measured yet", soft_wrap=True)
    return [one for one in cases if measured_at_all(one)]


def _print_map(score: MapScore) -> None:
    from specsim.report.map_fidelity import cell_sheet, map_lines, regret_sheet, where_sheets

    out = console()
    out.print(f"[bold]{score.case.name}[/bold]: {score.case.origin()}", soft_wrap=True)
    for sheet in (cell_sheet(score.now), regret_sheet(score.now), *where_sheets(score.parts)):
        out.print(sheet.table())
    _print_lines(map_lines(score))


def _print_served(score: ServedScore) -> None:
    from specsim.report.served_fidelity import served_lines, served_sheets

    out = console()
    out.print(f"[bold]{score.case.name}[/bold]: {score.case.origin()}", soft_wrap=True)
    for sheet in served_sheets(score):
        out.print(sheet.table())
    _print_lines(served_lines(score))


def _print_together(scores: Sequence[Score]) -> None:
    from specsim.report.fidelity_json import imposed_maps
    from specsim.report.map_fidelity import maps_sheet, shared_where_sheets, together_lines
    from specsim.report.served_fidelity import together_sheets

    maps = imposed_maps(scores)
    if len(maps) > 1:
        for sheet in (*shared_where_sheets(maps), maps_sheet(maps, "all maps, acceptance imposed")):
            console().print(sheet.table())
        _print_lines(together_lines(maps))
    served = [score for score in scores if isinstance(score, ServedScore)]
    if len(served) > 1:
        for sheet, lines in together_sheets(served):
            console().print(sheet.table())
            _print_lines(lines)


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        console().print(line, soft_wrap=True, markup=False)


def _write_report(score: Score) -> None:
    from specsim.report.map_fidelity import map_page
    from specsim.report.served_fidelity import served_page

    path = score.case.folder / "report.md"
    path.write_text(map_page(score) if isinstance(score, MapScore) else served_page(score), encoding="utf-8")
    messages().print(f"wrote {path}", soft_wrap=True)
