"""The fewest replicas that meet an SLO at a load, and the largest load that a fleet takes.

More replicas, or a lower rate, never make latencies worse but for the noise of a run, so that both are searches along
a line: upwards or downwards from what formulas expect. Of two pools, every division of a total is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from specsim.planning.plan.bounds import Bounds
from specsim.planning.plan.fleet import Fleets, FleetVerdict
from specsim.planning.plan.load import Load
from specsim.specs.deployment import Deployment

IDLE = 0.02  # of the rate that a replica may serve: a request is alone
STRIDE = 10  # replicas: larger fleets grow by a tenth at once until one is large enough
RATE_TOLERANCE = 0.01
WIDEST_RATE = 64.0  # times the load: beyond, no rate is looked for


@dataclass(frozen=True, slots=True)
class Size:
    """A deployment that was confirmed, and one step smaller, what that one misses; None: none smaller was tried."""

    deployment: Deployment
    verdict: FleetVerdict
    smaller: FleetVerdict | None


@dataclass(frozen=True, slots=True)
class TooSmall:
    """No deployment of at most so many replicas is confirmed. ``alone``: not even an idle one is."""

    replicas: int
    verdict: FleetVerdict
    alone: bool = False


def fewest_replicas(fleets: Fleets, bounds: Bounds, most: int | None = None) -> Size | TooSmall:
    """The smallest confirmed deployment of at most ``most`` replicas."""
    if not bounds.candidate.kind.disaggregated:
        return _along_line(fleets, bounds, bounds.likely_replicas(), most)
    total = bounds.least_replicas()
    return _upwards(fleets, bounds, total, most, lambda replicas: _divisions(replicas, bounds))


def fewest_near(fleets: Fleets, bounds: Bounds, near: Deployment, most: int) -> Size | TooSmall:
    """The same, from a deployment on that did under other circumstances; of pools, those divided much like it."""
    pools = near.disaggregation
    if pools is None:
        return _along_line(fleets, bounds, near.replicas, most)
    share = pools.prefill_replicas / near.replicas
    unit = bounds.candidate.unit

    def divisions(total: int) -> list[int]:
        middle = unit * max(1, min(round(share * total / unit), total // unit - 1))
        return [one for one in (middle, middle - unit, middle + unit) if 0 < one < total]

    def any_meets(total: int) -> bool:
        return any(fleets.verdict(bounds.candidate.sized(total, one), bounds.load).met for one in divisions(total))

    total = near.replicas
    while total > 2 * unit and any_meets(total - unit):
        total -= unit
    return _upwards(fleets, bounds, total, most, divisions)


def _along_line(fleets: Fleets, bounds: Bounds, expected: int, most: int | None) -> Size | TooSmall:
    """Replicas all alike."""
    unit, load = bounds.candidate.unit, bounds.load
    start = expected if most is None else min(expected, most)

    def verdict(replicas: int) -> FleetVerdict:
        return fleets.verdict(bounds.candidate.sized(replicas), load)

    if verdict(start).met:
        return _shrunk(verdict, start, bounds)
    if start != most and (alone := fleets.alone(_idle(bounds))) is not None:
        return TooSmall(start, alone, alone=True)
    below = enough = start
    while not verdict(enough).met:
        below = enough
        if most is not None and below >= most:
            return TooSmall(below, verdict(below))
        enough = below + unit * max(1, below // unit // STRIDE)
        enough = enough if most is None else min(enough, most)
    while enough - below > unit:
        middle = below + (enough - below) // unit // 2 * unit
        below, enough = (below, middle) if verdict(middle).met else (middle, enough)
    return Size(bounds.candidate.sized(enough), verdict(enough), verdict(below))


def _shrunk(verdict: Callable[[int], FleetVerdict], enough: int, bounds: Bounds) -> Size:
    """From a number of replicas that will do downwards."""
    unit, smaller = bounds.candidate.unit, None
    while enough > unit:
        smaller = verdict(enough - unit)
        if not smaller.met:
            break
        enough, smaller = enough - unit, None
    return Size(bounds.candidate.sized(enough), verdict(enough), smaller)


def _idle(bounds: Bounds) -> Load:
    """Next to no load on a replica."""
    return replace(bounds.load, rate_per_s=min(IDLE * bounds.rate_per_s, bounds.load.rate_per_s))


def _upwards(
    fleets: Fleets, bounds: Bounds, total: int, most: int | None, divisions: Callable[[int], Iterable[int]]
) -> Size | TooSmall:
    """Totals of two pools upwards, each in the divisions given."""
    candidate, first, smaller = bounds.candidate, total, None
    while most is None or total <= most:
        for prefill in divisions(total):
            deployment = candidate.sized(total, prefill)
            verdict = fleets.verdict(deployment, bounds.load)
            if verdict.met:
                return Size(deployment, verdict, smaller)
            smaller = verdict
        if total == first != most and (alone := fleets.alone(_idle(bounds))) is not None:
            return TooSmall(total, alone, alone=True)
        total += candidate.unit
    last = fleets.verdict(candidate.deployment, bounds.load) if smaller is None else smaller
    return TooSmall(total - candidate.unit, last)


def _divisions(total: int, bounds: Bounds) -> list[int]:
    """Prefill replicas of a total, the proportion of the formulas first."""
    unit, (prefill, decode) = bounds.candidate.unit, bounds.least_pools()
    expected = total * prefill / (prefill + decode)
    return sorted(range(prefill, total - decode + 1, unit), key=lambda one: (abs(one - expected), one))


@dataclass(frozen=True, slots=True)
class LargestRate:
    """A rate at which the SLO is met, and what is missed at one a hundredth higher; None: nothing up to there."""

    rate_per_s: float
    verdict: FleetVerdict
    beyond: FleetVerdict | None


def largest_rate(fleets: Fleets, deployment: Deployment, load: Load) -> LargestRate | None:
    """Of a deployment, looked for from a load on; None if it meets the SLO at no rate down to an idle one's."""

    def verdict(rate: float) -> FleetVerdict:
        return fleets.verdict(deployment, replace(load, rate_per_s=rate))

    low = high = load.rate_per_s
    while not verdict(low).met:
        high, low = low, low / 1.5
        if low < load.rate_per_s / WIDEST_RATE:
            return None
    step = 1.05
    while high == low or verdict(high).met:
        low, high, step = high, high * step, step * step
        if high > WIDEST_RATE * load.rate_per_s:
            return LargestRate(low, verdict(low), None)
    while high / low > 1.0 + RATE_TOLERANCE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if verdict(middle).met else (low, middle)
    return LargestRate(low, verdict(low), verdict(high))
