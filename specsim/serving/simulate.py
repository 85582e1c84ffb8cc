"""What a scenario's requests live through: a discrete-event simulation of its replicas.

Requests go to replicas in turn. A run always drains: it ends when the last request has finished, so ``truncated`` is
never set. Not modelled: routing by load, network, tokenising before a request reaches the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import simpy

import specsim
from specsim.cost.forward import SOURCES
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, queue_kept_growing
from specsim.scenario import Scenario, SyntheticWorkload
from specsim.serving.replica import Replica, Server
from specsim.workload.arrivals import ClosedLoopArrivals
from specsim.workload.request import RequestSpec

Progress = Callable[[int, int], None]


def simulate(scenario: Scenario, *, progress: Progress | None = None) -> RunResult:
    """Serve the scenario's requests; ``progress`` hears (finished, all) after each.

    Raises NoAnswer: the model does not fit, or a request that the replica could never run.
    """
    server = Server(scenario.engine, scenario.kv_blocks(), scenario.round_cost(), scenario.speculation, scenario.seed)
    workload = scenario.workload
    arrivals = workload.arrivals if isinstance(workload, SyntheticWorkload) else None
    clients = arrivals if isinstance(arrivals, ClosedLoopArrivals) else None
    replicas = scenario.deployment.replicas
    result = run(scenario.requests(), server, replicas=replicas, clients=clients, progress=progress)
    return replace(result, scenario_sha256=scenario.sha256())


def run(
    requests: Sequence[RequestSpec],
    server: Server,
    *,
    replicas: int = 1,
    clients: ClosedLoopArrivals | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Serve ``requests`` on ``replicas`` servers alike; with ``clients`` their arrival times are not looked at.

    The result's ``scenario_sha256`` is empty.
    """
    environment = simpy.Environment()
    finished: list[RequestRecord] = []

    def on_finish(record: RequestRecord) -> None:
        finished.append(record)
        feed.on_finish()
        if progress is not None:
            progress(len(finished), len(requests))

    fleet = [Replica(environment, server, on_finish) for _ in range(replicas)]
    feed = _Feed(environment, requests, fleet, clients)
    environment.run()
    finished.sort(key=lambda record: record.request_id)
    return RunResult(
        engine="simulated",
        scenario_sha256="",
        duration_s=max((record.finish_s for record in finished), default=0.0),
        requests=finished,
        steps=sorted((step for one in fleet for step in one.steps), key=lambda step: step.start_s),
        itl_s=np.concatenate([np.asarray(one.gaps_s, dtype=np.float64) for one in fleet]),
        acceptance=_pooled([one.acceptance for one in fleet]),
        price_source=SOURCES[max(one.worst_source for one in fleet)],
        versions={"specsim": specsim.__version__, "simpy": simpy.__version__, "numpy": np.__version__},
        saturated=clients is None
        and queue_kept_growing([_arrival_s(request) for request in requests], [one.steps for one in fleet]),
        truncated=len(finished) < len(requests),
        num_gpus=replicas,
    )


class _Feed:
    """Submits requests in order, to replicas in turn: at their times, or as ``clients`` get their answers."""

    def __init__(
        self,
        environment: simpy.Environment,
        requests: Sequence[RequestSpec],
        fleet: Sequence[Replica],
        clients: ClosedLoopArrivals | None,
    ) -> None:
        self._environment = environment
        self._clients = clients
        self._queue = iter(requests if clients else sorted(requests, key=_arrival_s))
        self._turns = cycle(fleet)
        if clients is None:
            environment.process(self._open_loop())
        else:
            for request in islice(self._queue, clients.concurrency):
                self._send(request, environment.now)

    def on_finish(self) -> None:
        """A client has its answer; one that does not think is heard before the replica's next step."""
        if self._clients is None:
            return
        request = next(self._queue, None)
        if request is None:
            return
        if self._clients.think_s:
            self._environment.process(self._after_thinking(request, self._clients.think_s))
        else:
            self._send(request, self._environment.now)

    def _open_loop(self) -> Generator[simpy.Event, Any, None]:
        environment = self._environment
        for request in self._queue:
            arrival_s = _arrival_s(request)
            while environment.now < arrival_s:  # now + (arrival - now) may fall one rounding short of it
                yield environment.timeout(arrival_s - environment.now)
            self._send(request, arrival_s)

    def _after_thinking(self, request: RequestSpec, think_s: float) -> Generator[simpy.Event, Any, None]:
        yield self._environment.timeout(think_s)
        self._send(request, self._environment.now)

    def _send(self, request: RequestSpec, arrival_s: float) -> None:
        next(self._turns).submit(request, arrival_s)


def _arrival_s(request: RequestSpec) -> float:
    if request.arrival_s is None:
        raise InvalidInput(f"request {request.request_id} has no arrival time; give one, or closed-loop clients")
    return request.arrival_s


def _pooled(counts: Sequence[AcceptanceCounts]) -> AcceptanceCounts:
    total = AcceptanceCounts()
    for one in counts:
        for drafted, row in one.rounds.items():
            for accepted, rounds in row.items():
                total.add(drafted, accepted, rounds)
    return total
