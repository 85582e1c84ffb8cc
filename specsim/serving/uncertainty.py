"""How far a simulated metric may be off: the same requests served at prices that miss as the cost model says they may.

**Prices.** A step's ``errors_s`` are one standard deviation by class. What the classes of SHARED_ERRORS get wrong they
get wrong in every step of a run, so a run draws one number for each. The other classes are kernels, whose errors
belong to a shape: two rounds of different widths have them nearly independent (see ``analytic.rounds``). So a run
draws a number for every doubling of a step's tokens, and between two doublings their mixture of unit variance: steps
of like width are off together, a run over many widths averages. Kernels without a measurement of their own (roofline,
extrapolated) are off in one direction at every width, thus by one number. A step's seconds are multiplied by
exp(sum of draw · error), whose median is 1.

**Acceptance.** Every run draws how many tokens rounds accept: the law's, off by one number for all of a run, as far as
where the law is from leaves open (``speculation.acceptance.origin``). Which round accepts how many is drawn anew too.

**Front end.** Every run draws how long requests and responses are on their way, by one number: exp(draw · error) times
what the engine's file says, as far as studies of the engine differ (``EngineLimits.frontend_error``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats, Reals
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES, Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput
from specsim.progress import Progress
from specsim.results import RunResult
from specsim.results.intervals import is_number
from specsim.serving.price_draws import DOUBLINGS, PriceDraw, acceptance_seeds, price_draws
from specsim.serving.prices import priced_replicas
from specsim.serving.simulate import simulate
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.speculation.round import SHARED_ERRORS, StepCost
from specsim.surfaces.estimates import Z90

RUNS, FEWEST_RUNS = 24, 8
KNOTS_A_DOUBLING = 8  # prices at a tabulated draw are within a few thousandths of what they are step by step
STAND_INS = SOURCES.index("extrapolated")  # from here on a source is no measurement of this kernel


@dataclass(frozen=True, slots=True)
class PredictedInterval:
    """A metric at the central price under the scenario's own seed, and its 90 % interval."""

    value: float
    low: float
    high: float


def predicted_metrics(
    assembly: Assembly,
    names: Sequence[str],
    *,
    runs: int = RUNS,
    vary_acceptance: bool,
    counted: Callable[[RunResult], RunResult] | None = None,
    progress: Progress | None = None,
) -> dict[str, PredictedInterval]:
    """Keys of ``RunResult.summary`` with intervals from ``runs`` simulations; a key without a number is left out.

    ``vary_acceptance``: every run draws its acceptance (and the luck of a router or policy) anew, as another run of
    the same requests would; else all have that of the scenario's law and seed, as an engine with imposed draws does.
    ``counted``: what of a run counts. ``progress`` hears (finished, all) runs.

    Raises InvalidInput for a key that a summary does not have, and as ``check_runs``.
    """
    check_runs(runs)
    scenario, priced = assembly.scenario, PricedReplicas(assembly)

    def summary(replicas: Sequence[Assembly], *, keep: bool | None) -> dict[str, Any]:
        result = simulate(assembly, replicas=replicas, keep=keep if counted is None else True)
        if result.interrupted:
            raise KeyboardInterrupt
        return (result if counted is None else counted(result)).summary(scenario.slo)

    own = summary(priced.central(), keep=None)
    unknown = [name for name in names if name not in own]
    if unknown:
        raise InvalidInput(f"a summary has no {', '.join(unknown)}; choose from {', '.join(own)}")
    # Records of every step cost more than the run: what moves from run to run is told by totals and sketches, beside
    # a run at the central price that is told so too.
    middle = own if counted is not None else summary(priced.central(), keep=False)
    seeds = acceptance_seeds(scenario.seed, runs) if vary_acceptance else [scenario.seed] * runs
    found = []
    draws = price_draws(runs, scenario.seed, acceptance=vary_acceptance and scenario.speculation is not None)
    for done, (draw, seed) in enumerate(zip(draws, seeds, strict=True), start=1):
        found.append(summary(priced.off_by(draw, seed), keep=False))
        if progress is not None:
            progress(done, runs)
    return {
        name: _interval(own[name], middle[name], [one[name] for one in found])
        for name in dict.fromkeys(names)
        if all(is_number(one[name]) for one in (own, middle, *found))
    }


