"""The best deployment of each kind, by branch and bound.

Candidates of a kind are taken by the cost that formulas expect. One whose cost by the formulas' most optimistic rate
is no less than the best that is confirmed cannot be better, and is not simulated. Nor is one that would have to come
closer to its formula's rate than another draft length on that machine was seen to (by ``ALIKE``: Llama-3.3-70B with
k = 0 to 5 came to .98 to 1.00 on 4 H100, to .93 to .98 on 2 H200). Of the others the fewest replicas are looked for,
below the best cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, repeat
from typing import Any

from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.plan.bounds import Bounds, Miss
from specsim.planning.plan.fleet import Fleets, SloLevel
from specsim.planning.plan.load import Load
from specsim.planning.plan.size import Size, TooSmall, fewest_replicas
from specsim.planning.plan.space import Exclusion, ServingOption, Space, candidates
from specsim.progress import Progress
from specsim.results import Slo
from specsim.scenario import Scenario
from specsim.units import format_gpus

HOURS_A_MONTH = 730.0
ALIKE = 1.03  # by which draft lengths on one machine differ in the share of the formula's rate that they serve


@dataclass(frozen=True)
class Option:
    """The best deployment of its kind, confirmed."""

    candidate: ServingOption
    size: Size
    slo: Slo
    load: Load

    @cached_property
    def fleets(self) -> Fleets:
        """For what is still to be asked of it."""
        return Fleets.of(Bounds(self.candidate, self.slo, self.load))

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which simulates fleets anew."""
        return {name: value for name, value in self.__dict__.items() if name != "fleets"}

    @property
    def replicas(self) -> int:
        return self.size.deployment.replicas

    @property
    def gpus(self) -> int:
        return self.replicas * self.candidate.deployment.tensor_parallel

    @property
    def usd_per_hour(self) -> float | None:
        price = self.candidate.usd_per_gpu_hour
        return None if price is None else price * self.gpus

    @property
    def usd_per_month(self) -> float | None:
        return None if self.usd_per_hour is None else HOURS_A_MONTH * self.usd_per_hour

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        if self.usd_per_hour is None:
            return None
        _, output = self.candidate.scenario.workload.mean_lengths()
        return self.usd_per_hour * 1e6 / (3600.0 * self.load.rate_per_s * output)

    @property
    def binding(self) -> SloLevel:
        """The limit that one replica less would miss, or the one closest to its limit."""
        return (self.size.smaller or self.size.verdict).binding


@dataclass(frozen=True)
class Plan:
    """Options by cost, the best first, and what is no option."""

    load: Load
    options: tuple[Option, ...]
    excluded: tuple[Exclusion, ...]
    priced: bool  # by money; else by GPUs

    @property
    def best(self) -> Option:
        return self.options[0]

    @property
    def drafts_were_tried(self) -> bool:
        """Whether any choice had a drafter."""
        options = any(one.candidate.kind.speculation for one in self.options)
        return options or any(one.draft_tokens is not None for one in self.excluded)

    def best_of(self, *, speculation: bool) -> Option | None:
        """The best with or without drafts."""
        return next((one for one in self.options if one.candidate.kind.speculation is speculation), None)


def choose(
    scenario: Scenario, space: Space, load: Load, *, pool: Executor | None = None, progress: Progress | None = None
) -> Plan:
    """The best of each kind at a load; ``pool``: of processes, to which the kinds are given.

    Raises InvalidInput without an SLO, NoAnswer where nothing meets it: which limit the nearest candidate misses.
    """
    slo = slo_of(scenario)
    fitting, excluded = candidates(scenario, space)
    kinds = [list(group) for _, group in groupby(sorted(fitting, key=_by_kind), key=lambda one: one.kind)]
    found = list[KindSearch]()
    for one in (map if pool is None else pool.map)(best_of_kind, kinds, repeat(slo), repeat(load)):
        found.append(one)
        if progress is not None:
            progress(len(found), len(kinds))
    options = [one.best for one in found if one.best is not None]
    excluded += [exclusion for one in found for exclusion in one.excluded]
    if not options:
        raise _no_answer(fitting, excluded, [miss for one in found for miss in one.missed])
    for option in options:
        _warn_of_drafter(option.candidate.scenario)
    options.sort(key=lambda one: (one.candidate.usd(one.replicas), one.gpus, one.size.verdict.binding.used))
    return Plan(load, tuple(options), tuple(excluded), priced=space.usd_per_gpu_hour is not None)


def _warn_of_drafter(scenario: Scenario) -> None:
    if scenario.speculation is not None:
        scenario.speculation.warn_of_limits(scenario.model, sum(scenario.workload.mean_lengths()))


