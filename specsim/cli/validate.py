"""``specsim validate``: predictions against measured runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from specsim.cases import Case, case_names, committed_cells, load_case, predict_case, predicted_cells, write_prediction
from specsim.cli.here import repeat_here
from specsim.cli.options import JsonOption, console, messages, print_json
from specsim.errors import InvalidInput
from specsim.fidelity import Fidelity, compare, read_grid

ERROR_BAR, REGRET_BAR = 0.15, 0.05


def validate(
    case: Annotated[str | None, typer.Argument(help="A case's name or folder; none: all that are shipped.")] = None,
    predict: Annotated[bool, typer.Option("--predict", help="Only write the prediction, before a run.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Profile, predict and measure it on this machine.")] = False,
    out: Annotated[Path, typer.Option(help="Folder that --here writes.")] = Path("validation-here"),
    as_json: JsonOption = False,
) -> None:
    """Error of round time, coverage of the intervals, and what following the predicted best k costs."""
    names = case_names() if case is None else [case]
    if not names:
        raise InvalidInput("no validation case is shipped; give a case's folder")
    if here:
        names = [str(repeat_here(load_case(names[0]), out))]
    cases = [load_case(name) for name in names]
    if predict:
        for one in cases:
            write_prediction(one)
            messages().print(f"wrote {one.predicted}")
        return
    scores = {one.name: _scores(one) for one in cases}
    if as_json:
        print_json({name: _document(*pair) for name, pair in scores.items()})
        return
    for one in cases:
        _print_case(one, *scores[one.name])


def _scores(case: Case) -> tuple[Fidelity, Fidelity | None]:
    rows = read_grid(case.measured)
    committed = committed_cells(case)
    now = compare(predicted_cells(predict_case(case)), rows)
    return now, None if committed is None else compare(committed, rows)


def _print_case(case: Case, fidelity: Fidelity, committed: Fidelity | None) -> None:
    from specsim.report.tables import fidelity_table, regret_table

    out = console()
    out.print(f"[bold]{case.name}[/bold]: {case.origin()}", soft_wrap=True)
    out.print(fidelity_table(fidelity))
    out.print(regret_table(fidelity))
    error, regret = fidelity.mean_absolute_error(), fidelity.worst_regret()
    out.print(
        f"round time: mean |error| {error:.1%} (bar {ERROR_BAR:.0%}: {_met(error <= ERROR_BAR)}), "
        f"p90 {fidelity.percentile_absolute_error(90):.1%}, {fidelity.coverage():.0%} of cells in the 90 % interval"
    )
    met = _met(regret <= REGRET_BAR)
    out.print(f"regret of the predicted best k: at most {regret:.1%} (bar {REGRET_BAR:.0%}: {met})")
    if committed is not None:
        out.print(
            f"as predicted before the run: mean |error| {committed.mean_absolute_error():.1%}, "
            f"regret at most {committed.worst_regret():.1%}"
        )


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _document(fidelity: Fidelity, committed: Fidelity | None) -> dict[str, object]:
    before = None if committed is None else _headline(committed)
    return _headline(fidelity) | {
        "committed": before,
        "cells": [
            {**asdict(c.predicted), "measured_s": c.measured_s, "error": c.error, "spread": c.spread}
            for c in fidelity.cells
        ],
        "regret": [asdict(regret) for regret in fidelity.regrets],
    }


def _headline(fidelity: Fidelity) -> dict[str, object]:
    return {
        "mean_absolute_error": fidelity.mean_absolute_error(),
        "p90_absolute_error": fidelity.percentile_absolute_error(90),
        "interval_coverage": fidelity.coverage(),
        "worst_regret": fidelity.worst_regret(),
    }
