"""By simulation: whether a fleet meets an SLO at a load, by how much, and how surely.

A fleet meets it where runs under several seeds all do, and by such a margin that a further run would too: with m and
s mean and standard deviation of a bound's log ratio to its limit over n runs, m + t·s·sqrt(1 + 1/n) <= 0, the upper
end of the one-sided 95 % prediction interval of the next run (t: Student's, n - 1 degrees of freedom). The
first run that misses a bound settles it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from specsim.assembly import Assembly
from specsim.planning.plan.bounds import Bounds, Miss
from specsim.planning.plan.load import Load, request_count, requests
from specsim.planning.plan.space import ServingOption
from specsim.results import Slo, SloFinding, slo_findings
from specsim.serving.prices import priced_replicas
from specsim.serving.simulate import run
from specsim.specs.deployment import Deployment

RUNS = 4
SURE = 0.95
REQUESTS_ALONE = 500  # of a run in which replicas are idle
PLAN_STREAM = 401  # generator of a seed
LEAST_RATIO = 1e-3  # of a value to its limit: smaller ones count as this, so that logarithms are finite

Altered = Callable[[Assembly], Assembly]  # a replica as a what-if has it


@dataclass(frozen=True, slots=True)
class SloLevel:
    """A bound of the SLO over runs: the mean, and what 95 % of further runs stay within."""

    name: str
    limit: float
    value: float
    surely: float
    met: bool

    @property
    def used(self) -> float:
        """Share of the limit that the mean takes."""
        return _ratio(self.name, self.value, self.limit)

    def as_miss(self) -> Miss:
        """Of a level that is not met."""
        return Miss(self.name, self.value if self.used > 1 else self.surely, self.limit)


@dataclass(frozen=True, slots=True)
class FleetVerdict:
    """What a fleet's runs say. ``requests``: of one run."""

    met: bool
    levels: tuple[SloLevel, ...]
    saturated: bool
    runs: int
    requests: int
    summary: Mapping[str, Any]  # of the last run

    @property
    def binding(self) -> SloLevel:
        """The bound closest to its limit, or furthest beyond."""
        return max(self.levels, key=lambda level: _ratio(level.name, level.surely, level.limit))

    def misses(self) -> str:
        """Why not."""
        if self.saturated:
            return "its queue keeps growing"
        return self.binding.as_miss().describe()


@dataclass
class Fleets:
    """Simulated fleets of one candidate, any number of replicas alike; each fleet and load once."""

    candidate: ServingOption
    slo: Slo
    residence_s: float
    _known: dict[tuple[Deployment, Load], FleetVerdict] = field(default_factory=dict)
    _replica: Assembly | None = None

    @classmethod
    def of(cls, bounds: Bounds) -> Fleets:
        return cls(bounds.candidate, bounds.slo, bounds.residence_s)

    def altered(self, change: Altered) -> Fleets:
        """The same replicas, changed."""
        return Fleets(self.candidate, self.slo, self.residence_s, _replica=change(self.replica))

    def verdict(self, deployment: Deployment, load: Load) -> FleetVerdict:
        """Whether the deployment meets the SLO at a load. Runs end at the first one that misses."""
        key = deployment, load
        if key not in self._known:
            self._known[key] = self._judge(deployment, load)
        return self._known[key]

    def alone(self, load: Load) -> FleetVerdict | None:
        """What one unit of replicas misses at a load that leaves it idle; None: nothing. By one run."""
        scenario = self.candidate.scenario
        summary = self._run(self.candidate.deployment, load, seeds(scenario.seed, 1)[0], REQUESTS_ALONE)
        return None if _passes(summary, self.slo) else judged([summary], self.slo, REQUESTS_ALONE)

    @property
    def replica(self) -> Assembly:
        """One replica, priced."""
        if self._replica is None:
            self._replica = priced_replicas(Assembly(self.candidate.scenario))[0]
        return self._replica

    def _judge(self, deployment: Deployment, load: Load) -> FleetVerdict:
        scenario = self.candidate.scenario
        count = request_count(scenario, load, self.slo, self.residence_s)
        found: list[dict[str, Any]] = []
        for seed in seeds(scenario.seed, RUNS):
            found.append(self._run(deployment, load, seed, count))
            if not _passes(found[-1], self.slo):
                break
        return judged(found, self.slo, count)

    def _run(self, deployment: Deployment, load: Load, seed: int, count: int) -> dict[str, Any]:
        replicas = [self.replica.seeded(seed)] * deployment.replicas
        result = run(
            requests(self.candidate.scenario, load, seed, count),
            replicas,
            router=deployment.router,
            disaggregation=deployment.disaggregation,
            slo=self.slo,
            keep=False,
        )
        if result.interrupted:
            raise KeyboardInterrupt
        return result.summary(self.slo)


def seeds(seed: int, count: int) -> list[int]:
    """Of a plan's runs: none is the scenario's own."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PLAN_STREAM,)))
    return [int(one) for one in generator.integers(1, 2**31, size=count)]


def judged(summaries: Sequence[Mapping[str, Any]], slo: Slo, requests: int) -> FleetVerdict:
    """Runs of one fleet, all of which count."""
    rows = [slo_findings(one, slo) for one in summaries]
    levels = tuple(_level([row[place] for row in rows]) for place in range(len(rows[0])))
    saturated = any(one["saturated"] for one in summaries)
    whole = all(_passes(one, slo) for one in summaries)
    met = whole and len(summaries) > 1 and all(level.met for level in levels)
    return FleetVerdict(met, levels, saturated, len(summaries), requests, summaries[-1])


def _passes(summary: Mapping[str, Any], slo: Slo) -> bool:
    """Of one run: in balance, nobody turned away, every bound met."""
    return not summary["saturated"] and not summary["failed"] and all(one.met for one in slo_findings(summary, slo))


def _level(found: Sequence[SloFinding]) -> SloLevel:
    name, limit = found[0].name, found[0].limit
    known = [one.value for one in found if one.value is not None]
    if not known:  # nothing that the bound speaks of: requests of one token have no TPOT
        return SloLevel(name, limit, 0.0, 0.0, met=all(one.met for one in found))
    logs = np.log([_ratio(name, value, limit) for value in known])
    surely = float(logs.mean())
    if len(known) > 1:
        from scipy.special import stdtrit  # a slow import that one run does without

        quantile = float(stdtrit(len(known) - 1, SURE))
        surely += quantile * float(logs.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(known))
    bound = _value(name, math.exp(surely), limit)
    return SloLevel(name, limit, float(np.mean(known)), bound, met=surely <= 0.0 and all(one.met for one in found))


def _ratio(name: str, value: float, limit: float) -> float:
    """Above 1: missed. Of a share of requests, those outside over those that may be."""
    if name != "goodput":
        return max(LEAST_RATIO, value / limit)
    return max(LEAST_RATIO, (1.0 - value) / max(1.0 - limit, LEAST_RATIO))


def _value(name: str, ratio: float, limit: float) -> float:
    return 1.0 - ratio * max(1.0 - limit, LEAST_RATIO) if name == "goodput" else ratio * limit
