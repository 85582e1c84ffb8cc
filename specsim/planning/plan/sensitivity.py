"""The answer where the load, lengths, acceptance or prices are other than expected: GPUs by a simulated search each.

The interval of an answer is that of ``serving.uncertainty``: runs at prices and acceptance that miss as the cost model
and the origin of acceptance say they may, and for each the fewest GPUs that still meet the SLO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from specsim.assembly import Assembly
from specsim.errors import NoAnswer
from specsim.planning.plan.bounds import Bounds
from specsim.planning.plan.choose import Option
from specsim.planning.plan.fleet import Fleets
from specsim.planning.plan.load import Load
from specsim.planning.plan.size import LargestRate, Size, fewest_near, largest_rate
from specsim.serving.price_draws import acceptance_seeds, price_draws
from specsim.serving.uncertainty import FEWEST_RUNS, PricedReplicas
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90

SHARE = 0.2  # more or less, of what is varied
MOST_TIMES = 4  # the GPUs of the answer; a what-if that takes more is not followed further


@dataclass(frozen=True, slots=True)
class WhatIf:
    """GPUs where something is a fifth lower and higher; None: more than ``MOST_TIMES`` as many, or none."""

    what: str
    lower: int | None
    higher: int | None


@dataclass(frozen=True, slots=True)
class GpuInterval:
    """So many GPUs where prices and acceptance are as far off as they are in 90 % of cases; None: without an end."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Asides:
    """Of the best option: the largest rate it takes, what-ifs, and the interval of its GPUs; None: not asked."""

    largest: LargestRate | None
    what_ifs: tuple[WhatIf, ...] = ()
    interval: GpuInterval | None = None


def asides(option: Option, *, what_if: bool = True, pool: Executor | None = None) -> Asides:
    """All of them, or the largest rate alone; ``pool``: of processes that share the work."""
    if not what_if:
        return Asides(_largest(option))
    if pool is None:
        return Asides(_largest(option), what_ifs(option), interval(option))
    around = pool.submit(interval, option)
    others = pool.submit(what_ifs, option)
    return Asides(_largest(option), others.result(), around.result())


def _largest(option: Option) -> LargestRate | None:
    return largest_rate(option.fleets, option.size.deployment, option.load)


def what_ifs(option: Option) -> tuple[WhatIf, ...]:
    """Load, lengths and acceptance of the workload a fifth lower and higher."""
    return tuple(
        WhatIf(what, *(_gpus(option, fleets, load) for fleets, load in sides)) for what, sides in _what_ifs(option)
    )


Side = tuple[Fleets, Load]


def _what_ifs(option: Option) -> Iterator[tuple[str, tuple[Side, Side]]]:
    fleets, load = option.fleets, option.load
    less, more = 1.0 - SHARE, 1.0 + SHARE
    rate = load.rate_per_s
    yield "load", ((fleets, replace(load, rate_per_s=less * rate)), (fleets, replace(load, rate_per_s=more * rate)))
    yield "prompt tokens", ((fleets, replace(load, prompts=less)), (fleets, replace(load, prompts=more)))
    yield "output tokens", ((fleets, replace(load, outputs=less)), (fleets, replace(load, outputs=more)))
    if option.candidate.kind.speculation:
        yield "accepted drafts", ((fleets.altered(accepting(less)), load), (fleets.altered(accepting(more)), load))


def accepting(factor: float) -> Callable[[Assembly], Assembly]:
    """Replicas with so many times the accepted tokens, which their policy does not know."""

    def changed(replica: Assembly) -> Assembly:
        assert replica.speculation is not None
        return replica.accepting(accepting_more(replica.speculation.acceptance, factor, replica.longest))

    return changed


def interval(option: Option, runs: int = FEWEST_RUNS) -> GpuInterval:
    """Of the option's GPUs, from so many draws, in pairs of opposite ones (see ``serving.uncertainty``)."""
    scenario = option.candidate.scenario
    priced = PricedReplicas(Assembly(scenario))
    draws = price_draws(runs, scenario.seed, acceptance=scenario.speculation is not None)
    found = []
    for draw, seed in zip(draws, acceptance_seeds(scenario.seed, runs), strict=True):
        fleets = option.fleets.altered(lambda _, draw=draw, seed=seed: priced.off_by(draw, seed)[0])  # type: ignore[misc]
        found.append(_gpus(option, fleets, option.load))
    known = [gpus for gpus in found if gpus is not None]
    return _ends(option, known, unknown=len(found) - len(known))


def _ends(option: Option, known: list[int], *, unknown: int) -> GpuInterval:
    """Z90 spreads about the mean of the logarithms, in whole replicas, the answer inside."""
    if not known:
        return GpuInterval(option.gpus, None)
    logs = np.log(known)
    half = Z90 * float(logs.std(ddof=1)) if len(known) > 1 else 0.0
    step = option.candidate.deployment.tensor_parallel * option.candidate.unit
    low, high = (math.exp(float(logs.mean()) + side * half) for side in (-1, 1))
    whole_low, whole_high = step * round(low / step), step * round(high / step)
    return GpuInterval(
        max(step, min(option.gpus, whole_low)), None if unknown else max(option.gpus, whole_high, *known)
    )


def _gpus(option: Option, fleets: Fleets, load: Load) -> int | None:
    bounds = Bounds(option.candidate, option.slo, load)
    try:
        found = fewest_near(fleets, bounds, option.size.deployment, most=MOST_TIMES * option.replicas)
    except NoAnswer:  # longer requests may not fit
        return None
    if not isinstance(found, Size):
        return None
    return found.deployment.replicas * found.deployment.tensor_parallel
