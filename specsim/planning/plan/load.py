"""The scenario's requests at a load, their lengths stretched where it is asked what if."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from specsim.analytic.load import arrival_rate_per_s
from specsim.assembly import Assembly
from specsim.errors import InvalidInput
from specsim.results import Slo
from specsim.scenario import Scenario, SyntheticWorkload, Workload
from specsim.workload.arrivals import Arrivals, ClosedLoopArrivals, GammaArrivals, PoissonArrivals
from specsim.workload.request import MAX_TOKENS, Requests

FEWEST_REQUESTS = 2000
BEYOND_PERCENTILE = 40  # requests of a run that are above the highest bounded percentile
MOST_REQUESTS = 2_000_000  # of a run: more take minutes, and gigabytes
RESIDENCES = 10.0  # of a request, that arrivals last: the start, when replicas are empty, is little of a run


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, or of a closed loop ``clients``; ``prompts`` and ``outputs`` multiply their tokens."""

    rate_per_s: float
    prompts: float = 1.0
    outputs: float = 1.0
    clients: int | None = None


def own_load(scenario: Scenario) -> Load:
    """The scenario's, for a plan. Raises InvalidInput for a closed loop."""
    clients = scenario.workload.clients
    if clients is not None:
        raise InvalidInput(
            f"the scenario has {clients.concurrency} closed-loop clients, whose rate is whatever is served; give the "
            "rate of an open loop, --rate"
        )
    return Load(arrival_rate_per_s(Assembly(scenario)))


def requests(scenario: Scenario, load: Load, seed: int, count: int) -> Requests:
    """The first ``count`` at this load; under one seed all loads have the same draws."""
    drawn = at_load(scenario.workload, load, count).draw(seed)
    return replace(
        drawn,
        prompt_tokens=_stretched(drawn.prompt_tokens, load.prompts),
        output_tokens=_stretched(drawn.output_tokens, load.outputs),
    )


def request_count(scenario: Scenario, load: Load, slo: Slo, residence_s: float) -> int:
    """Of a run whose percentiles can be trusted; all there are where arrivals change with time.

    ``residence_s``: a request's mean time in the system. Raises InvalidInput beyond MOST_REQUESTS.
    """
    workload = scenario.workload
    if not isinstance(workload.arrivals, PoissonArrivals | GammaArrivals):
        return workload.count()
    shares = [bound.percentile / 100 for bound in slo.bounds()]
    rare = 1.0 - max([share for share in (*shares, slo.goodput.share or 0.0) if share < 1.0], default=0.0)
    steady = RESIDENCES * residence_s * load.rate_per_s
    needed = max(FEWEST_REQUESTS, BEYOND_PERCENTILE / rare, steady)
    if needed > MOST_REQUESTS:
        raise InvalidInput(
            f"{load.rate_per_s:g} requests/s under this SLO take runs of {needed:,.0f} requests, more than "
            f"{MOST_REQUESTS:,}; plan for a share of the load, or a lower percentile"
        )
    count = math.ceil(needed)
    return count if isinstance(workload, SyntheticWorkload) else min(count, workload.count())


def at_load(workload: Workload, load: Load, count: int) -> Workload:
    """So many of its requests at the load's rate, or from its clients; their lengths as they are."""
    arrivals = workload.arrivals
    if arrivals is None:  # a trace's own times
        return workload.model_copy(update={"rate_per_s": load.rate_per_s, "speed": None, "requests": count})
    if isinstance(arrivals, ClosedLoopArrivals):
        other: Arrivals = arrivals.model_copy(update={"concurrency": load.clients})
    else:
        other = arrivals.faster(load.rate_per_s / arrivals.mean_rate_per_s())
    return workload.model_copy(update={"arrivals": other, "requests": count})


def _stretched(tokens: NDArray[np.int32], factor: float) -> NDArray[np.int32]:
    return np.clip(np.rint(tokens * factor), 1, MAX_TOKENS).astype(np.int32) if factor != 1.0 else tokens
