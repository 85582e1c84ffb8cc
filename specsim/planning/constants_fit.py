"""An engine's constants fitted to runs of it.

Each run is simulated as it was loaded; the logarithms of what it measured are met by damped least squares, each
constant held near its default by how unsure that is. How a constant moves a figure is taken from the price of the
run's mean step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.planning.engine_constants import FRONTEND, KERNELS, SPREADS, Constants, default_constants, with_constants
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate

ROUNDS = 3  # of simulating every run, then stepping
UNSURE = {"ttft": 0.3}  # one standard deviation of a log figure: queues of prompts hang on how requests arrived
UNSURE_ELSE = 0.05


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What was asked of the engine, and what it measured under the names of ``vllm bench serve``."""

    name: str
    scenario: Scenario
    figures: Mapping[str, float]


def fitted_constants(runs: Sequence[MeasuredRun]) -> tuple[Constants, Constants, Constants]:
    """Constants: the defaults, those found, and one standard deviation of each."""
    defaults = default_constants([run.scenario for run in runs])
    problem = _Problem(runs, tuple(defaults), np.array(list(defaults.values())))
    best = at = problem.at(problem.start)
    for _ in range(ROUNDS - 1):
        at = problem.at(at.next())
        best = min(best, at, key=lambda one: one.loss)
    found = dict(zip(defaults, best.values.tolist(), strict=True))
    errors = dict(zip(defaults, best.errors().tolist(), strict=True))
    return defaults, found, errors


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
            predicted, steady = simulated_figures(run, constants)
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


def simulated_figures(run: MeasuredRun, constants: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """What a run's figures are predicted to be, those that a simulation tells, and its mean batch."""
    summary = simulate(assemble(with_constants(run.scenario, constants))).summary()
    found = {name: summary[name] for name in run.figures if summary.get(name)}
    return found, float(summary["mean_batch"] or 1.0)


def _step_s(run: MeasuredRun, constants: Mapping[str, float], batch: float) -> float:
    """Seconds of a decoding step at a batch size."""
    machine = assemble(with_constants(run.scenario, constants))
    round_s = machine.cost.decode_round(np.array([batch]), machine.longest, machine.context_tokens).seconds
    return float(np.ravel(round_s)[0])
