"""What a scenario's requests live through: a discrete-event simulation of its replicas.

Two drives of one compiled step give the same result: a compiled loop over all events (``serving.loop``), and SimPy
(``serving.events``), to which more can be added. A run drains unless it is stopped: it ends when the last request has
finished.

A request takes the front end's time to the scheduler, and its tokens theirs to the client. An asynchronous engine
chooses a step's work when the step before it begins: who arrives later waits for both. Its steps are booked one at a
time here, so that no step computes what a request no longer needs; what it hides of the host's time is in the price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specsim.assembly import Assembly
from specsim.progress import Progress
from specsim.results import RunResult, Slo, StepLimits
from specsim.serving.prices import priced_replicas
from specsim.specs.deployment import Disaggregation
from specsim.workload.request import Requests, RequestSpec, requests_of

if TYPE_CHECKING:
    from specsim.serving.router import RouterName

MOST_RECORDS = 20_000  # requests that a result keeps one by one; more are kept as totals
SHORTEST_PARTS = 64  # a streamed run is read in at least so many parts, to see its queue grow


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
    from specsim.serving.drive import ServingRun, serve_all  # numba comes with it

    scenario = assembly.scenario
    workload, deployment = scenario.workload, scenario.deployment
    count = workload.count()
    keep = count <= MOST_RECORDS if keep is None else keep
    size = 16_384 if keep else max(256, min(16_384, count // SHORTEST_PARTS))
    asked = ServingRun(
        parts=lambda: workload.chunks(scenario.seed, size),
        count=count,
        replicas=priced_replicas(assembly) if replicas is None else replicas,
        router=deployment.router,
        clients=None if workload.clients is None else workload.clients.concurrency,
        disaggregation=deployment.disaggregation,
        slo=scenario.slo,
        limits=_limits(assembly),
    )
    result = serve_all(asked, keep=keep, progress=progress)
    return replace(
        result,
        scenario_sha256=scenario.sha256(),
        num_gpus=deployment.replicas * deployment.tensor_parallel,
        num_kv_blocks=asked.replicas[0].num_kv_blocks,
    )


def _limits(assembly: Assembly) -> StepLimits:
    prompt, _ = assembly.scenario.workload.mean_lengths()
    return StepLimits(
        assembly.limits.max_num_seqs,
        assembly.limits.max_num_batched_tokens,
        assembly.num_kv_blocks,
        int(assembly.memory.layout.blocks_for(prompt)),
    )


def run(
    requests: Sequence[RequestSpec] | Requests,
    replica: Assembly | Sequence[Assembly],
    *,
    replicas: int = 1,
    clients: int | None = None,
    router: RouterName = "round_robin",
    disaggregation: Disaggregation | None = None,
    slo: Slo | None = None,
    by_events: bool = False,
    keep: bool = True,
    progress: Progress | None = None,
) -> RunResult:
    """Serve ``requests`` on ``replicas`` replicas alike, or on the given ones; with ``clients`` in a closed loop.

    With ``disaggregation`` these are replicas of its prefill pool and then of its decode pool. ``slo``: whose goodput
    is counted where records are not kept. ``by_events``: SimPy drives it, not the compiled loop. The result's
    ``scenario_sha256`` is empty.
    """
    from specsim.serving.drive import ServingRun, serve_all

    fleet = [replica] * replicas if isinstance(replica, Assembly) else list(replica)
    if isinstance(requests, Requests):
        parts = [requests]
    else:
        parts = [requests_of(list(requests) if clients is not None else sorted(requests, key=RequestSpec.due_s))]
    asked = ServingRun(lambda: parts, len(requests), fleet, router, clients, disaggregation, slo)
    return serve_all(asked, keep=keep, progress=progress, by_events=by_events)
