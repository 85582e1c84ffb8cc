"""How the scores of cases are printed and written."""

from __future__ import annotations

from collections.abc import Sequence

from specsim.cases import Case
from specsim.cases.scores import MapScore, Score, ServedScore, measured_at_all
from specsim.cli.options import console, messages
from specsim.report.fidelity_json import imposed_maps
from specsim.report.map_fidelity import (
    cell_sheet,
    map_lines,
    map_page,
    maps_sheet,
    regret_sheet,
    shared_where_sheets,
    together_lines,
    where_sheets,
)
from specsim.report.served_fidelity import served_lines, served_page, served_sheets, together_sheets


def measured(cases: Sequence[Case]) -> Sequence[Case]:
    """Those that can be scored; a single case is tried whatever it lacks, so that the error tells."""
    if len(cases) == 1:
        return cases
    for one in cases:
        if not measured_at_all(one):
            messages().print(f"{one.name} is not measured yet", soft_wrap=True)
    return [one for one in cases if measured_at_all(one)]


def print_score(score: Score) -> None:
    """One case's tables and lines."""
    _print_map(score) if isinstance(score, MapScore) else _print_served(score)


def _print_map(score: MapScore) -> None:
    out = console()
    out.print(f"[bold]{score.case.name}[/bold]: {score.case.origin()}", soft_wrap=True)
    for sheet in (cell_sheet(score.now), regret_sheet(score.now), *where_sheets(score.parts)):
        out.print(sheet.table())
    _print_lines(map_lines(score))


def _print_served(score: ServedScore) -> None:
    out = console()
    out.print(f"[bold]{score.case.name}[/bold]: {score.case.origin()}", soft_wrap=True)
    for sheet in served_sheets(score):
        out.print(sheet.table())
    _print_lines(served_lines(score))


def print_together(scores: Sequence[Score]) -> None:
    """What several cases say together."""
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


def write_report(score: Score) -> None:
    """Write report.md into the case's folder."""
    path = score.case.folder / "report.md"
    path.write_text(map_page(score) if isinstance(score, MapScore) else served_page(score), encoding="utf-8")
    messages().print(f"wrote {path}", soft_wrap=True)