def check_runs(runs: int) -> None:
    """Raises InvalidInput for a number of runs that is odd or below FEWEST_RUNS."""
    if runs < FEWEST_RUNS or runs % 2:
        raise InvalidInput(
            f"{runs} runs make no interval: they come in pairs, at least {FEWEST_RUNS // 2}; choose an even number, "
            f"such as {RUNS}"
        )


@dataclass(frozen=True, slots=True)
class _Shares:
    """One standard deviation by origin as a share of a step's seconds, numbers or arrays of steps."""

    shared: dict[str, Reals]
    kernels: Reals
    stands_in: NDArray[np.bool_]  # no measurement of the kernels' own

    @classmethod
    def of(cls, price: StepTime) -> _Shares:
        kernels = sum((error**2 for kind, error in price.errors_s.items() if kind not in SHARED_ERRORS), 0.0) ** 0.5
        shared = {kind: price.errors_s[kind] / price.seconds for kind in SHARED_ERRORS if kind in price.errors_s}
        return cls(shared, kernels / price.seconds, np.isin(price.source, SOURCES[STAND_INS:]))

    def log_factor(self, tokens: Reals, draw: PriceDraw) -> Floats:
        """Log of what multiplies the steps' seconds."""
        kernels = np.where(self.stands_in, draw.stand_ins, draw.kernels(tokens))
        shared = sum((share * draw.shared[kind] for kind, share in self.shared.items()), 0.0)
        return np.asarray(shared + self.kernels * kernels)


class OffCost:
    """A price source that is off by a draw; for prices that tables do not hold."""

    def __init__(self, cost: StepCost, draw: PriceDraw) -> None:
        self._cost, self._draw = cost, draw

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """As StepCost; the stated errors are those of the source itself."""
        price = self._cost.step(
            groups, drafting=drafting, draft_tokens=draft_tokens, drafting_kv_tokens=drafting_kv_tokens
        )
        return self._moved(price, sum((group.tokens for group in groups), 0))

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """As StepCost."""
        return self._moved(self._cost.decode_round(batch, draft_tokens, context_tokens), batch * (draft_tokens + 1))

    def _moved(self, price: StepTime, tokens: Reals) -> StepTime:
        log = _Shares.of(price).log_factor(tokens, self._draw)
        factor: Reals = np.exp(log) if log.ndim else math.exp(log)
        parts = {name: seconds * factor for name, seconds in price.parts.items()}
        return replace(price, seconds=price.seconds * factor, parts=parts)


class PricedReplicas:
    """A scenario's replicas, priced as it asks, and how far the prices of each may be off."""

    def __init__(self, assembly: Assembly) -> None:
        self._priced = priced_replicas(assembly)
        self._exact = dict(zip(self._priced, assembly.replicas, strict=True))
        self._grids = {priced: _ErrorGrid(exact) for priced, exact in self._exact.items()}

    def central(self) -> list[Assembly]:
        """At the prices as they are."""
        return self._priced

    def off_by(self, draw: PriceDraw, seed: int) -> list[Assembly]:
        """Prices and acceptance off by a draw, all replicas alike; policies still believe the central ones."""
        made = {}
        for priced, grid in self._grids.items():
            cost = grid.off(priced.cost, self._exact[priced].cost, draw)
            made[priced] = _late(_accepting(priced.priced_by(cost).seeded(seed), draw), draw)
        return [made[priced] for priced in self._priced]


def _accepting(replica: Assembly, draw: PriceDraw) -> Assembly:
    """With the acceptance of a draw; laws of single classes of requests stay."""
    speculation = replica.speculation
    if speculation is None or not draw.acceptance:
        return replica
    factor = math.exp(draw.acceptance * speculation.acceptance_spread)
    return replica.accepting(accepting_more(speculation.acceptance, factor, replica.longest))


def _late(replica: Assembly, draw: PriceDraw) -> Assembly:
    """With the front end of a draw."""
    limits, scenario = replica.limits, replica.scenario
    if not limits.frontend_error:
        return replica
    factor = math.exp(draw.frontend * limits.frontend_error)
    names = ("frontend_request_s", "frontend_response_s")
    stated = scenario.stated_engine.model_copy(update={name: factor * getattr(limits, name) for name in names})
    return replace(replica, scenario=scenario.model_copy(update={"stated_engine": stated}))


