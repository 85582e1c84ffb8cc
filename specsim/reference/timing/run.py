"""What a scenario's workload lives through on this machine, served on the wall clock.

With the scenario's trained weights requests continue its prompts and drafts are verified. Else both are random and its
law imposes acceptance; ``versions`` of the result says which. The scheduler is the one that the simulator uses; KV
slots hold whole sequences, so ``num_kv_blocks`` limits the schedule and not the memory taken.
"""

from __future__ import annotations

import gc
import heapq
import platform
import time
from collections.abc import Callable

import numpy as np
import torch

from specsim.arrays import Integers
from specsim.assembly import Assembly
from specsim.errors import InvalidInput
from specsim.reference.decoding.engine import Engine
from specsim.reference.decoding.generate import Outcome, run_step
from specsim.reference.decoding.models import build_models, drafter
from specsim.reference.timing.rehearsal import rehearse
from specsim.results import AcceptanceCounts, RequestRecord, RunResult, StepRecord, left_waiting, queue_kept_growing
from specsim.scenario import Scenario
from specsim.scenario.prompts import request_prompts
from specsim.scheduling.scheduler import Scheduler, SequenceState
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy.deciders import ByBatch
from specsim.version import __version__
from specsim.workload.request import RequestSpec


def serve(assembly: Assembly, *, device: str = "cpu", between_steps: Callable[[], None] = lambda: None) -> RunResult:
    """Serve the scenario's requests with their arrival times on the wall clock; a step's tokens appear at its end.

    ``between_steps`` is called before every step and every wait, and takes from the run what time it takes.

    Raises InvalidInput without ``num_kv_blocks``, for what the engine does not do and for weights or prompts that do
    not fit, NoAnswer for a request that could never run.
    """
    scenario = assembly.scenario
    imposed = scenario.speculation is not None and scenario.weights is None
    _refuse_unfit(scenario, imposed=imposed)
    requests = scenario.requests()
    session = _session(assembly, requests, device, imposed=imposed)
    duration_s = session.run(between_steps)
    log = session.log
    arrivals_s = [r.arrival_s for r in requests if r.arrival_s is not None]  # none in a closed loop
    return RunResult(
        engine="reference",
        scenario_sha256=scenario.sha256(),
        duration_s=duration_s,
        requests=sorted(log.finished, key=lambda r: r.request_id),
        steps=log.steps,
        itl_s=np.array(log.gaps_s, dtype=np.float64),
        acceptance=log.acceptance,
        price_source="wall clock",
        versions=_versions(device)
        | ({"acceptance": "imposed" if imposed else "real"} if scenario.speculation else {}),
        saturated=queue_kept_growing(left_waiting(arrivals_s, [log.steps]), len(arrivals_s)),
    )


def _refuse_unfit(scenario: Scenario, *, imposed: bool) -> None:
    """Raises InvalidInput for what the engine does not do."""
    if scenario.engine.num_kv_blocks is None:
        raise InvalidInput("num_kv_blocks is null; a reference run needs it: set engine.num_kv_blocks")
    if scenario.engine.prefix_caching:
        raise InvalidInput("prefix_caching is true and a reference run shares no prefixes; set it to false")
    if imposed and scenario.workload.acceptance_by_class():
        raise InvalidInput("workload.classes give acceptance laws and a reference run imposes one law; remove them")


def _session(assembly: Assembly, requests: list[RequestSpec], device: str, *, imposed: bool) -> _Session:
    """Models, engine and scheduler, warmed up."""
    scenario = assembly.scenario
    limits, speculation = scenario.engine, scenario.speculation
    program = speculation.program if speculation else None
    max_draft_tokens = speculation.max_draft_tokens if speculation else 0
    longest = max(r.prompt_tokens + r.output_tokens for r in requests)
    prompts = _prompts(scenario, requests)
    models = build_models(
        scenario,
        device=device,
        max_sequences=min(limits.max_num_seqs, len(requests)),
        max_length=longest + (program.cache_places(max_draft_tokens) if program else 0) + 1,
    )
    draws = AcceptanceDraws(speculation.acceptance, scenario.seed) if speculation and imposed else None
    engine = Engine(models.target, drafter(models, scenario), draws)
    scheduler = Scheduler(
        limits,
        limits.num_kv_blocks or 0,
        max_draft_tokens=max_draft_tokens,
        lookahead_tokens=program.lookahead_tokens(max_draft_tokens) if program else 0,
        draft_slots=program.budget_tokens(max_draft_tokens) if program else 0,
    )
    session = _Session(assembly, requests, prompts, engine, scheduler)
    # Or the first request pays for thread pools and first touches of the weights.
    models.fill(1, min(16, longest), scenario.seed)
    if models.target.graphs is not None:
        rehearse(engine, assembly.decider() or ByBatch([0]), shortest=min(r.prompt_tokens for r in requests))
    return session


