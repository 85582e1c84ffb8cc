"""What a scenario's requests live through: a discrete-event simulation of its replicas.

Two ways to the same result. Where replicas need no clock in common (open loops whose rules depend on nothing but the
batch) and there is enough to do, compiled replicas run ahead (``serving.fleet``). Else every replica is a SimPy
process. Large runs of either kind read prices from tables; small ones price every step on its own. ``slowed_by`` tells
what keeps a run from the compiled loop. A run drains unless it is stopped: it ends when the last request has finished.

Not modelled: network, tokenising before a request reaches the scheduler. An asynchronous engine's steps are scheduled
one at a time here; what it hides of the host's time is in the price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import simpy

import specsim
from specsim.cost.forward import SOURCES
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, Slo, queue_kept_growing
from specsim.scenario import Scenario
from specsim.serving.feed import Feed
from specsim.serving.obstacles import obstacles
from specsim.serving.replica import Replica
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
    rows: Callable[[], Iterable[RequestSpec]]
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
        rows=lambda: (row for part in workload.chunks(scenario.seed) for row in part.rows()),
        count=count, servers=servers_of(scenario) if servers is None else servers,
        router=deployment.router, clients=None if workload.clients is None else workload.clients.concurrency,
        slo=scenario.slo,
    )  # fmt: skip
    if not is_large(scenario) and (servers is None or not has_tables(servers)):
        result = _by_events(run_, progress)
    else:
        tables, slow = tabled_all(run_.servers)
        run_ = replace(run_, servers=tables)
        slow += _obstacles(scenario, tables)
        result = _by_events(run_, progress) if slow else _fast(run_, keep, progress)
    return replace(
        result,
        scenario_sha256=scenario.sha256(),
        num_gpus=deployment.replicas * deployment.tensor_parallel,
        num_kv_blocks=run_.servers[0].num_kv_blocks,
    )


def is_large(scenario: Scenario) -> bool:
    """Whether there is enough to do for compiled code and price tables; all alternatives of a workload agree."""
    return scenario.workload.count() * scenario.workload.mean_lengths()[1] >= ENOUGH_TOKENS


def slowed_by(scenario: Scenario) -> list[str]:
    """What keeps a large run from the compiled loop; empty where nothing does."""
    servers, slow = tabled_all(servers_of(scenario))
    return slow + _obstacles(scenario, servers)


def has_tables(servers: Sequence[Server]) -> bool:
    """Whether all are priced from tables, which a run of any size may then read."""
    from specsim.serving.price_table import TablePrices

    return all(isinstance(server.cost, TablePrices) for server in servers)


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


def _obstacles(scenario: Scenario, servers: Sequence[Server]) -> list[str]:
    found = ["a closed loop"] if scenario.workload.clients is not None else []
    classes = next(iter(scenario.workload.chunks(scenario.seed, 1))).classes
    for server in {id(server): server for server in servers}.values():
        found += obstacles(server, classes)
    return list(dict.fromkeys(found))


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
    compiled: bool = False,
    keep: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Serve ``requests`` on ``replicas`` servers alike, or on the given ones; with ``clients`` in a closed loop.

    ``compiled`` asks for the compiled loop. The result's ``scenario_sha256`` is empty.
    """
    servers = [server] * replicas if isinstance(server, Server) else list(server)
    if isinstance(requests, Requests):
        arrays, rows = requests, requests.rows
    else:
        ordered = list(requests) if clients is not None else sorted(requests, key=_arrival_s)
        arrays, rows = None, lambda: ordered
    asked = Run(
        lambda: [requests_of(rows()) if arrays is None else arrays], rows, len(requests), servers, router, clients
    )
    return _fast(asked, keep, progress) if compiled else _by_events(asked, progress)


def _arrival_s(request: RequestSpec) -> float:
    if request.arrival_s is None:
        raise InvalidInput(f"request {request.request_id} has no arrival time; give one, or closed-loop clients")
    return request.arrival_s


def _by_events(asked: Run, progress: Progress | None) -> RunResult:
    environment = simpy.Environment()
    finished: list[RequestRecord] = []

    def on_finish(record: RequestRecord) -> None:
        finished.append(record)
        feed.on_finish(record.finish_s)
        if progress is not None:
            progress(len(finished), asked.count)

    fleet = [Replica(environment, server, on_finish, number) for number, server in enumerate(asked.servers)]
    seed = asked.servers[0].seed
    feed = Feed(environment, asked.rows(), fleet, clients=asked.clients, router=asked.router, seed=seed)
    interrupted = False
    try:
        environment.run()
    except KeyboardInterrupt:
        interrupted = True
    finished.sort(key=lambda record: record.request_id)
    gaps = [np.frombuffer(one.gaps_s, dtype=np.float64) for one in fleet if one.gaps_s]
    owners = [np.frombuffer(one.gap_request, dtype=np.int64) for one in fleet if one.gap_request]
    return RunResult(
        engine="simulated",
        scenario_sha256="",
        duration_s=max((record.finish_s for record in finished), default=0.0),
        requests=finished,
        steps=sorted((step for one in fleet for step in one.steps), key=lambda step: step.start_s),
        itl_s=np.concatenate(gaps) if gaps else np.zeros(0),
        acceptance=_pooled([one.acceptance for one in fleet]),
        price_source=SOURCES[max(one.worst_source for one in fleet)],
        versions=_versions(),
        saturated=asked.clients is None and queue_kept_growing(feed.arrivals_s, [one.steps for one in fleet]),
        truncated=interrupted,
        interrupted=interrupted,
        num_gpus=len(fleet),
        rejected=feed.rejected,
        num_kv_blocks=asked.servers[0].num_kv_blocks,
        itl_request=np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64),
    )


def _fast(asked: Run, keep: bool, progress: Progress | None) -> RunResult:
    from specsim.serving.fleet import serve_all
    from specsim.serving.price_table import TablePrices

    if asked.clients is not None:
        raise InvalidInput("a closed loop does not run compiled; leave compiled out")
    if not all(isinstance(server.cost, TablePrices) for server in asked.servers):
        asked = replace(asked, servers=tabled_all(asked.servers)[0])
    return replace(serve_all(asked, keep=keep, progress=progress), versions=_versions())


def _versions() -> dict[str, str]:
    return {"specsim": specsim.__version__, "simpy": simpy.__version__, "numpy": np.__version__}


def _pooled(counts: Sequence[AcceptanceCounts]) -> AcceptanceCounts:
    total = AcceptanceCounts()
    for one in counts:
        for drafted, row in one.rounds.items():
            for accepted, rounds in row.items():
                total.add(drafted, accepted, rounds)
    return total
