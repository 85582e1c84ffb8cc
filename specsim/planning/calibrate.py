"""An engine's few constants fitted to runs of it, half of the runs held back to say whether that helped.

Runs are put in order of draft length and load; every second one is fitted to, the others test. Then the others are
fitted to, so that each run is predicted by a fit that it had no part in: defaults stay unless the error of runs so
predicted surely falls (Student's t of paired differences). Constants: the host's exposed time a step, a sequence, a
draft pass and a drafted token, the front end's time a request, and one factor on all kernels. Each run is simulated as
it was loaded; the logarithms of what it measured are met by damped least squares, each constant held near its default
by how unsure that is. How a constant moves a figure is taken from the price of the run's mean step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear
from scipy.special import stdtrit

from specsim.analytic.load import arrival_rate_per_s
from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.conditions import Conditions
from specsim.specs.host_time import HostTime

ROUNDS = 3  # of simulating every run, then stepping
UNSURE = {"ttft": 0.3}  # one standard deviation of a log figure: queues of prompts hang on how requests arrived
UNSURE_ELSE = 0.05
FEWEST = 3  # runs
SURE = 0.95  # one-sided, that errors fall
HOST = ("step", "sequence", "draft_pass", "draft_token")
FRONTEND, KERNELS = "frontend_request_s", "kernels"
# One standard deviation of a default, at least; seconds, and of the kernels' factor its logarithm.
SPREADS = {
    "step": 0.3e-3,
    "sequence": 10e-6,
    "draft_pass": 0.15e-3,
    "draft_token": 10e-6,
    FRONTEND: 5e-3,
    KERNELS: 0.15,
}
Constants = dict[str, float]


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What was asked of the engine, and what it measured under the names of ``vllm bench serve``."""

    name: str
    scenario: Scenario
    figures: Mapping[str, float]


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
    defaults, found, errors = _fitted(runs[::2])
    _, other, _ = _fitted(runs[1::2])
    return Calibration(defaults, found, errors, _compared(runs, found, other))


