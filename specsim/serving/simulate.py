"""What a scenario's requests live through: a discrete-event simulation of its replicas.

Two drives of one compiled step give the same result: a compiled loop over all events (``serving.loop``), and SimPy
(``serving.events``), to which more can be added. Large runs read prices from tables; small ones price every step on
its own. A run drains unless it is stopped: it ends when the last request has finished.

Not modelled: network, tokenising before a request reaches the scheduler. An asynchronous engine's steps are scheduled
one at a time here; what it hides of the host's time is in the price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import simpy

import specsim
from specsim.errors import InvalidInput
from specsim.results import RunResult, Slo
from specsim.scenario import Scenario
from specsim.serving.drive import serve_all
from specsim.serving.router import RouterName
from specsim.serving.server import Server
from specsim.workload.request import Requests, RequestSpec, requests_of

Progress = Callable[[int, int], None]

ENOUGH_TOKENS = 200_000  # output tokens from which loading compiled code and making price tables pays
MOST_RECORDS = 20_000  # requests that a result keeps one by one; more are kept as totals
SHORTEST_PARTS = 64  # a streamed run is read in at least so many parts, to see its queue grow


@dataclass(frozen=True, slots=True)
class Run:
    """What to simulate: requests in parts, and the servers of all replicas."""

    parts: Callable[[], Iterable[Requests]]
    count: int
    servers: Sequence[Server]
    router: RouterName = "round_robin"
    clients: int | None = None  # of a closed loop
    slo: Slo | None = None  # whose goodput a streamed run counts


def simulate(
    scenario: Scenario,
    *,
    progress: Progress | None = None,
    keep: bool | None = None,
    servers: Sequence[Server] | None = None,
) -> RunResult:
    """Serve the scenario's requests; ``progress`` hears (finished, all) now and then.

    ``keep``: whether the result holds every record; None: up to MOST_RECORDS requests. ``servers``: in place of
    ``servers_of`` the scenario, for instance at other prices. Ctrl-C returns what is done.

    Raises NoAnswer: the model does not fit, or a request that the replica could never run.
    """
    workload, deployment = scenario.workload, scenario.deployment
    count = workload.count()
    keep = count <= MOST_RECORDS if keep is None else keep
    size = 16_384 if keep else max(256, min(16_384, count // SHORTEST_PARTS))
    run_ = Run(
        parts=lambda: workload.chunks(scenario.seed, size),
        count=count, servers=servers_of(scenario) if servers is None else servers,
        router=deployment.router, clients=None if workload.clients is None else workload.clients.concurrency,
        slo=scenario.slo,
    )  # fmt: skip
    if is_large(scenario):
        run_ = replace(run_, servers=tabled_all(run_.servers)[0])
    result = _served(run_, keep=keep, progress=progress)
    return replace(
        result,
        scenario_sha256=scenario.sha256(),
        num_gpus=deployment.replicas * deployment.tensor_parallel,
        num_kv_blocks=run_.servers[0].num_kv_blocks,
    )


def is_large(scenario: Scenario) -> bool:
    """Whether there is enough to do for compiled code and price tables; all alternatives of a workload agree."""
    return scenario.workload.count() * scenario.workload.mean_lengths()[1] >= ENOUGH_TOKENS


def tabled_all(servers: Sequence[Server]) -> tuple[list[Server], list[str]]:
    """The servers priced from tables where tables hold their prices, and what stands in the way."""
    from specsim.serving.price_table import InexactTables, tabled

    made: dict[int, Server] = {}
    slow = []
    for server in servers:
        if id(server) not in made:
            try:
                made[id(server)] = tabled(server)
            except InexactTables as error:
                made[id(server)] = server
                slow.append(str(error))
    return [made[id(server)] for server in servers], slow


def servers_of(scenario: Scenario) -> list[Server]:
    """One server a replica, equal replicas sharing theirs."""
    deployment = scenario.deployment
    plain_count = deployment.replicas_without_speculation if scenario.speculation else 0
    kinds = [(scenario, deployment.replicas - plain_count), (scenario.without_speculation(), plain_count)]
    return [server for kind, count in kinds if count for server in [_server(kind)] * count]


def _server(scenario: Scenario) -> Server:
    return Server(
        scenario.engine, scenario.kv_blocks(), scenario.round_cost(), scenario.speculation, scenario.seed,
        acceptance_by_class=scenario.workload.acceptance_by_class() if scenario.speculation else {},
        max_queue=scenario.deployment.max_queue, graph_sizes=scenario.graph_sizes(),
        context_tokens=scenario.mean_context_tokens(),
    )  # fmt: skip


def run(
    requests: Sequence[RequestSpec] | Requests,
    server: Server | Sequence[Server],
    *,
    replicas: int = 1,
    clients: int | None = None,
    router: RouterName = "round_robin",
    by_events: bool = False,
    keep: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Serve ``requests`` on ``replicas`` servers alike, or on the given ones; with ``clients`` in a closed loop.

    ``by_events``: SimPy drives it, not the compiled loop. The result's ``scenario_sha256`` is empty.
    """
    servers = [server] * replicas if isinstance(server, Server) else list(server)
    if isinstance(requests, Requests):
        parts = [requests]
    else:
        parts = [requests_of(list(requests) if clients is not None else sorted(requests, key=_arrival_s))]
    asked = Run(lambda: parts, len(requests), servers, router, clients)
    return _served(asked, keep=keep, progress=progress, by_events=by_events)


def _arrival_s(request: RequestSpec) -> float:
    if request.arrival_s is None:
        raise InvalidInput(f"request {request.request_id} has no arrival time; give one, or closed-loop clients")
    return request.arrival_s


def _served(asked: Run, *, keep: bool, progress: Progress | None, by_events: bool = False) -> RunResult:
    return replace(serve_all(asked, keep=keep, progress=progress, by_events=by_events), versions=_versions())


def _versions() -> dict[str, str]:
    return {"specsim": specsim.__version__, "simpy": simpy.__version__, "numpy": np.__version__}