def _versions(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "specsim": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": name,
        "threads": str(torch.get_num_threads()),
    }


Prompts = Callable[[RequestSpec], Integers]


def _prompts(scenario: Scenario, requests: list[RequestSpec]) -> Prompts:
    """What a request continues; random text is drawn as requests come."""
    if scenario.weights is None:
        generator, vocab = np.random.default_rng(scenario.seed), scenario.model.vocab_size
        return lambda request: generator.integers(0, vocab, request.prompt_tokens)
    tokens = request_prompts(scenario.weights, requests)
    return lambda request: tokens[request.request_id]


class _Session:
    """One run of a workload: who arrives when, what is scheduled, what has been noted down."""

    def __init__(
        self, assembly: Assembly, requests: list[RequestSpec], prompts: Prompts, engine: Engine, scheduler: Scheduler
    ) -> None:
        self.log = _Log()
        self._engine, self._scheduler = engine, scheduler
        self._requests = {r.request_id: r for r in requests}
        self._prompts = prompts
        self._decider = assembly.decider() or ByBatch([0])
        self._clients = assembly.scenario.workload.clients
        self._queue = [r.request_id for r in reversed(requests)]  # of a closed loop, next one last
        self._due: list[tuple[float, int]] = []  # heap of (arrival_s, request_id)
        if self._clients is None:
            self._due = [(r.due_s(), r.request_id) for r in requests]
            heapq.heapify(self._due)
        else:
            for _ in range(min(self._clients.concurrency, len(requests))):
                self._due.append((0.0, self._queue.pop()))

    def run(self, between_steps: Callable[[], None]) -> float:
        """Serve until nothing is left; seconds to the last request's end."""
        gc.collect()
        start_s = time.perf_counter()
        while self._due or self._scheduler.has_work:
            between_steps()
            now_s = time.perf_counter() - start_s
            while self._due and self._due[0][0] <= now_s:
                self._admit(*heapq.heappop(self._due))
            if not self._scheduler.has_work:
                time.sleep(max(0.0, self._due[0][0] - now_s))
                continue
            begin_s = time.perf_counter() - start_s
            outcome = run_step(self._engine, self._scheduler, self._decider)
            end_s = time.perf_counter() - start_s
            self.log.book(outcome, begin_s, end_s)
            if self._clients is not None:
                for _ in range(min(len(outcome.finished), len(self._queue))):
                    number = self._queue.pop()
                    heapq.heappush(self._due, (end_s + self._requests[number].think_s, number))
        return max((r.finish_s for r in self.log.finished), default=0.0)

    def _admit(self, arrival_s: float, request_id: int) -> None:
        request = self._requests[request_id]
        self._scheduler.add(SequenceState(request_id, request.prompt_tokens, request.output_tokens))
        self._engine.add(request_id, self._prompts(request))
        self.log.arrive(request, arrival_s)


class _Log:
    """Records of a run, filled step by step."""

    def __init__(self) -> None:
        self.finished: list[RequestRecord] = []
        self.steps: list[StepRecord] = []
        self.gaps_s: list[float] = []
        self.acceptance = AcceptanceCounts()
        self._open: dict[int, RequestRecord] = {}
        self._last_chunk_s: dict[int, float] = {}

    def arrive(self, request: RequestSpec, arrival_s: float) -> None:
        self._open[request.request_id] = RequestRecord(
            request.request_id,
            request.request_class,
            arrival_s,
            0.0,
            0.0,
            request.prompt_tokens,
            request.output_tokens,
        )

    def book(self, outcome: Outcome, start_s: float, end_s: float) -> None:
        """Note a step's shares; drafts accepted beyond a request's last token count as accepted."""
        shares = outcome.step.scheduled
        for share, right, count in zip(shares, outcome.accepted, outcome.emitted, strict=True):
            if not count:
                continue
            number = share.sequence.request_id
            record = self._open[number]
            if number in self._last_chunk_s:
                self.gaps_s.append(end_s - self._last_chunk_s[number])
            else:
                record.first_token_s = end_s
            self._last_chunk_s[number] = end_s
            if not share.prefill:
                record.rounds += 1
                record.drafted += share.drafts
                record.accepted += right
                self.acceptance.add(share.drafts, right)
            if share.sequence.finished:
                record.finish_s, record.preemptions = end_s, share.sequence.preemptions
                self.finished.append(self._open.pop(number))
        prefill = sum(s.tokens for s in shares if s.prefill)
        self.steps.append(
            StepRecord(
                start_s=start_s,
                duration_s=end_s - start_s,
                sequences=len(shares),
                prefill_tokens=prefill,
                verify_tokens=outcome.step.total_tokens - prefill,
                draft_tokens=sum(s.drafts for s in shares),
                accepted=sum(outcome.accepted),
                kv_blocks=outcome.kv_blocks,
                waiting=outcome.waiting,
            )
        )
