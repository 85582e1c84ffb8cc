"""What a scenario's requests live through: a discrete-event simulation of its replicas.

Two ways to the same result. Where replicas need no clock in common (open loops whose rules depend on nothing but the
batch) and prices come from tables, compiled replicas run ahead (``serving.fleet``). Else every replica is a SimPy
process. ``slowed_by`` tells what keeps a run from the compiled loop. A run drains unless it is stopped: it ends when
the last request has finished.

Not modelled: network, tokenising before a request reaches the scheduler. An asynchronous engine's steps are scheduled
one at a time here; what it hides of the host's time is in the price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import simpy

import specsim
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, Slo, left_waiting, queue_kept_growing
from specsim.serving.feed import Feed
from specsim.serving.obstacles import obstacles
from specsim.serving.price_table import TablePrices, looked_up
from specsim.serving.replica import Replica
from specsim.serving.router import RouterName
from specsim.workload.request import Requests, RequestSpec, requests_of

Progress = Callable[[int, int], None]

MOST_RECORDS = 20_000  # requests that a result keeps one by one; more are kept as totals
SHORTEST_PARTS = 64  # a streamed run is read in at least so many parts, to see its queue grow


@dataclass(frozen=True, slots=True)
class Run:
    """What to simulate: requests in parts, and what each replica is made of."""

    parts: Callable[[], Iterable[Requests]]
    rows: Callable[[], Iterable[RequestSpec]]
    count: int
    replicas: Sequence[Assembly]
    router: RouterName = "round_robin"
    clients: int | None = None  # of a closed loop
    slo: Slo | None = None  # whose goodput a streamed run counts


def simulate(
    assembly: Assembly,
    *,
    progress: Progress | None = None,
    keep: bool | None = None,
    replicas: Sequence[Assembly] | None = None,
) -> RunResult:
    """Serve the scenario's requests; ``progress`` hears (finished, all) now and then.

    ``keep``: whether the result holds every record; None: up to MOST_RECORDS requests. ``replicas``: in place of the
    scenario's own, for instance at other prices. Ctrl-C returns what is done.

    Raises NoAnswer: the model does not fit, or a request that the replica could never run.
    """
    scenario = assembly.scenario
    workload, deployment = scenario.workload, scenario.deployment
    count = workload.count()
    keep = count <= MOST_RECORDS if keep is None else keep
    size = 16_384 if keep else max(256, min(16_384, count // SHORTEST_PARTS))
    asked = Run(
        parts=lambda: workload.chunks(scenario.seed, size),
        rows=lambda: (row for part in workload.chunks(scenario.seed) for row in part.rows()),
        count=count, replicas=priced_replicas(assembly) if replicas is None else replicas,
        router=deployment.router, clients=None if workload.clients is None else workload.clients.concurrency,
        slo=scenario.slo,
    )  # fmt: skip
    slow = _obstacles(assembly, asked.replicas)
    result = _by_events(asked, progress) if slow else _fast(asked, keep, progress)
    return replace(
        result,
        scenario_sha256=scenario.sha256(),
        num_gpus=deployment.replicas * deployment.tensor_parallel,
        num_kv_blocks=asked.replicas[0].num_kv_blocks,
    )


def priced_replicas(assembly: Assembly) -> list[Assembly]:
    """The scenario's replicas, priced as it asks: from tables where these hold their prices, else step by step."""
    tables = assembly.scenario.cost.tables
    made = {one: looked_up(one) if tables else one for one in dict.fromkeys(assembly.replicas)}
    return [made[one] for one in assembly.replicas]


def slowed_by(assembly: Assembly) -> list[str]:
    """What keeps a run from the compiled loop; empty where nothing does."""
    return _obstacles(assembly, priced_replicas(assembly))


def _obstacles(assembly: Assembly, replicas: Sequence[Assembly]) -> list[str]:
    scenario = assembly.scenario
    found = ["a closed loop"] if scenario.workload.clients is not None else []
    classes = next(iter(scenario.workload.chunks(scenario.seed, 1))).classes
    for one in dict.fromkeys(replicas):
        if not isinstance(one.cost, TablePrices):
            found.append("prices that tables miss" if scenario.cost.tables else "cost.tables, which is false")
        found += obstacles(one, classes)
    return list(dict.fromkeys(found))


def run(
    requests: Sequence[RequestSpec] | Requests,
    replica: Assembly | Sequence[Assembly],
    *,
    replicas: int = 1,
    clients: int | None = None,
    router: RouterName = "round_robin",
    compiled: bool = False,
    keep: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Serve ``requests`` on ``replicas`` replicas alike, or on the given ones; with ``clients`` in a closed loop.

    ``compiled`` asks for the compiled loop. The result's ``scenario_sha256`` is empty.
    """
    fleet = [replica] * replicas if isinstance(replica, Assembly) else list(replica)
    if isinstance(requests, Requests):
        arrays, rows = requests, requests.rows
    else:
        ordered = list(requests) if clients is not None else sorted(requests, key=_arrival_s)
        arrays, rows = None, lambda: ordered
    asked = Run(
        lambda: [requests_of(rows()) if arrays is None else arrays], rows, len(requests), fleet, router, clients
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

    fleet = [Replica(environment, one, on_finish, number) for number, one in enumerate(asked.replicas)]
    seed = asked.replicas[0].seed
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
        saturated=asked.clients is None
        and queue_kept_growing(left_waiting(feed.arrivals_s, [one.steps for one in fleet]), len(feed.arrivals_s)),
        truncated=interrupted,
        interrupted=interrupted,
        num_gpus=len(fleet),
        rejected=feed.rejected,
        num_kv_blocks=asked.replicas[0].num_kv_blocks,
        itl_request=np.concatenate(owners) if owners else np.zeros(0, dtype=np.int64),
    )


def _fast(asked: Run, keep: bool, progress: Progress | None) -> RunResult:
    from specsim.serving.fleet import serve_all

    if asked.clients is not None:
        raise InvalidInput("a closed loop does not run compiled; leave compiled out")
    priced = {one: looked_up(one) for one in dict.fromkeys(asked.replicas)}
    asked = replace(asked, replicas=[priced[one] for one in asked.replicas])
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
