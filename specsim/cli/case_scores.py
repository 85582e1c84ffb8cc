"""How the scores of cases are printed and written."""

from __future__ import annotations

from collections.abc import Sequence

from specsim.cases import Case
from specsim.cases.scores import MapScore, Score, ServedScore, measured_at_all
from specsim.cli.options import console, messages
from specsim.report.validation.json_document import imposed_maps
from specsim.report.validation.map_tables import (
    cell_sheet,
    map_lines,
    map_page,
    maps_sheet,
    regret_sheet,
    together_lines,
    where_sheets,
)
from specsim.report.validation.served_cases_tables import served_cases_sheet, together_sheets
from specsim.report.validation.served_tables import served_lines, served_page, served_sheets
from specsim.report.validation.speedup_tables import speedup_lines, speedup_sheets


def measured(cases: Sequence[Case]) -> Sequence[Case]:
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


def print_case(scores: Sequence[Score]) -> None:
    """One case in full."""
    out, (maps, served) = console(), _maps_and_served(scores)
    case = scores[0].case
    out.print(f"[bold]{case.name}[/bold]: {case.origin()}")
    for one in maps:
        out.print(f"\n[bold]{one.drafter}[/bold]")
        for sheet in (cell_sheet(one), regret_sheet(one.told), *where_sheets(one.parts), *speedup_sheets(one)):
            out.print(sheet.fitted(out.width))
        _print_lines([*map_lines(one), *speedup_lines([one])])
    for score in served:
        for sheet in served_sheets(score):
            out.print(sheet.fitted(out.width))
        _print_lines(served_lines(score))
    if len(maps) > 1:
        out.print("\n[bold]all drafters[/bold]")
        everything = [cell for one in maps for cell in one.parts]
        for sheet in (maps_sheet(maps, by="drafter", title="by drafter"), *where_sheets(everything, ", all drafters")):
            out.print(sheet.fitted(out.width))
        _print_lines([*together_lines(maps), *speedup_lines(maps)])


def print_all(scores: Sequence[Score]) -> None:
    """A line a case, and all of them together."""
    out, maps, (_, served) = console(), imposed_maps(scores), _maps_and_served(scores)
    if maps:
        out.print(maps_sheet(maps, by="case", title="round times, acceptance imposed").fitted(out.width))
        out.print(maps_sheet(maps, by="drafter", title="the same by drafter").fitted(out.width))
        _print_lines(together_lines(maps))
    if served:
        out.print(served_cases_sheet(served).fitted(out.width))
        for sheet, lines in together_sheets(served):
            out.print(sheet.fitted(out.width))
            _print_lines(lines)
    _print_lines(["every cell and load of a case: specsim validate CASE; drawn: --plot FILE.html; figures: --json"])


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        console().print(line, markup=False)


def write_report(scores: Sequence[Score]) -> None:
    """Write report.md into a case's folder."""
    maps, served = _maps_and_served(scores)
    path = scores[0].case.folder / "report.md"
    path.write_text(map_page(maps) if maps else served_page(served[0]), encoding="utf-8")
    messages().print(f"wrote {path}", soft_wrap=True)
