"""What one replica does, step by step: schedule, pay the step's time, accept drafts, book tokens, draft again.

One SimPy process. A step's acceptance is a pure function of the seed, so it is drawn when the step is priced (who
drafts next, and so what the step costs, depends on it) and booked when the step ends. As in vLLM the draft length
comes from the number of requests scheduled in the step, prefills included; drafts go to the sequences that emitted
and go on.

Drafts accepted beyond a request's last token count as accepted, as vLLM counts them: h[d][j] stays unbiased.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import simpy

from specsim.cost.forward import SOURCES, Group, Source
from specsim.cost.step_time import StepTime
from specsim.results import AcceptanceCounts, RequestRecord, StepRecord
from specsim.scenario import Speculation
from specsim.scheduling.scheduler import Scheduled, Scheduler, Step
from specsim.scheduling.scheduler import Sequence as Running
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.workload.request import RequestSpec


class StepCost(Protocol):
    """Seconds of a step; speculation.round.RoundCost is one."""

    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime: ...


@dataclass(frozen=True, slots=True)
class Server:
    """What every replica is made of."""

    limits: EngineLimits
    num_kv_blocks: int
    cost: StepCost
    speculation: Speculation | None = None
    seed: int = 0

    def scheduler(self) -> Scheduler:
        if self.speculation is None:
            return Scheduler(self.limits, self.num_kv_blocks)
        longest = self.speculation.max_draft_tokens
        return Scheduler(
            self.limits,
            self.num_kv_blocks,
            max_draft_tokens=longest,
            lookahead_tokens=self.speculation.program.lookahead_tokens(longest),
        )

    def draft_tokens(self, batch: int) -> int:
        """k after a step that ran ``batch`` requests."""
        if self.speculation is None:
            return 0
        return min(self.speculation.policy.draft_tokens(batch), self.speculation.max_draft_tokens)


@dataclass(slots=True)
class Outlook:
    """What a scheduled step computes and what follows it, known before it runs."""

    groups: list[Group]
    accepted: list[int]  # of each share
    drafting: int  # sequences that will draft
    drafting_kv_tokens: float  # their mean KV length


class Replica:
    """``on_finish`` is called with each request's record at the moment it finishes, and may submit the next one."""

    def __init__(
        self, environment: simpy.Environment, server: Server, on_finish: Callable[[RequestRecord], None]
    ) -> None:
        self.steps: list[StepRecord] = []
        self.gaps_s = array("d")
        self.acceptance = AcceptanceCounts()
        self.worst_source = 0  # index into SOURCES
        self._environment = environment
        self._server = server
        self._on_finish = on_finish
        self._scheduler = server.scheduler()
        self._draws = AcceptanceDraws(server.speculation.acceptance, server.seed) if server.speculation else None
        self._records: dict[int, RequestRecord] = {}  # requests in the system
        self._last_chunk_s: dict[int, float] = {}
        self._work = environment.event()
        environment.process(self._serve())

    def submit(self, request: RequestSpec, arrival_s: float) -> None:
        """Take a request that arrives now. Raises NoAnswer if it could never run."""
        prompt, output = request.prompt_tokens, request.output_tokens
        self._scheduler.add(Running(request.request_id, prompt, output))
        self._records[request.request_id] = RequestRecord(
            request.request_id, request.request_class, arrival_s, 0.0, 0.0, prompt, output
        )
        if not self._work.triggered:
            self._work.succeed()

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        environment, scheduler = self._environment, self._scheduler
        while True:
            if not scheduler.has_work:
                self._work = environment.event()
                yield self._work
            step = scheduler.schedule()
            used_blocks = scheduler.pool.num_blocks - scheduler.pool.free_blocks
            waiting = len(scheduler.waiting)
            draft_tokens = self._server.draft_tokens(len(step.scheduled))
            outlook = self._look_ahead(step)
            price = self._server.cost.step(
                outlook.groups,
                drafting=outlook.drafting,
                draft_tokens=draft_tokens,
                drafting_kv_tokens=outlook.drafting_kv_tokens,
            )
            self.worst_source = max(self.worst_source, SOURCES.index(cast(Source, price.source)))
            start_s, seconds = environment.now, float(price.seconds)
            yield environment.timeout(seconds)
            self.steps.append(_step_record(start_s, seconds, step, outlook, used_blocks, waiting))
            self._book(step, outlook.accepted, draft_tokens)

    def _look_ahead(self, step: Step) -> Outlook:
        """Groups and acceptance of a step; decoding sequences of equal width become one group."""
        accepted = self._accepted(step.scheduled)
        chunks: list[Group] = []
        widths: dict[int, tuple[int, int]] = {}  # new tokens -> sequences, sum of their KV lengths
        drafting = drafting_kv_tokens = 0
        for share, right in zip(step.scheduled, accepted, strict=True):
            sequence, tokens = share.sequence, share.tokens
            kv_tokens = sequence.computed_tokens + tokens
            if share.prefill:
                chunks.append(Group(1, tokens, kv_tokens, int(share.emits)))
            else:
                count, total = widths.get(tokens, (0, 0))
                widths[tokens] = (count + 1, total + kv_tokens)
            if share.emits and sequence.emitted_tokens + 1 + right < sequence.output_tokens:
                drafting += 1
                drafting_kv_tokens += kv_tokens - share.drafts + right + 1
        groups = [Group(count, width, total / count, width) for width, (count, total) in widths.items()]
        mean_kv_tokens = drafting_kv_tokens / drafting if drafting else 0.0
        return Outlook(groups + chunks, accepted, drafting, mean_kv_tokens)

    def _accepted(self, scheduled: list[Scheduled]) -> list[int]:
        """Accepted drafts of each share."""
        accepted = [0] * len(scheduled)
        verifying = [index for index, share in enumerate(scheduled) if share.drafts]
        if verifying and self._draws is not None:
            shares = [scheduled[index] for index in verifying]
            right = self._draws.accepted(
                np.array([share.sequence.request_id for share in shares]),
                np.array([share.sequence.emitted_tokens for share in shares]),
                np.array([share.drafts for share in shares]),
            )
            for index, count in zip(verifying, right.tolist(), strict=True):
                accepted[index] = count
        return accepted

    def _book(self, step: Step, accepted: list[int], draft_tokens: int) -> None:
        """Book a step that ends now and propose the next drafts."""
        now, plain = self._environment.now, 0
        emitted = self._scheduler.complete(step, accepted)
        for share, right, count in zip(step.scheduled, accepted, emitted, strict=True):
            if not count:
                continue
            sequence = share.sequence
            number = sequence.request_id
            record = self._records[number]
            if sequence.emitted_tokens == count:
                record.first_token_s = now
            else:
                self.gaps_s.append(now - self._last_chunk_s[number])
            self._last_chunk_s[number] = now
            if not share.prefill:
                record.rounds += 1
                if share.drafts:
                    record.drafted += share.drafts
                    record.accepted += right
                    self.acceptance.add(share.drafts, right)
                else:
                    plain += 1
            if sequence.emitted_tokens < sequence.output_tokens:
                self._scheduler.propose(sequence, draft_tokens)
                continue
            record.finish_s, record.preemptions = now, sequence.preemptions
            del self._records[number], self._last_chunk_s[number]
            self._on_finish(record)
        if plain:
            self.acceptance.add(0, 0, plain)


def _step_record(
    start_s: float, duration_s: float, step: Step, outlook: Outlook, kv_blocks: int, waiting: int
) -> StepRecord:
    prefill = verify = drafts = 0
    for share in step.scheduled:
        drafts += share.drafts
        if share.prefill:
            prefill += share.tokens
        else:
            verify += share.tokens
    accepted = sum(outlook.accepted)
    sequences = len(step.scheduled)
    return StepRecord(start_s, duration_s, sequences, prefill, verify, drafts, accepted, kv_blocks, waiting)
