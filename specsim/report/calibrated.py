"""A calibration for people: each run's error before and after, the constants, and whether they are worth using."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.table import Table

from specsim.planning.calibrate import SURE, Calibration, RunError
from specsim.planning.engine_constants import KERNELS

MEANT = {
    "step": "host, a step",
    "sequence": "host, a sequence of a step",
    "draft_pass": "host, a draft pass",
    "draft_token": "host, a drafted token",
    "frontend_request_s": "front end, a request",
    KERNELS: "kernels, factor",
}


def runs_table(calibration: Calibration) -> Table:
    """A line a run: mean |error| of its figures, those fitted to first."""
    table = Table(title="Mean |error| of a run's figures", title_justify="left")
    for column in ("run", "", "figures", "before", "after"):
        table.add_column(column, justify="left" if column in ("run", "") else "right")
    for held in (False, True):
        runs = dict.fromkeys(one.run for one in calibration.figures if one.held == held)
        for run in runs:
            mine = [one for one in calibration.figures if one.run == run and one.held == held]
            table.add_row(run, "held back" if held else "fitted to", str(len(mine)), *_both(mine))
    return table


def figures_table(calibration: Calibration) -> Table:
    """A line a figure, over the runs held back."""
    table = Table(title="Runs held back, by figure: mean |error| (bias)", title_justify="left")
    for column in ("figure", "runs", "before", "after"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    held = [one for one in calibration.figures if one.held]
    for figure in dict.fromkeys(one.figure for one in held):
        mine = [one for one in held if one.figure == figure]
        cells = []
        for predicted in ([one.before for one in mine], [one.after for one in mine]):
            errors = np.array([one.error(value) for one, value in zip(mine, predicted, strict=True)])
            cells.append(f"{np.abs(errors).mean():.1%} ({errors.mean():+.1%})")
        table.add_row(figure, str(len(mine)), *cells)
    table.add_section()
    table.add_row("all", str(len(held)), *_both(held))
    return table


def constants_table(calibration: Calibration) -> Table:
    """The constants: default, found, and how sure; exposed time where the engine hides some."""
    table = Table(title="Constants: what steps wait for", title_justify="left")
    for column in ("constant", "default", "found", "standard error"):
        table.add_column(column, justify="left" if column == "constant" else "right")
    for name, found in calibration.found.items():
        shown = [calibration.defaults[name], found, calibration.errors[name]]
        unit = "" if name == KERNELS else " us"
        table.add_row(MEANT[name], *(f"{one:.3f}" if name == KERNELS else f"{1e6 * one:,.1f}{unit}" for one in shown))
    return table


def verdict(calibration: Calibration) -> str:
    """Whether the error of runs that had no part in a fit surely falls."""
    before, after = (calibration.mean_error(held=True, after=after) for after in (False, True))
    runs = len({one.run for one in calibration.figures if one.held})
    told = f"{runs} run{'s' if runs > 1 else ''} held back: mean |error| {before:.1%} before, {after:.1%} after"
    gains = calibration.gains
    sure = (
        f"{len(gains)} runs, each by the fit it had no part in, gain {100 * gains.mean():.1f} points in the mean, "
        f"{100 * calibration.least_gain:.1f} at least ({SURE:.0%} sure)"
    )
    if calibration.better:
        return f"surely better: {told}; {sure}"
    return f"not surely better, so the defaults stay: {told}; {sure}"


def _both(figures: Iterable[RunError]) -> tuple[str, str]:
    mine = list(figures)
    means = (
        np.mean([abs(f.error(value)) for f, value in pairs])
        for pairs in (
            [(one, one.before) for one in mine],
            [(one, one.after) for one in mine],
        )
    )
    before, after = (f"{mean:.1%}" for mean in means)
    return before, after
