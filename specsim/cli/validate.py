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
    if case is None and (here or predict):
        raise InvalidInput(
            f"--{'here' if here else 'predict'} is about one case; name one of {', '.join(case_names())}"
        )
    names = case_names() if case is None else [case]
    if here:
        names = [str(repeat_here(load_case(names[0]), out))]
    cases = [load_case(name) for name in names]
    if predict:
        messages().print(f"wrote {predict_into(cases[0])}", soft_wrap=True)
        return
    by_case = {one.name: score_case(one) for one in _measured(cases)}
    scores = [score for found in by_case.values() for score in found]
    if report:
        for found in by_case.values():
            _write_report(found)
    if plot is not None:
        from specsim.report.fidelity_page import write_fidelity_page

        write_fidelity_page(plot, scores)
        messages().print(f"wrote {plot}", soft_wrap=True)
    if as_json:
        from specsim.report.fidelity_json import fidelity_document

        print_json(fidelity_document(scores))
    elif case is None:
        _print_all(scores)
    else:
        _print_case(scores)


def _measured(cases: Sequence[Case]) -> Sequence[Case]:
    """Those that can be scored; a single case is tried whatever it lacks, so that the error tells."""
    if len(cases) == 1:
        return cases
    for one in cases:
        if not measured_at_all(one):
            messages().print(f"{one.name} is not measured yet", soft_wrap=True)
    return [one for one in cases if measured_at_all(one)]


def _maps_and_served(scores: Sequence[Score]) -> tuple[list[MapScore], list[ServedScore]]:
    maps = [score for score in scores if isinstance(score, MapScore)]
    return maps, [score for score in scores if isinstance(score, ServedScore)]


def _print_case(scores: Sequence[Score]) -> None:
    """One case in full."""
    from specsim.report.map_fidelity import (
        cell_sheet,
        map_lines,
        maps_sheet,
        regret_sheet,
        together_lines,
        where_sheets,
    )
    from specsim.report.served_fidelity import served_lines, served_sheets

    out, (maps, served) = console(), _maps_and_served(scores)
    case = scores[0].case
    out.print(f"[bold]{case.name}[/bold]: {case.origin()}", soft_wrap=True)
    for one in maps:
        out.print(f"\n[bold]{one.drafter}[/bold]")
        for sheet in (cell_sheet(one), regret_sheet(one.told), *where_sheets(one.parts)):
            out.print(sheet.table())
        _print_lines(map_lines(one))
    for score in served:
        for sheet in served_sheets(score):
            out.print(sheet.table())
        _print_lines(served_lines(score))
    if len(maps) > 1:
        out.print("\n[bold]all drafters[/bold]")
        everything = [cell for one in maps for cell in one.parts]
        for sheet in (maps_sheet(maps, by="drafter", title="by drafter"), *where_sheets(everything, ", all drafters")):
            out.print(sheet.table())
        _print_lines(together_lines(maps))


def _print_all(scores: Sequence[Score]) -> None:
    """A line a case, and all of them together."""
    from specsim.report.fidelity_json import imposed_maps
    from specsim.report.map_fidelity import maps_sheet, together_lines
    from specsim.report.served_fidelity import served_cases_sheet, together_sheets

    maps, (_, served) = imposed_maps(scores), _maps_and_served(scores)
    if maps:
        console().print(maps_sheet(maps, by="case", title="round times, acceptance imposed").table())
        console().print(maps_sheet(maps, by="drafter", title="the same by drafter").table())
        _print_lines(together_lines(maps))
    if served:
        console().print(served_cases_sheet(served).table())
        for sheet, lines in together_sheets(served):
            console().print(sheet.table())
            _print_lines(lines)
    _print_lines(["every cell and load of a case: specsim validate CASE; drawn: --plot FILE.html; figures: --json"])


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        console().print(line, soft_wrap=True, markup=False)


def _write_report(scores: Sequence[Score]) -> None:
    from specsim.report.map_fidelity import map_page
    from specsim.report.served_fidelity import served_page

    maps, served = _maps_and_served(scores)
    path = scores[0].case.folder / "report.md"
    path.write_text(map_page(maps) if maps else served_page(served[0]), encoding="utf-8")
    messages().print(f"wrote {path}", soft_wrap=True)
