"""A deployment under any load: latency as the load grows, and where the workload is other than expected.

Every load has the same draws of lengths, acceptance and gaps, so that what differs is the load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specsim.analytic.load import arrival_rate_per_s, speeds
from specsim.analytic.rounds import largest_batch
from specsim.assembly import Assembly, assemble
from specsim.planning.plan.load import Load, at_load, requests
from specsim.planning.plan.sensitivity import SHARE, accepting
from specsim.scenario import Scenario
from specsim.serving.prices import priced_replicas
from specsim.serving.simulate import run, simulate

MOST_REQUESTS = 2000  # of a run; a longer workload is cut there
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # of the largest rate that is served
DOUBLINGS = 3  # of closed-loop clients, down and up
Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A scenario's replicas, priced once."""

    scenario: Scenario
    replicas: Sequence[Assembly]

    @classmethod
    def of(cls, scenario: Scenario) -> Deployed:
        return cls(scenario, priced_replicas(assemble(scenario)))

    def serve(self, load: Load) -> Summary:
        """The summary of one run under the scenario's seed; as of ``simulate`` where lengths are as expected."""
        scenario, deployment = self.scenario, self.scenario.deployment
        count = min(scenario.workload.count(), MOST_REQUESTS)
        if load.prompts == load.outputs == 1.0:
            workload = at_load(scenario.workload, load, count)
            result = simulate(Assembly(scenario.model_copy(update={"workload": workload})), replicas=self.replicas)
        else:
            result = run(
                requests(scenario, load, scenario.seed, count),
                self.replicas,
                clients=load.clients,
                router=deployment.router,
                disaggregation=deployment.disaggregation,
                slo=scenario.slo,
            )
        if result.interrupted:
            raise KeyboardInterrupt
        return result.summary(scenario.slo)

    def accepting(self, factor: float) -> Deployed:
        """The same replicas with so many times the accepted drafts."""
        changed = {one: accepting(factor)(one) if one.longest else one for one in dict.fromkeys(self.replicas)}
        return replace(self, replicas=[changed[one] for one in self.replicas])


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """``runs``: by alternative."""

    load: Load
    runs: Mapping[str, Summary]

    @property
    def level(self) -> float:
        """Requests/s, or clients."""
        return self.load.rate_per_s if self.load.clients is None else float(self.load.clients)


def own_load(scenario: Scenario) -> Load:
    """The scenario's: a rate, or the clients of a closed loop."""
    clients = scenario.workload.clients
    if clients is not None:
        return Load(0.0, clients=clients.concurrency)
    return Load(arrival_rate_per_s(assemble(scenario)))


def load_curve(
    deployed: Mapping[str, Deployed], progress: Callable[[int, int], None] | None = None
) -> tuple[LoadPoint, ...]:
    """Alternatives over loads from light to as much as the best of them serves, the scenario's own among them.

    ``progress`` hears (done, all) runs.
    """
    loads = sorted({*_loads(deployed), own_load(next(iter(deployed.values())).scenario)}, key=_size)
    points = list[LoadPoint]()
    for load in loads:
        runs = {}
        for name, one in deployed.items():
            runs[name] = one.serve(load)
            if progress is not None:
                progress(len(points) * len(deployed) + len(runs), len(loads) * len(deployed))
        points.append(LoadPoint(load, runs))
    return tuple(points)


def _size(load: Load) -> float:
    return load.rate_per_s if load.clients is None else load.clients


def _loads(deployed: Mapping[str, Deployed]) -> list[Load]:
    scenario = next(iter(deployed.values())).scenario
    clients = scenario.workload.clients
    if clients is not None:
        counts = {round(clients.concurrency * 2.0**power) for power in range(-DOUBLINGS, DOUBLINGS + 1)}
        return [Load(0.0, clients=count) for count in counts if count]
    most = max(_most_served(one) for one in deployed.values())
    return [Load(float(f"{share * most:.2g}")) for share in SHARES]


def _most_served(deployed: Deployed) -> float:
    """Requests/s, by formula."""
    machine = assemble(deployed.scenario)
    most = min(machine.limits.max_num_seqs, largest_batch(machine, machine.context_tokens))
    return float(speeds(machine, most)[-1]) * deployed.scenario.deployment.decode_replicas


@dataclass(frozen=True, slots=True)
class Otherwise:
    """Alternatives where something is a share other than expected; "" and 0: as expected."""

    what: str
    change: float
    runs: Mapping[str, Summary]


def otherwise(deployed: Mapping[str, Deployed]) -> tuple[Otherwise, ...]:
    """As expected; the load, lengths and accepted drafts ``SHARE`` lower and higher."""
    own = own_load(next(iter(deployed.values())).scenario)
    found = [Otherwise("", 0.0, _runs(deployed, own))]
    for change in (-SHARE, SHARE):
        factor = 1.0 + change
        clients = None if own.clients is None else max(1, round(factor * own.clients))
        loads = {
            "load": replace(own, rate_per_s=factor * own.rate_per_s, clients=clients),
            "prompt tokens": replace(own, prompts=factor),
            "output tokens": replace(own, outputs=factor),
        }
        found += [Otherwise(what, change, _runs(deployed, load)) for what, load in loads.items()]
        if any(one.scenario.speculation is not None for one in deployed.values()):
            accepting = {name: one.accepting(factor) for name, one in deployed.items()}
            found.append(Otherwise("accepted drafts", change, _runs(accepting, own)))
    return tuple(sorted(found, key=lambda one: _ORDER.index(one.what)))


_ORDER = ("", "load", "prompt tokens", "output tokens", "accepted drafts")


def _runs(deployed: Mapping[str, Deployed], load: Load) -> dict[str, Summary]:
    return {name: one.serve(load) for name, one in deployed.items()}
