"""Continuous batching with one token budget a step, as vLLM's V1 scheduler does it, without a clock.

Each step shares ``max_num_batched_tokens`` among the running sequences first (one token plus the drafts to verify,
or the next prefill chunk), then admits waiting ones. A short budget trims drafts. When KV blocks run out the last
running sequence is preempted: it loses its cache, goes to the head of the queue, and nothing is admitted in that step.

Left out so far: priorities, prefix sharing, extra budget slots for drafting, asynchronous scheduling.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from specsim.errors import NoAnswer
from specsim.scheduling.kv_cache import BlockPool
from specsim.specs.engine import EngineLimits


@dataclass(slots=True, eq=False)
class Sequence:
    """A request's state on one replica.

    Its known tokens are the prompt and what was emitted; ``computed_tokens`` of them are in the KV cache. While
    decoding that is all but the last. ``draft_tokens`` were proposed at the end of the last step, to be verified.
    """

    request_id: int
    prompt_tokens: int
    output_tokens: int  # the request ends after this many
    computed_tokens: int = 0
    emitted_tokens: int = 0
    draft_tokens: int = 0
    blocks: int = 0
    preemptions: int = 0

    @property
    def known_tokens(self) -> int:
        return self.prompt_tokens + self.emitted_tokens

    @property
    def finished(self) -> bool:
        return self.emitted_tokens >= self.output_tokens


@dataclass(slots=True)
class Scheduled:
    """One sequence's share of a step: ``tokens`` new positions, the last ``drafts`` of them drafted."""

    sequence: Sequence
    tokens: int
    drafts: int
    emits: bool  # all known tokens are computed after this step, so at least one new token comes out
    prefill: bool  # computes prompt (or recomputed) tokens, not a plain decode

    @property
    def kv_tokens(self) -> int:
        """Positions in the cache once this share is computed."""
        return self.sequence.computed_tokens + self.tokens


@dataclass(slots=True)
class Step:
    """What one engine step computes."""

    scheduled: list[Scheduled] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)

    @property
    def total_tokens(self) -> int:
        return sum(s.tokens for s in self.scheduled)


class Scheduler:
    """First come, first served. ``lookahead_tokens`` KV slots are reserved beyond each running sequence's tokens.

    ``max_draft_tokens`` is the most that ``propose`` will ever be told; it bounds what a sequence can need.

    The caller runs the step, then reports how many drafts each sequence accepted to ``complete`` and the next drafts
    with ``propose``.
    """

    def __init__(
        self,
        limits: EngineLimits,
        num_kv_blocks: int,
        *,
        max_draft_tokens: int = 0,
        lookahead_tokens: int = 0,
    ) -> None:
        self.limits = limits
        self.max_draft_tokens = max_draft_tokens
        self.lookahead_tokens = lookahead_tokens
        self.pool = BlockPool(num_kv_blocks, limits.block_size)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Queue a new request.

        Raises NoAnswer for one that could never run: longer than all KV blocks, or than a whole step's budget
        when prefill is not chunked.
        """
        # The last output token is never computed, and a request that ends with its first one verifies no drafts.
        known = sequence.prompt_tokens + sequence.output_tokens - 1
        drafts = self.max_draft_tokens if sequence.output_tokens > 1 else 0
        longest = known + drafts + self.lookahead_tokens
        if self.pool.blocks_for(longest) > self.pool.num_blocks:
            room = self.pool.num_blocks * self.pool.block_size
            raise NoAnswer(
                f"request {sequence.request_id} needs room for {longest} tokens and the KV cache holds {room}; "
                "raise num_kv_blocks or gpu_memory_utilization, or drop the request"
            )
        # A preempted sequence prefills its output again, so without chunks the whole length must fit one step.
        if not self.limits.chunked_prefill and known > self.limits.max_num_batched_tokens:
            raise NoAnswer(
                f"request {sequence.request_id} may prefill {known} tokens at once and a step takes "
                f"{self.limits.max_num_batched_tokens}; raise max_num_batched_tokens or allow chunked_prefill"
            )
        self.waiting.append(sequence)

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def schedule(self) -> Step:
        """Choose the next step's work and take the KV blocks it needs."""
        step = Step()
        budget = self._schedule_running(step, self.limits.max_num_batched_tokens)
        if not step.preempted:
            self._admit(step, budget)
        return step

    def _schedule_running(self, step: Step, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            wanted = sequence.known_tokens + sequence.draft_tokens - sequence.computed_tokens
            tokens = min(wanted, budget)
            if not self._make_room(sequence, tokens, step):
                break  # it was itself the victim, so it and all behind it are gone
            budget -= tokens
            step.scheduled.append(_share(sequence, tokens))
            index += 1
        return budget

    def _make_room(self, sequence: Sequence, tokens: int, step: Step) -> bool:
        """Take blocks for ``tokens`` more, preempting from the back; False if the sequence itself had to go."""
        while not self._take_blocks(sequence, tokens + self.lookahead_tokens):
            victim = self.running.pop()
            self._preempt(victim)
            step.preempted.append(victim)
            if victim is sequence:
                return False
        return True

    def _take_blocks(self, sequence: Sequence, tokens: int) -> bool:
        target = self.pool.blocks_for(sequence.computed_tokens + tokens)
        missing = target - sequence.blocks
        if missing <= 0:
            return True
        if not self.pool.can_allocate(missing):
            return False
        self.pool.allocate(missing)
        sequence.blocks = target
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = 0
        sequence.computed_tokens = 0
        sequence.draft_tokens = 0
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)

    def _admit(self, step: Step, budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            wanted = sequence.known_tokens - sequence.computed_tokens
            if wanted > budget and not self.limits.chunked_prefill:
                return
            tokens = min(wanted, budget)
            if not self._take_blocks(sequence, tokens):  # vLLM grants no lookahead in a request's first step
                return
            self.waiting.popleft()
            self.running.append(sequence)
            budget -= tokens
            step.scheduled.append(_share(sequence, tokens))

    def complete(self, step: Step, accepted: list[int]) -> list[int]:
        """Book a computed step; ``accepted[i]`` drafts of ``step.scheduled[i]`` were right.

        Returns the tokens each share emitted: accepted drafts and one token of the target's own, cut at the request's
        length limit; 0 for a prefill chunk that is not the last. Finished sequences leave and free their blocks.
        """
        emitted = []
        left = False
        for share, right in zip(step.scheduled, accepted, strict=True):
            sequence = share.sequence
            sequence.computed_tokens += share.tokens - (share.drafts - right)
            sequence.draft_tokens = 0
            count = 0
            if share.emits:
                count = min(1 + right, sequence.output_tokens - sequence.emitted_tokens)
                sequence.emitted_tokens += count
            emitted.append(count)
            if sequence.finished:
                self.pool.release(sequence.blocks)
                sequence.blocks = 0
                left = True
        if left:
            self.running = [s for s in self.running if not s.finished]
        return emitted

    def propose(self, sequence: Sequence, draft_tokens: int) -> None:
        """Record drafts to verify in the sequence's next step."""
        sequence.draft_tokens = draft_tokens


def _share(sequence: Sequence, tokens: int) -> Scheduled:
    missing = sequence.known_tokens - sequence.computed_tokens  # tokens whose value is known
    prefill = missing > 1 or sequence.emitted_tokens == 0  # the last prompt token may be a chunk of its own
    return Scheduled(sequence, tokens, max(0, tokens - missing), emits=tokens >= missing, prefill=prefill)
