"""What one replica does, step by step: schedule, pay the step's time, accept drafts, book tokens, draft again.

One SimPy process. A step's acceptance is a pure function of the seed, so it is drawn when the step is priced (who
drafts next, and so what the step costs, depends on it) and booked when the step ends. As in vLLM the draft length
comes from the number of requests scheduled in the step, prefills included; drafts go to the sequences that emitted
and go on.

Drafts accepted beyond a request's last token count as accepted, as vLLM counts them: h[d][j] stays unbiased.
``serving.compiled`` does the same for open loops whose rules depend on nothing but the batch; tests hold them equal.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import simpy

from specsim.cost.forward import SOURCES, Group, Source
from specsim.results import AcceptanceCounts, RequestRecord, StepRecord
from specsim.scheduling.scheduler import Scheduled, Step
from specsim.scheduling.scheduler import Sequence as Running
from specsim.serving.clock import ENDS, STARTS, Instant
from specsim.serving.drafting import Drafting, Verified
from specsim.serving.server import Server
from specsim.workload.request import RequestSpec


@dataclass(slots=True)
class Outlook:
    """What a scheduled step computes and what follows it, known before it runs."""

    verified: Verified
    groups: list[Group]
    drafting: list[int]  # shares whose sequences emit and go on
    kv_tokens: list[int]  # KV length of each of them after the step


class Replica:
    """``on_finish`` is called with each request's record at the moment it finishes, and may submit the next one."""

    def __init__(
        self,
        environment: simpy.Environment,
        server: Server,
        on_finish: Callable[[RequestRecord], None],
        number: int = 0,
    ) -> None:
        self.steps: list[StepRecord] = []
        self.gaps_s = array("d")
        self.gap_request = array("q")
        self.acceptance = AcceptanceCounts()
        self.worst_source = 0  # index into SOURCES
        self.unfinished = 0  # requests in the system
        self._environment = environment
        self._server = server
        self._on_finish = on_finish
        self._number = number
        self._scheduler = server.scheduler()
        self._drafting = Drafting(server) if server.speculation else None
        self._records: dict[int, RequestRecord] = {}
        self._last_chunk_s: dict[int, float] = {}
        self._now_s = 0.0  # the end of the last step, or a later arrival; the environment's clock may round
        self._work = environment.event()
        environment.process(self._serve())

    def submit(self, request: RequestSpec, arrival_s: float) -> bool:
        """Take a request that arrives now; False if the queue is full. Raises NoAnswer if it could never run."""
        limit = self._server.max_queue
        if limit is not None and self._scheduler.num_waiting >= limit:
            return False
        number, prompt, output = request.request_id, request.prompt_tokens, request.output_tokens
        if not self._scheduler.has_work:
            self._now_s = max(self._now_s, arrival_s)
        self._scheduler.add(
            Running(
                number,
                prompt,
                output,
                priority=request.priority,
                prefix_hashes=request.prefix_hashes,
                hash_block_tokens=request.hash_block_tokens,
            )
        )
        self._records[number] = RequestRecord(
            number, request.request_class, arrival_s, 0.0, 0.0, prompt, output, replica=self._number
        )
        self.unfinished += 1
        if not self._work.triggered:
            self._work.succeed()
        return True

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        environment, scheduler = self._environment, self._scheduler
        while True:
            if not scheduler.has_work:
                self._work = environment.event()
                yield self._work
            yield Instant(environment, 0.0, STARTS)
            step = scheduler.schedule()
            used_blocks = scheduler.num_blocks - scheduler.free_blocks
            waiting = scheduler.num_waiting
            outlook = self._look_ahead(step)
            lengths, computed = self._propose(step, outlook)
            count = len(outlook.drafting)
            price = self._server.cost.step(
                outlook.groups,
                drafting=count,
                draft_tokens=computed,
                drafting_kv_tokens=sum(outlook.kv_tokens) / count if count else 0.0,
            )
            self.worst_source = max(self.worst_source, SOURCES.index(cast(Source, price.source)))
            start_s, seconds = self._now_s, float(price.seconds)
            self._now_s = start_s + seconds
            yield Instant(environment, max(0.0, self._now_s - environment.now), ENDS)
            record = _step_record(start_s, seconds, step, outlook.verified, used_blocks, waiting)
            record.replica = self._number
            self.steps.append(record)
            self._book(step, outlook, lengths)

    def _look_ahead(self, step: Step) -> Outlook:
        """Groups and acceptance of a step; decoding sequences of equal width become one group."""
        verified = self._verify(step.scheduled)
        chunks: list[Group] = []
        widths: dict[int, tuple[int, int]] = {}  # new tokens -> sequences, sum of their KV lengths
        drafting, lengths = [], []
        verifies = self._server.verifies_drafts
        for index, (share, right) in enumerate(zip(step.scheduled, verified.accepted, strict=True)):
            sequence, tokens = share.sequence, share.tokens
            kv_tokens = share.kv_tokens
            if share.prefill:
                chunks.append(Group(1, tokens, kv_tokens, int(share.emits)))
            else:
                count, total = widths.get(tokens, (0, 0))
                widths[tokens] = (count + 1, total + kv_tokens)
            if share.emits and sequence.emitted_tokens + 1 + right < sequence.output_tokens:
                drafting.append(index)
                kept = right - share.drafts if verifies else 0
                lengths.append(kv_tokens - share.padding + kept + 1)
        groups = [Group(count, width, total / count, width) for width, (count, total) in widths.items()]
        return Outlook(verified, groups + chunks, drafting, lengths)

    def _verify(self, scheduled: list[Scheduled]) -> Verified:
        rows = [index for index, share in enumerate(scheduled) if share.drafts]
        accepted = [0] * len(scheduled)
        ids = np.array([scheduled[i].sequence.request_id for i in rows], dtype=np.int64)
        drafted = np.array([scheduled[i].drafts for i in rows], dtype=np.int64)
        if rows and self._drafting is not None:
            positions = np.array([scheduled[i].sequence.emitted_tokens for i in rows], dtype=np.int64)
            right = self._drafting.accepted(ids, positions, drafted, [self._class(i) for i in ids.tolist()])
            for index, count in zip(rows, right.tolist(), strict=True):
                accepted[index] = count
        return Verified(accepted, ids, drafted, np.array([accepted[i] for i in rows], dtype=np.int64))

    def _propose(self, step: Step, outlook: Outlook) -> tuple[list[int], int]:
        """Tokens that each drafting sequence proposes, and how many the drafter computes."""
        if self._drafting is None:
            return [0] * len(outlook.drafting), 0
        shares = [step.scheduled[index] for index in outlook.drafting]
        rights = [outlook.verified.accepted[index] for index in outlook.drafting]
        positions = [s.sequence.emitted_tokens + 1 + right for s, right in zip(shares, rights, strict=True)]
        ids = [share.sequence.request_id for share in shares]
        return self._drafting.propose(
            outlook.verified, len(step.scheduled), outlook.kv_tokens or [s.kv_tokens for s in step.scheduled],
            np.array(ids, dtype=np.int64), np.array(positions, dtype=np.int64), [self._class(i) for i in ids],
        )  # fmt: skip

    def _class(self, number: int) -> str:
        return self._records[number].request_class

    def _book(self, step: Step, outlook: Outlook, lengths: list[int]) -> None:
        """Book a step that ends now and propose the next drafts."""
        now, plain = self._now_s, 0
        accepted = outlook.verified.accepted
        emitted = self._scheduler.complete(step, accepted)
        for index, length in zip(outlook.drafting, lengths, strict=True):
            self._scheduler.propose(step.scheduled[index].sequence, length)
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
                self.gap_request.append(number)
            self._last_chunk_s[number] = now
            if not share.prefill:
                record.rounds += 1
                if share.drafts:
                    record.drafted += share.drafts
                    record.accepted += right
                    self.acceptance.add(share.drafts, right)
                else:
                    plain += 1
            if not sequence.finished:
                continue
            record.finish_s, record.preemptions = now, sequence.preemptions
            del self._records[number], self._last_chunk_s[number]
            self.unfinished -= 1
            self._on_finish(record)
        if plain:
            self.acceptance.add(0, 0, plain)


def _step_record(
    start_s: float, duration_s: float, step: Step, verified: Verified, kv_blocks: int, waiting: int
) -> StepRecord:
    prefill = verify = drafts = 0
    for share in step.scheduled:
        drafts += share.drafts
        if share.prefill:
            prefill += share.tokens
        else:
            verify += share.tokens
    accepted, sequences = sum(verified.accepted), len(step.scheduled)
    return StepRecord(start_s, duration_s, sequences, prefill, verify, drafts, accepted, kv_blocks, waiting)
