"""A whole run by either drive, and its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import simpy

from specsim.arrays import Records
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES
from specsim.progress import Progress
from specsim.results import RequestRecord, RunResult, Slo, StepLimits, StepRecord, left_waiting, queue_kept_growing
from specsim.results.metrics import Waiting
from specsim.serving.fleet import Fleet
from specsim.serving.router import RouterName
from specsim.serving.sinks import KeptRecords, RunningTotals
from specsim.specs.deployment import Disaggregation
from specsim.version import __version__
from specsim.workload.request import DEFAULT_CLASS, Requests


@dataclass(frozen=True, slots=True)
class ServingRun:
    """What to simulate: requests in parts, and what each replica is made of."""

    parts: Callable[[], Iterable[Requests]]
    count: int
    replicas: Sequence[Assembly]
    router: RouterName = "round_robin"
    clients: int | None = None  # of a closed loop
    disaggregation: Disaggregation | None = None
    slo: Slo | None = None  # whose goodput a streamed run counts
    limits: StepLimits | None = None  # of one replica


def serve_all(
    asked: ServingRun, *, keep: bool, by_events: bool = False, progress: Progress | None = None
) -> RunResult:
    """A whole run; ``by_events``: driven by SimPy, which is slower. Ctrl-C ends it with what is done."""
    parts = iter(asked.parts())
    first = next(parts, None)
    classes = (DEFAULT_CLASS,) if first is None else first.classes
    fleet = Fleet(
        asked.replicas, classes, router=asked.router, clients=asked.clients, disaggregation=asked.disaggregation
    )
    kept = KeptRecords(classes) if keep else RunningTotals(asked.slo, asked.limits)
    sink = _ReportingSink(kept, asked.count, progress)
    whole, interrupted = [] if first is None else chain([first], parts), False
    try:
        if by_events:
            from specsim.serving.events import serve_by_events

            serve_by_events(fleet, whole, sink, at_once=progress is not None)
        else:
            fleet.serve(whole, sink)
    except KeyboardInterrupt:
        interrupted = True
    return _result(asked, fleet, kept, interrupted)


def _result(asked: ServingRun, fleet: Fleet, sink: KeptRecords | RunningTotals, interrupted: bool) -> RunResult:
    kept, streamed = (sink, None) if isinstance(sink, KeptRecords) else (None, sink)
    requests, steps = (kept.requests(), kept.steps()) if kept else ([], [])
    gaps, owners = kept.gaps() if kept else (np.zeros(0), None)
    waiting = fleet.left_waiting() if streamed else _left_waiting(requests, steps, fleet)
    return RunResult(
        engine="simulated",
        scenario_sha256="",
        duration_s=streamed.last_finish_s if streamed else max((one.finish_s for one in requests), default=0.0),
        requests=requests,
        steps=steps,
        itl_s=gaps,
        acceptance=fleet.log.acceptance(),
        price_source=SOURCES[int(fleet.log.record["worst_rank"][0])],
        saturated=asked.clients is None and queue_kept_growing(waiting, int(fleet.record["sent"][0])),
        truncated=interrupted,
        interrupted=interrupted,
        num_gpus=len(asked.replicas),
        rejected=int(fleet.log.record["rejected"][0]),
        kv_transfers=fleet.kv_transfers(),
        num_kv_blocks=asked.replicas[0].num_kv_blocks,
        itl_request=owners,
        limits=asked.limits,
        totals=streamed.totals if streamed else None,
        step_totals=streamed.step_totals if streamed else None,
        versions={"specsim": __version__, "simpy": simpy.__version__, "numpy": np.__version__},
    )


def _left_waiting(requests: Sequence[RequestRecord], steps: Sequence[StepRecord], fleet: Fleet) -> Waiting:
    by_replica: list[list[StepRecord]] = [[] for _ in fleet.replicas]
    for step in steps:
        by_replica[step.replica].append(step)
    first = fleet.first_pool
    others = by_replica[: first.start] + by_replica[first.stop :]
    return left_waiting([one.arrival_s for one in requests], by_replica[first], others)


class _ReportingSink:
    """A sink that tells how far the run is."""

    def __init__(self, inner: KeptRecords | RunningTotals, count: int, progress: Progress | None) -> None:
        self._inner, self._count, self._progress = inner, count, progress

    def take(self, finished: Records, steps: Records, gaps: Records) -> None:
        before = self._inner.finished
        self._inner.take(finished, steps, gaps)
        if self._progress is not None and self._inner.finished > before:
            self._progress(self._inner.finished, self._count)