class _ErrorGrid:
    """Shares of error of a replica's steps over (with or without a prompt chunk, draft length, tokens)."""

    def __init__(self, assembly: Assembly) -> None:
        limits = assembly.limits
        most = max(limits.max_num_batched_tokens, limits.max_num_seqs * (1 + assembly.longest))
        doublings = min(DOUBLINGS, math.ceil(math.log2(most)) + 1)
        self._log_tokens = np.linspace(0.0, math.log(2.0) * (doublings - 1), KNOTS_A_DOUBLING * (doublings - 1) + 1)
        tokens = np.exp(self._log_tokens)
        coarse = tokens[::KNOTS_A_DOUBLING].round()
        self._longest = assembly.longest
        self._shares: dict[tuple[int, int], _Shares] = {}
        for k in dict.fromkeys((0, *assembly.choices())):
            width = k + 1 if assembly.verifies_drafts else 1
            round_ = assembly.cost.decode_round(np.maximum(1.0, tokens / width), k, assembly.context_tokens)
            self._shares[0, k] = _Shares.of(round_)
            self._shares[1, k] = self._of_chunks(assembly.cost, k, coarse)

    def _of_chunks(self, cost: StepCost, k: int, tokens: Floats) -> _Shares:
        """Of steps that one chunk fills."""
        prices = [
            cost.step([Group(1, count, count, 1)], drafting=1, draft_tokens=k, drafting_kv_tokens=float(count))
            for count in tokens.astype(int).tolist()
        ]
        each = [_Shares.of(price) for price in prices]
        logs = np.log(tokens)

        def spread(values: Sequence[Reals]) -> Floats:
            return np.interp(self._log_tokens, logs, np.array(values, dtype=np.float64))

        shared: dict[str, Reals] = {kind: spread([one.shared[kind] for one in each]) for kind in each[0].shared}
        return _Shares(shared, spread([one.kernels for one in each]), spread([one.stands_in for one in each]) > 0.5)

    def off(self, cost: StepCost, exact: StepCost, draw: PriceDraw) -> StepCost:
        """``cost``, if it is a table, with the factors of a draw; else ``exact``, off step by step."""
        from specsim.step_prices.table_prices import TablePrices  # numba comes with it

        if not isinstance(cost, TablePrices):
            return OffCost(exact, draw)
        tokens = np.exp(self._log_tokens)
        off = np.zeros((2, self._longest + 1, len(tokens)))
        for (chunks, k), shares in self._shares.items():
            off[chunks, k] = shares.log_factor(tokens, draw)
        size = len(cost.prices.k_index)
        return TablePrices(cost.prices._replace(off_tokens=self._log_tokens, off=off[:, :size].copy()))


def _interval(value: float, central: float, found: Sequence[float]) -> PredictedInterval:
    """The spread of the runs around ``central``, the run at the central price as they are told, put around ``value``.

    In logarithms, unless a value is 0. The ends lie Z90 spreads off the runs' mean, each side with a spread of its
    own: near saturation latencies have a long upper tail and throughput a long lower one. (Tried with 400 or more
    truths drawn from the same errors: 24 runs around throughput, TPOT and TTFT at 30, 60 and 80 % of saturation,
    Poisson and bursty, covered 87 to 95 %, 90 % in the mean. Order statistics covered as many, but by 4 % more or less
    from one set of draws to the next.)
    """
    values = np.array([value, central, *found], dtype=np.float64)
    logs = bool((values > 0).all())
    if logs:
        values = np.log(values)
    moved = values[2:] - values[1]
    if not moved.any():
        return PredictedInterval(value, value, value)
    beyond = moved - moved.mean()
    below, above = (float(np.sqrt(2.0 * (side**2).sum() / (len(moved) - 1))) for side in _sides(beyond))
    middle = float(values[0] + moved.mean())
    ends = middle - Z90 * below, middle + Z90 * above
    low, high = (math.exp(end) for end in ends) if logs else (max(0.0, end) for end in ends)
    # The shift of few runs' mean can exceed their spread; the prediction itself belongs inside.
    return PredictedInterval(value, min(low, value), max(high, value))


def _sides(beyond: Floats) -> tuple[Floats, Floats]:
    return np.minimum(beyond, 0.0), np.maximum(beyond, 0.0)
