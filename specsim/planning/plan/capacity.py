"""The largest load that a scenario's own deployment takes within its SLO."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.plan.bounds import USUAL, Bounds
from specsim.planning.plan.choose import slo_of
from specsim.planning.plan.fleet import Fleets
from specsim.planning.plan.load import Load
from specsim.planning.plan.size import LargestRate, largest_rate
from specsim.planning.plan.space import OptionKind, ServingOption
from specsim.scenario import Scenario
from specsim.workload.arrivals import PoissonArrivals


@dataclass(frozen=True, slots=True)
class Capacity:
    """``gpus`` of the deployment; ``drafter`` None: off."""

    candidate: ServingOption
    gpus: int
    largest: LargestRate


def capacity(scenario: Scenario) -> Capacity:
    """Of Poisson arrivals where the scenario has a closed loop.

    Raises InvalidInput without an SLO, NoAnswer where no rate meets it: which limit is missed, by how much.
    """
    slo, deployment = slo_of(scenario), scenario.deployment
    if deployment.replicas_without_speculation:
        raise InvalidInput("a plan's replicas are all alike; leave replicas_without_speculation out")
    candidate = _candidate(_open(scenario))
    bounds = Bounds(candidate, slo, Load(1.0))
    if bounds.misses:
        raise NoAnswer(f"{candidate.describe()} {bounds.misses[0].describe()} even with one request on a replica")
    expected = USUAL * _rate_per_s(bounds)
    found = largest_rate(Fleets.of(bounds), deployment, replace(bounds.load, rate_per_s=expected))
    if found is None:
        alone = Fleets.of(bounds).verdict(deployment, Load(expected / 64)).misses()
        raise NoAnswer(f"{candidate.describe()} {alone} at {expected / 64:.3g} requests/s; relax that limit")
    return Capacity(candidate, deployment.replicas * deployment.tensor_parallel, found)


def _rate_per_s(bounds: Bounds) -> float:
    """Of the whole deployment, by formula."""
    deployment = bounds.candidate.deployment
    pools = deployment.disaggregation
    if pools is None:
        return deployment.replicas * bounds.rate_per_s
    return min(pools.prefill_replicas * bounds.prefill_rate_per_s, pools.decode_replicas * bounds.rate_per_s)


def _candidate(scenario: Scenario) -> ServingOption:
    speculation, deployment = scenario.speculation, scenario.deployment
    kind = OptionKind(
        scenario.gpu.name,
        speculation is not None,
        deployment.disaggregation is not None,
        deployment.weight_bits,
        deployment.kv_bits,
    )
    drafter = None if speculation is None else speculation.drafter_name()
    return ServingOption(kind, drafter, scenario, scenario.usd_per_gpu_hour)


def _open(scenario: Scenario) -> Scenario:
    if scenario.workload.clients is None:
        return scenario
    workload = scenario.workload.model_copy(update={"arrivals": PoissonArrivals(rate_per_s=1.0)})
    return scenario.model_copy(update={"workload": workload})