def slo_of(scenario: Scenario) -> Slo:
    """The scenario's. Raises InvalidInput where it has none that bounds anything."""
    slo = scenario.slo
    if slo is None or not (slo.bounds() or slo.goodput.share):
        raise InvalidInput("the scenario has no SLO to meet; give slo, or for instance --ttft-p95 1 --tpot-p95 40ms")
    return slo


def _by_kind(candidate: ServingOption) -> tuple[str, ...]:
    """Kinds of most candidates first, so that processes end about together."""
    return str(not candidate.kind.speculation), *map(str, candidate.kind)


@dataclass
class KindSearch:
    """Of the candidates of one kind: the best, why the others are not, and limits missed even without load."""

    best: Option | None = None
    excluded: list[Exclusion] = field(default_factory=list)
    missed: list[tuple[ServingOption, Miss]] = field(default_factory=list)
    fell_short: dict[str, float] = field(default_factory=dict)  # least share of the formula's rate that was not met

    def exclude(self, candidate: ServingOption, why: str) -> None:
        self.excluded.append(Exclusion.of(candidate, why))

    def miss(self, candidate: ServingOption, miss: Miss) -> None:
        """Of a replica that has one request."""
        self.missed.append((candidate, miss))
        self.exclude(candidate, f"{miss.describe()}, alone on a replica")


def best_of_kind(group: Sequence[ServingOption], slo: Slo, load: Load) -> KindSearch:
    """The cheapest of candidates of one kind."""
    found, able = KindSearch(), []
    for candidate in group:
        bounds = Bounds(candidate, slo, load)
        if bounds.misses:
            found.miss(candidate, max(bounds.misses, key=lambda miss: miss.value / miss.limit))
        else:
            able.append(bounds)
    for bounds in sorted(able, key=_promise):
        _try(bounds, found)
    return found


def _try(bounds: Bounds, found: KindSearch) -> None:
    """Takes the place of the best if it is cheaper."""
    candidate, least = bounds.candidate, bounds.least_replicas()
    most = None if found.best is None else _most(candidate, found.best)
    if most is not None and least > most:
        found.exclude(candidate, f"takes {_gpus(candidate, least)} or more, no cheaper")
        return
    alike = candidate.describe_without_k()
    one_pool = not candidate.kind.disaggregated
    if one_pool and most is not None and _share(bounds, most) > ALIKE * found.fell_short.get(alike, math.inf):
        found.exclude(candidate, f"takes {_gpus(candidate, most + candidate.unit)} or more, as another k does")
        return
    try:
        sized = fewest_replicas(Fleets.of(bounds), bounds, most)
    except NoAnswer as error:
        found.exclude(candidate, str(error))
        return
    if isinstance(sized, TooSmall) and sized.alone:
        found.miss(candidate, sized.verdict.binding.as_miss())
        return
    short = sized.replicas if isinstance(sized, TooSmall) else sized.deployment.replicas - candidate.unit
    if short and one_pool:
        found.fell_short[alike] = min(_share(bounds, short), found.fell_short.get(alike, math.inf))
    if isinstance(sized, TooSmall):
        found.exclude(candidate, f"with {_gpus(candidate, sized.replicas)} {sized.verdict.misses()}")
        return
    if found.best is not None:
        found.exclude(found.best.candidate, f"takes {_gpus(found.best.candidate, found.best.replicas)}")
    found.best = Option(candidate, sized, bounds.slo, bounds.load)


def _share(bounds: Bounds, replicas: int) -> float:
    """The load as a share of what formulas say that so many replicas serve."""
    return bounds.load.rate_per_s / (replicas * bounds.rate_per_s)


def _most(candidate: ServingOption, best: Option) -> int:
    """Replicas that cost less than the best."""
    bar = best.candidate.usd(best.replicas) * (1.0 - 1e-9)
    return candidate.unit * math.floor(bar / candidate.unit_usd / candidate.unit)


def _gpus(candidate: ServingOption, replicas: int) -> str:
    return format_gpus(replicas * candidate.deployment.tensor_parallel)


def _promise(bounds: Bounds) -> tuple[float, float]:
    """Expected cost, and at one cost the load for its capacity."""
    return bounds.candidate.usd(bounds.likely_replicas()), bounds.load.rate_per_s / bounds.rate_per_s


def _no_answer(
    fitting: Sequence[ServingOption], excluded: Sequence[Exclusion], missed: Sequence[tuple[ServingOption, Miss]]
) -> NoAnswer:
    if not fitting:
        first = excluded[0]
        return NoAnswer(
            f"nothing fits: {first.what}: {first.why}; allow more GPUs a replica, larger GPUs or fewer bits"
        )
    candidate, miss = min(missed, key=lambda one: one[1].value / one[1].limit)
    return NoAnswer(
        f"no deployment meets the SLO: the nearest, {candidate.describe()}, {miss.describe()} even with one request "
        "on a replica; relax that limit, or allow other GPUs, parallelism or drafters"
    )
