"""The best deployment of each kind, by branch and bound.

Candidates of a kind are taken by the cost that formulas expect. One whose cost by the formulas' most optimistic rate
is no less than the best that is confirmed cannot be better, and is not simulated; of the others the fewest replicas
are looked for, below the best cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.plan.bounds import Bounds, Miss
from specsim.planning.plan.fleet import Fleets, SloLevel
from specsim.planning.plan.load import Load
from specsim.planning.plan.size import Size, TooSmall, fewest_replicas
from specsim.planning.plan.space import Exclusion, ServingOption, Space, candidates
from specsim.results import Slo
from specsim.scenario import Scenario

HOURS_A_MONTH = 730.0

Told = Callable[[int, int], None]  # kinds done, and all


@dataclass(frozen=True)
class Option:
    """The best deployment of its kind, confirmed. ``fleets``: for what is still to be asked of it."""

    candidate: ServingOption
    size: Size
    bounds: Bounds
    fleets: Fleets

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
        return self.usd_per_hour * 1e6 / (3600.0 * self.bounds.load.rate_per_s * output)

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


def choose(scenario: Scenario, space: Space, load: Load, progress: Told | None = None) -> Plan:
    """The best of each kind at a load.

    Raises InvalidInput without an SLO, NoAnswer where nothing meets it: which limit the nearest candidate misses.
    """
    slo = slo_of(scenario)
    fitting, excluded = candidates(scenario, space)
    kinds = [list(group) for _, group in groupby(sorted(fitting, key=_by_kind), key=lambda one: one.kind)]
    options, nearest = list[Option](), list[tuple[ServingOption, Miss]]()
    for done, group in enumerate(kinds, start=1):
        search = _Search(slo, load)
        search.through(group)
        excluded += search.excluded
        nearest += search.missed
        if search.best is not None:
            options.append(search.best)
        if progress is not None:
            progress(done, len(kinds))
    if not options:
        raise _no_answer(fitting, excluded, nearest)
    priced = space.usd_per_gpu_hour is not None
    options.sort(key=lambda one: (one.candidate.usd(one.replicas), one.gpus, one.size.verdict.binding.used))
    return Plan(load, tuple(options), tuple(excluded), priced)


def slo_of(scenario: Scenario) -> Slo:
    """The scenario's. Raises InvalidInput where it has none that bounds anything."""
    slo = scenario.slo
    if slo is None or not (slo.bounds() or slo.goodput.share):
        raise InvalidInput("the scenario has no SLO to meet; give slo, or for instance --ttft-p95 1 --tpot-p95 40ms")
    return slo


def _by_kind(candidate: ServingOption) -> tuple[str, ...]:
    return tuple(map(str, candidate.kind))


class _Search:
    """Through the candidates of one kind."""

    def __init__(self, slo: Slo, load: Load) -> None:
        self.slo, self.load = slo, load
        self.best: Option | None = None
        self.excluded: list[Exclusion] = []
        self.missed: list[tuple[ServingOption, Miss]] = []

    def through(self, group: Sequence[ServingOption]) -> None:
        able = []
        for candidate in group:
            bounds = Bounds(candidate, self.slo, self.load)
            if bounds.misses:
                worst = max(bounds.misses, key=lambda miss: miss.value / miss.limit)
                self._exclude(candidate, worst)
            else:
                able.append(bounds)
        for bounds in sorted(able, key=_promise):
            self._try(bounds)

    def _try(self, bounds: Bounds) -> None:
        candidate, least = bounds.candidate, bounds.least_replicas()
        most = None if self.best is None else self._most(candidate)
        if most is not None and least > most:
            self.excluded.append(Exclusion.of(candidate, f"takes {self._amount(candidate, least)} or more"))
            return
        fleets = Fleets.of(bounds)
        found = fewest_replicas(fleets, bounds, most)
        if isinstance(found, Size):
            if self.best is not None:
                taken = self._amount(self.best.candidate, self.best.replicas)
                self.excluded.append(Exclusion.of(self.best.candidate, f"takes {taken}"))
            self.best = Option(candidate, found, bounds, fleets)
        elif found.alone:
            self._exclude(candidate, found.verdict.binding.as_miss())
        else:
            self._exclude_too_small(candidate, found)

    def _most(self, candidate: ServingOption) -> int:
        """Replicas that cost less than the best."""
        assert self.best is not None
        bar = self.best.candidate.usd(self.best.replicas) * (1.0 - 1e-9)
        return candidate.unit * math.floor(bar / candidate.unit_usd / candidate.unit)

    def _exclude(self, candidate: ServingOption, miss: Miss) -> None:
        self.missed.append((candidate, miss))
        self.excluded.append(Exclusion.of(candidate, f"{miss.describe()}, alone on a replica"))

    def _exclude_too_small(self, candidate: ServingOption, found: TooSmall) -> None:
        amount = self._amount(candidate, found.replicas)
        self.excluded.append(Exclusion.of(candidate, f"{amount} {found.verdict.misses()}"))

    def _amount(self, candidate: ServingOption, replicas: int) -> str:
        gpus = replicas * candidate.deployment.tensor_parallel
        return f"{gpus} GPU{'s' if gpus > 1 else ''}"


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
