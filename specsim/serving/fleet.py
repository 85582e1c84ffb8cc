"""Open-loop runs on the compiled loop: replicas run ahead on their own until something could change what they do.

Replicas meet only where requests are routed. Under round robin nothing of one replica concerns another, so each runs
to the end of what is known of its arrivals. Routers that look at the replicas bring all that they ask to the moment
of each arrival. Requests are read in parts and the log is emptied as it fills, so memory depends on what is in the
system, not on how long the run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specsim.cost.forward import SOURCES
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, StepRecord, queue_kept_growing
from specsim.scheduling.replica import refuse_endless as refuse
from specsim.scheduling.scheduler import Scheduler
from specsim.serving.compiled import loop, state
from specsim.serving.compiled.entry import compiled_serve
from specsim.serving.price_table import TablePrices
from specsim.serving.router import RouterName, candidates
from specsim.serving.server import Server
from specsim.serving.sinks import Records, Sink, Streamed
from specsim.speculation.acceptance import LatentAcceptance
from specsim.workload.request import Requests

if TYPE_CHECKING:
    from specsim.serving.simulate import Progress, Run

LOG_ROWS, LOG_GAPS, FIRST_ROWS = 8192, 65_536, 4096


def serve_all(asked: Run, *, keep: bool, progress: Progress | None) -> RunResult:
    """A whole run. Ctrl-C ends it with what is done."""
    parts = iter(asked.parts())
    first = next(parts, None)
    classes = ("default",) if first is None else first.classes
    fleet = Fleet(asked.servers, classes, router=asked.router)
    sink = _Told(Records(classes) if keep else Streamed(asked.slo), asked.count, progress)
    interrupted = False
    try:
        fleet.serve([] if first is None else chain([first], parts), sink)
    except KeyboardInterrupt:
        interrupted = True
    kept, streamed = (sink.inner, None) if isinstance(sink.inner, Records) else (None, sink.inner)
    requests, steps = (kept.requests(), kept.steps()) if kept else ([], [])
    gaps, owners = kept.gaps() if kept else (np.zeros(0), None)
    return RunResult(
        engine="simulated",
        scenario_sha256="",
        duration_s=streamed.last_finish_s if streamed else max((one.finish_s for one in requests), default=0.0),
        requests=requests,
        steps=steps,
        itl_s=gaps,
        acceptance=fleet.acceptance(),
        price_source=SOURCES[int(fleet.log.totals[state.WORST_RANK])],
        saturated=fleet.queue_kept_growing() if streamed else _kept_growing(requests, steps, len(asked.servers)),
        truncated=interrupted,
        interrupted=interrupted,
        num_gpus=len(asked.servers),
        rejected=int(fleet.log.totals[state.REJECTED]),
        num_kv_blocks=asked.servers[0].num_kv_blocks,
        itl_request=owners,
        totals=streamed.totals if streamed else None,
    )


def _kept_growing(requests: Sequence[RequestRecord], steps: Sequence[StepRecord], replicas: int) -> bool:
    by_replica: list[list[StepRecord]] = [[] for _ in range(replicas)]
    for step in steps:
        by_replica[step.replica].append(step)
    return queue_kept_growing([one.arrival_s for one in requests], by_replica)


class _Told:
    """A sink that tells how far the run is."""

    def __init__(self, inner: Records | Streamed, count: int, progress: Progress | None) -> None:
        self.inner, self._count, self._progress = inner, count, progress

    def take(self, *columns: Any) -> None:
        self.inner.take(*columns)
        if self._progress is not None:
            self._progress(self.inner.finished, self._count)


class Fleet:
    """Replicas on arrays; ``servers[r]`` is what replica r is made of."""

    def __init__(
        self, servers: Sequence[Server], classes: Sequence[str], *, router: RouterName
    ) -> None:  # fmt: skip
        """Raises InvalidInput for a server whose prices are no tables."""
        self._kinds = list(dict.fromkeys(map(id, servers)))
        by_id = {id(server): server for server in servers}
        self.servers = [by_id[kind] for kind in self._kinds]
        self._schedulers = [server.scheduler() for server in self.servers]
        self._classes = tuple(classes)
        self._seed = servers[0].seed
        self._router: RouterName = router
        self.settings = tuple(_setting(server, self._classes) for server in self.servers)
        groups = [self._kinds.index(id(server)) for server in servers]
        self._state = state.new_state(FIRST_ROWS, groups, self.settings)
        longest = max(server.longest for server in self.servers)
        seqs = max(server.limits.max_num_seqs for server in self.servers)
        self.log = state.new_log(max(LOG_ROWS, 2 * seqs), max(LOG_GAPS, 2 * seqs), longest)
        self.queued: list[tuple[float, int]] = []  # (time, requests waiting) at the end of each part
        self.routed = 0
        self.first_arrival_s: float | None = None

    def serve(self, parts: Iterable[Requests], sink: Sink) -> None:
        """Serve all requests, in order of arrival. Raises NoAnswer for one that could never run."""
        last = None
        for last in parts:
            for scheduler in self._schedulers:
                refuse_endless(scheduler, last)
            self._serve_part(last, float(_arrivals_s(last)[-1]), sink)
            self.queued.append((float(_arrivals_s(last)[-1]), int(self._state.replicas["waiting"].sum())))
        if last is not None:
            self._serve_part(last.part(len(last), len(last)), np.inf, sink)

    def _serve_part(self, part: Requests, horizon_s: float, sink: Sink) -> None:
        arrivals_s, routed = _arrivals_s(part), self.routed
        if self.first_arrival_s is None:
            self.first_arrival_s = float(arrivals_s[0])
        if (np.diff(arrivals_s, prepend=self.queued[-1][0] if self.queued else self.first_arrival_s) < 0).any():
            raise InvalidInput("arrival times descend; sort the requests by arrival")
        numbers = np.arange(part.first_id, part.first_id + len(part))
        prompts, outputs = part.prompt_tokens.astype(np.int64), part.output_tokens.astype(np.int64)
        law = part.class_index.astype(np.int64)
        level = self._levels(part, numbers)
        count = len(self._state.replicas)
        asked = candidates(self._router, count, self._seed, np.arange(routed, routed + len(part)))
        serve, index = compiled_serve(), 0
        while True:
            status, index = serve(
                self._state, self.settings, np.uint64(self._seed % 2**64), index, part.first_id,
                arrivals_s, prompts, outputs, law, level, np.ascontiguousarray(asked), horizon_s, self.log,
            )  # fmt: skip
            self._empty(sink)
            if status == loop.ROWS_FULL:
                self._state = state.grown(self._state, 2 * len(self._state.requests))
            elif status == loop.DONE:
                break
        self.routed += len(part)

    def _empty(self, sink: Sink) -> None:
        finished, steps, gaps = self.log.used.tolist()
        log = self.log
        sink.take(
            log.finished[:finished], log.finished_s[:finished], log.steps[:steps], log.steps_s[:steps],
            log.gaps_s[:gaps], log.gap_request[:gaps],
        )  # fmt: skip
        log.used[:] = 0

    def _levels(self, part: Requests, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        levels = np.ones(len(part))
        for index, name in enumerate(self._classes):
            law = self.servers[0].law(name) or next((s.law(name) for s in self.servers if s.law(name)), None)
            mine = part.class_index == index
            if isinstance(law, LatentAcceptance) and mine.any():
                levels[mine] = law.track(self._seed, numbers[mine], 1)[:, 0, 0]
        return levels

    def queue_kept_growing(self) -> bool:
        """As ``results.queue_kept_growing``, from what waited at the end of each part."""
        if self.first_arrival_s is None:
            return False
        last_s, at_end = self.queued[-1]
        half_way = [waiting for time_s, waiting in self.queued if time_s <= (self.first_arrival_s + last_s) / 2]
        return at_end > 2 * self.routed**0.5 and at_end > 1.5 * (half_way[-1] if half_way else 0)

    def acceptance(self) -> AcceptanceCounts:
        """The record h[d][j] so far."""
        counts = AcceptanceCounts()
        for drafted, accepted in np.argwhere(self.log.acceptance).tolist():
            counts.add(drafted, accepted, int(self.log.acceptance[drafted, accepted]))
        return counts


def refuse_endless(scheduler: Scheduler, part: Requests) -> None:
    """Raises NoAnswer for a request that the scheduler would never finish.

    What a request needs grows with its length and with nothing else, so the longest one speaks for all.
    """
    row = int(np.argmax(part.prompt_tokens.astype(np.int64) + part.output_tokens))
    refuse(scheduler.engine, part.first_id + row, int(part.prompt_tokens[row]), int(part.output_tokens[row]))


def _arrivals_s(part: Requests) -> NDArray[np.float64]:
    if part.arrival_s is None:
        raise InvalidInput(f"request {part.first_id} has no arrival time; give one, or closed-loop clients")
    return part.arrival_s


def _setting(server: Server, classes: Sequence[str]) -> state.Setting:
    if not isinstance(server.cost, TablePrices):
        raise InvalidInput("the compiled loop reads prices from tables; make them with price_table.tabled")
    limits, scheduler = server.limits, server.scheduler()
    longest = 2**60 if limits.max_model_len is None else limits.max_model_len
    decider = server.decider()
    table = [0] if decider is None else [min(k, server.longest) for k in decider.table() or [0]]
    rates = np.zeros((len(classes), max(1, server.longest)))
    for row, name in enumerate(classes):
        law = server.law(name)
        if isinstance(law, LatentAcceptance):
            rates[row] = law.decay ** np.arange(rates.shape[1])
        elif law is not None and server.longest:
            rates[row] = law.conditional_rates(server.longest)
    plain = state.Limits(
        limits.max_num_seqs, limits.max_num_batched_tokens, limits.block_size, scheduler.num_blocks,
        int(limits.watermark * server.num_kv_blocks), int(limits.scheduler_reserve_full_isl),
        int(limits.chunked_prefill), limits.long_prefill_token_threshold,
        int(limits.long_prefill_token_threshold_adaptive), longest, server.lookahead_tokens, server.draft_slots,
        server.longest if server.pads_new_decodes else 0, int(server.verifies_drafts),
        2**60 if server.max_queue is None else server.max_queue,
    )  # fmt: skip
    return state.Setting(plain, np.array(table, dtype=np.int64), rates, server.cost.prices)
