"""An engine's few constants fitted to runs of it, half of the runs held back to say whether that helped.

Runs are put in order of draft length and load; every second one is fitted to, the others test. Then the others are
fitted to, so that each run is predicted by a fit that it had no part in: defaults stay unless the error of runs so
predicted surely falls (Student's t of paired differences).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from specsim.analytic.load import arrival_rate_per_s
from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.planning.constants_fit import MeasuredRun, fitted_constants, simulated_figures
from specsim.planning.engine_constants import FRONTEND, HOST, Constants, default_constants, with_constants
from specsim.scenario import Scenario

FEWEST = 3  # runs
SURE = 0.95  # one-sided, that errors fall


@dataclass(frozen=True, slots=True)
class RunError:
    """One figure of a run; ``held``: it was not fitted to. ``crossed``: predicted by the fit it had no part in."""

    run: str
    figure: str
    measured: float
    before: float
    after: float
    held: bool
    crossed: float

    def error(self, predicted: float) -> float:
        """Relative, signed."""
        return predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """``found``: the constants, seconds and a factor, with one standard deviation each."""

    defaults: Constants
    found: Constants
    errors: Constants
    figures: tuple[RunError, ...]

    @property
    def better(self) -> bool:
        """Whether the constants are worth using: the error of runs that had no part in a fit surely falls."""
        return self.least_gain > 0

    @property
    def gains(self) -> Floats:
        """By how much the mean |relative error| of each run falls under the fit that it had no part in, [runs]."""
        runs = dict.fromkeys(one.run for one in self.figures)
        falls = {
            run: [abs(f.error(f.before)) - abs(f.error(f.crossed)) for f in self.figures if f.run == run]
            for run in runs
        }
        return np.array([np.mean(one) for one in falls.values()])

    @property
    def least_gain(self) -> float:
        """What the mean gain is at least, SURE: Student's t over runs; -1 of a single one, which tells nothing."""
        gains = self.gains
        if len(gains) < 2:
            return -1.0
        return float(gains.mean() - stdtrit(len(gains) - 1, SURE) * gains.std(ddof=1) / np.sqrt(len(gains)))

    def mean_error(self, *, held: bool, after: bool) -> float:
        """Mean |relative error| over figures."""
        return float(np.mean([abs(f.error(f.after if after else f.before)) for f in self.figures if f.held == held]))

    def fragment(self, scenario: Scenario, source: str) -> dict[str, Any]:
        """What a scenario of this engine states: ``engine`` and ``conditions``; empty where defaults stay."""
        if not self.better:
            return {}
        made = with_constants(scenario, self.found)
        host = made.engine.host
        times = {}
        for name in HOST:
            if name in self.found:
                relative = min(1.0, self.errors[name] / max(self.found[name], 1e-9))
                fitted = getattr(host, name).model_copy(update={"error": round(relative, 3), "source": source})
                times[name] = fitted.model_dump(mode="json")
        fields: dict[str, Any] = {"engine": {"host": times}}
        if FRONTEND in self.found:
            fields["engine"][FRONTEND] = self.found[FRONTEND]
        if made.conditions is not None:
            fields["conditions"] = made.conditions.model_dump(mode="json")
        return fields


def calibrate(runs: Sequence[MeasuredRun]) -> Calibration:
    """Fit to the first, third, ... run in order of draft length and load; test on the others.

    Raises InvalidInput for fewer than three runs.
    """
    if len(runs) < FEWEST:
        raise InvalidInput(f"{len(runs)} runs; give at least {FEWEST}, of different loads: every second is held back")
    runs = sorted(_told_apart(runs), key=_drafts_and_load)
    defaults, found, errors = fitted_constants(runs[::2])
    _, other, _ = fitted_constants(runs[1::2])
    return Calibration(defaults, found, errors, _compared(runs, found, other))


def _told_apart(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Files of one name in several folders, numbered from the second on."""
    seen, found = Counter[str](), []
    for run in runs:
        seen[run.name] += 1
        found.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} #{seen[run.name]}"))
    return found


def _drafts_and_load(run: MeasuredRun) -> tuple[int, float, str]:
    scenario, workload = run.scenario, run.scenario.workload
    drafts = 0 if scenario.speculation is None else scenario.speculation.max_draft_tokens
    load = arrival_rate_per_s(assemble(scenario)) if workload.clients is None else float(workload.clients.concurrency)
    return drafts, load, run.name


def _compared(runs: Sequence[MeasuredRun], found: Constants, other: Constants) -> tuple[RunError, ...]:
    """``found``: fitted to the first, third, ... run; ``other``: to those between."""
    rows = []
    for number, run in enumerate(runs):
        before = simulated_figures(run, default_constants([run.scenario]))[0]
        held, after = number % 2 == 1, simulated_figures(run, found)[0]
        crossed = after if held else simulated_figures(run, default_constants([run.scenario]) | other)[0]
        rows += [
            RunError(run.name, figure, run.figures[figure], before[figure], after[figure], held, crossed[figure])
            for figure in before
            if figure in after and figure in crossed
        ]
    return tuple(rows)