def _told_apart(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Files of one name in several folders, numbered from the second on."""
    seen, found = Counter[str](), []
    for run in runs:
        seen[run.name] += 1
        found.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} #{seen[run.name]}"))
    return found


def _fitted(runs: Sequence[MeasuredRun]) -> tuple[Constants, Constants, Constants]:
    """Constants: the defaults, those found, and one standard deviation of each."""
    defaults = default_constants(runs)
    problem = _Problem(runs, tuple(defaults), np.array(list(defaults.values())))
    best = at = problem.at(problem.start)
    for _ in range(ROUNDS - 1):
        at = problem.at(at.next())
        best = min(best, at, key=lambda one: one.loss)
    found = dict(zip(defaults, best.values.tolist(), strict=True))
    errors = dict(zip(defaults, best.errors().tolist(), strict=True))
    return defaults, found, errors


def default_constants(runs: Sequence[MeasuredRun]) -> Constants:
    """The engine's constants before any is fitted; those of drafting only where a run drafts."""
    drafting = [run.scenario for run in runs if run.scenario.speculation is not None]
    scenario = drafting[0] if drafting else runs[0].scenario
    names = HOST if drafting else HOST[:2]
    exposed = {name: _exposed_s(scenario, getattr(scenario.engine.host, name)) for name in names}
    return exposed | {FRONTEND: scenario.engine.frontend_request_s, KERNELS: 1.0}


def with_constants(scenario: Scenario, constants: Mapping[str, float]) -> Scenario:
    """The question to an engine of these constants."""
    engine = scenario.engine
    times = {
        name: _exposing(scenario, getattr(engine.host, name), constants[name]) for name in HOST if name in constants
    }
    stated = {"host": engine.host.model_copy(update=times), FRONTEND: constants[FRONTEND]}
    update: dict[str, Any] = {"stated_engine": scenario.stated_engine.model_copy(update=stated)}
    factor, before = constants[KERNELS], scenario.conditions or Conditions()
    if factor != 1.0:
        slower = {kind: factor * getattr(before, kind) for kind in ("memory", "compute", "attention", "elementwise")}
        update["conditions"] = before.model_copy(update=slower)
    made: Scenario = scenario.model_copy(update=update)
    return made


def _drafts_and_load(run: MeasuredRun) -> tuple[int, float, str]:
    scenario, workload = run.scenario, run.scenario.workload
    drafts = 0 if scenario.speculation is None else scenario.speculation.max_draft_tokens
    load = arrival_rate_per_s(assemble(scenario)) if workload.clients is None else float(workload.clients.concurrency)
    return drafts, load, run.name


def _exposed_s(scenario: Scenario, time: HostTime) -> float:
    return time.seconds * (time.exposed if scenario.engine.async_scheduling else 1.0)


def _exposing(scenario: Scenario, time: HostTime, exposed_s: float) -> HostTime:
    """Host work of which so many seconds are not hidden; the share that is hidden stays where there is one."""
    share = time.exposed if scenario.engine.async_scheduling else 1.0
    if not share:
        return time.model_copy(update={"seconds": exposed_s, "exposed": 1.0})
    return time.model_copy(update={"seconds": exposed_s / share})


@dataclass(frozen=True, slots=True)
class _Problem:
    """Runs to fit to, and the constants at which the fit begins and is held, [constants]."""

    runs: Sequence[MeasuredRun]
    names: tuple[str, ...]
    start: Floats

    @property
    def scale(self) -> Floats:
        """How unsure each default is."""
        return np.array([SPREADS[name] for name in self.names])

    def at(self, values: Floats) -> _Point:
        """Every run simulated at some constants, and how its figures move with them."""
        constants = dict(zip(self.names, values.tolist(), strict=True))
        residuals, weights, slopes = [], [], []
        for run in self.runs:
            predicted, steady = _simulated(run, constants)
            moves = np.array([self._moves(run, constants, steady, name) for name in self.names])
            for figure, value in predicted.items():
                unsure = next((one for name, one in UNSURE.items() if name in figure), UNSURE_ELSE)
                residuals.append(np.log(run.figures[figure] / value))
                weights.append(1.0 / (unsure**2 * len(predicted)))
                slopes.append(self._slopes(figure, value, moves))
        return _Point(self, values, np.array(residuals), np.array(weights), np.array(slopes))

    def _moves(self, run: MeasuredRun, constants: Constants, steady: float, name: str) -> float:
        """d log(time of the run's mean step) / d constant."""
        size = 1e-2 * SPREADS[name]
        ends = [_step_s(run, constants | {name: constants[name] + move}, steady) for move in (0.0, size)]
        return float(np.log(ends[1] / ends[0]) / size)

    def _slopes(self, figure: str, value: float, moves: Floats) -> Floats:
        """d log(figure) / d constant: a rate falls as steps grow, a latency grows, TTFT with the front end besides."""
        slopes = -moves if figure.endswith("throughput") else moves.copy()
        if "ttft" in figure or "e2el" in figure:
            slopes[self.names.index(FRONTEND)] += 1e3 / value
        return slopes


@dataclass(frozen=True, slots=True)
class _Point:
    """``residuals``: log(measured / predicted), [figures]; ``slopes`` [figures, constants]."""

    problem: _Problem
    values: Floats
    residuals: Floats
    weights: Floats
    slopes: Floats

    @property
    def loss(self) -> float:
        """Weighted squares, and how far the constants went, in their own spreads."""
        moved = (self.values - self.problem.start) / self.problem.scale
        return float(self.weights @ self.residuals**2 + moved @ moved)

    def next(self) -> Floats:
        """Where the linearised loss is least; no constant falls below 0, the kernels' factor not below a third."""
        scale, start = self.problem.scale, self.problem.start
        root = np.sqrt(self.weights)
        columns = np.vstack([root[:, None] * self.slopes * scale, np.eye(len(scale))])
        target = self.residuals + self.slopes @ (self.values - start)
        least = np.array([1 / 3 if name == KERNELS else 0.0 for name in self.problem.names])
        found = lsq_linear(
            columns,
            np.concatenate([root * target, np.zeros(len(scale))]),
            bounds=((np.minimum(least, start) - start) / scale - 1e-9, np.inf),
        ).x
        return np.asarray(np.maximum(start + found * scale, 0.0), dtype=np.float64)

    def errors(self) -> Floats:
        """One standard deviation of each constant, that of the default included as knowledge."""
        scaled = np.sqrt(self.weights)[:, None] * self.slopes * self.problem.scale
        information = scaled.T @ scaled + np.eye(len(self.values))
        return np.asarray(self.problem.scale * np.sqrt(np.diag(np.linalg.inv(information))), dtype=np.float64)


def _simulated(run: MeasuredRun, constants: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """What a run's figures are predicted to be, those that a simulation tells, and its mean batch."""
    summary = simulate(assemble(with_constants(run.scenario, constants))).summary()
    found = {name: summary[name] for name in run.figures if summary.get(name)}
    return found, float(summary["mean_batch"] or 1.0)


def _step_s(run: MeasuredRun, constants: Mapping[str, float], batch: float) -> float:
    """Seconds of a decoding step at a batch size."""
    machine = assemble(with_constants(run.scenario, constants))
    round_s = machine.cost.decode_round(np.array([batch]), machine.longest, machine.context_tokens).seconds
    return float(np.ravel(round_s)[0])


def _compared(runs: Sequence[MeasuredRun], found: Constants, other: Constants) -> tuple[RunError, ...]:
    """``found``: fitted to the first, third, ... run; ``other``: to those between."""
    rows = []
    for number, run in enumerate(runs):
        before = _simulated(run, default_constants([run]))[0]
        held, after = number % 2 == 1, _simulated(run, found)[0]
        crossed = after if held else _simulated(run, default_constants([run]) | other)[0]
        rows += [
            RunError(run.name, figure, run.figures[figure], before[figure], after[figure], held, crossed[figure])
            for figure in before
            if figure in after and figure in crossed
        ]
    return tuple(rows)
