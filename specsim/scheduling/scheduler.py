"""Continuous batching with one token budget a step, as vLLM's V1 scheduler (0.32) does it, without a clock.

**A step.** ``max_num_batched_tokens`` is shared among the running sequences first, in order, each taking its next
prefill chunk or one token and the drafts to verify; every one also uses up ``draft_slots``, the rows that its drafter
adds to a draft pass. A short budget trims drafts. Then waiting sequences are admitted, in order, none overtaking,
while the budget, ``max_num_seqs`` and the KV cache allow: for an admission the whole known length must fit the free
blocks (``scheduler_reserve_full_isl``) and ``watermark`` of them stay free while others run. Without chunked prefill a
prompt waits for a step that takes it whole.

**KV blocks** are taken for the tokens of the step and ``lookahead_tokens`` more. When they run out, the last running
sequence (under ``priority`` the one with the highest number, among equals the youngest) is preempted: it loses its
blocks and drafts, returns to the head of the queue (under ``priority`` to its place) and computes all its known tokens
again; nothing is admitted in that step. A victim that already had its share of the step gives the budget back. One
block of ``num_kv_blocks`` is vLLM's null block and holds nothing.

**Prefix caching.** A full block of known tokens gets a name when the step that computes it is scheduled, so that even
requests of the same step share it. An admission, first or after a preemption, begins after the longest cached
prefix of whole blocks that leaves at least one token to compute; ``recompute_last_hit`` takes one block less, for
drafters that need the target's hidden states there.

**Two steps in flight.** ``schedule`` may be called again before the last step completes (asynchronous scheduling).
Its tokens then count as if all drafts were right, ``complete`` takes back the wrong ones. A sequence that the step in
flight surely ends is left out. What a preempted sequence had in flight is still emitted. Drafts for the next step
must be proposed before it is scheduled: right after ``schedule`` then, after ``complete`` else.

**Drafts that nobody verifies** (``verifies_drafts=False``) take no position and no budget: a round computes one
position, emits 1 + accepted tokens, and the sequence grows by that one position.

**Padding.** vLLM pads an admitted sequence with one token to compute to 1 + k positions where the batch else
only decodes, if k is fixed (``pads_new_decodes``): the graph of a uniform batch runs then.

Deliberate differences are listed in tests/scheduling/test_differences.py.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from sys import maxsize

from specsim.errors import InvalidInput, NoAnswer
from specsim.scheduling.kv_manager import KvManager
from specsim.scheduling.sequence import Scheduled, Sequence, Step
from specsim.specs.engine import EngineLimits

__all__ = ["Scheduled", "Scheduler", "Sequence", "Step"]

MAX_STEPS_IN_FLIGHT = 2


class Scheduler:
    """Queues and running sequences of one replica; ``num_kv_blocks`` as the engine counts them, null block included.

    ``max_draft_tokens`` is the most that ``propose`` will ever be told. Raises InvalidInput for limits that leave no
    block or no token to schedule.
    """

    def __init__(
        self,
        limits: EngineLimits,
        num_kv_blocks: int,
        *,
        max_draft_tokens: int = 0,
        lookahead_tokens: int = 0,
        draft_slots: int = 0,
        recompute_last_hit: bool = False,
        pads_new_decodes: bool = False,
        verifies_drafts: bool = True,
    ) -> None:
        if num_kv_blocks < 2:
            raise InvalidInput(f"num_kv_blocks is {num_kv_blocks} and one block never holds tokens; give at least 2")
        # A found prefix may leave one token, which is padded even where nobody runs: it must fit then.
        padding = max_draft_tokens if pads_new_decodes and limits.prefix_caching else 0
        least = draft_slots + 1 + padding
        if limits.max_num_batched_tokens < least:
            raise InvalidInput(
                f"max_num_batched_tokens is {limits.max_num_batched_tokens} and one request may take {least}; raise it"
            )
        self.limits = limits
        self.max_draft_tokens = max_draft_tokens
        self.lookahead_tokens = lookahead_tokens
        self.draft_slots = draft_slots
        self.pads_new_decodes = pads_new_decodes
        self.verifies_drafts = verifies_drafts
        self.kv = KvManager(
            limits, num_kv_blocks, lookahead_tokens=lookahead_tokens, recompute_last_hit=recompute_last_hit
        )
        self.pool = self.kv.pool
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._longest = maxsize if limits.max_model_len is None else limits.max_model_len
        self._by_priority = limits.scheduling_policy == "priority"
        self._arrivals = 0
        self._steps_in_flight = 0

    # -- requests -------------------------------------------------------------------------------------------------

    def add(self, sequence: Sequence) -> None:
        """Queue a new request. Raises NoAnswer for one that could never run."""
        self.refuse_endless(sequence)
        sequence.arrival = self._arrivals
        self._arrivals += 1
        if self._by_priority:
            insort(self.waiting, sequence, key=_rank)
        else:
            self.waiting.append(sequence)

    def refuse_endless(self, sequence: Sequence) -> None:
        """Raises NoAnswer for a request that could never run: longer than the model allows, than all KV blocks, or
        than a whole step's budget when prefill is not chunked. Of two requests the longer one needs more.
        """
        name, total = f"request {sequence.request_id}", sequence.prompt_tokens + sequence.output_tokens
        if total > self._longest:
            raise NoAnswer(
                f"{name} has {total} prompt and output tokens and the model takes {self._longest}; "
                "raise max_model_len, or drop the request"
            )
        # The last output token is never computed. A sequence that finds no room for its drafts runs without them.
        known = total - 1
        padding = self._padding(1, 1) if self.limits.prefix_caching else 0
        longest = min(known + self.lookahead_tokens + padding, self._longest)
        if self.pool.blocks_for(longest) > self.pool.num_blocks:
            room = self.pool.num_blocks * self.pool.block_size
            raise NoAnswer(
                f"{name} needs room for {longest} tokens and the KV cache holds {room}; "
                "raise num_kv_blocks or gpu_memory_utilization, or drop the request"
            )
        # A preempted sequence prefills its output again, so without chunks the whole length must fit one step.
        budget = self.limits.max_num_batched_tokens - self.draft_slots
        if not self.limits.chunked_prefill and known > budget:
            raise NoAnswer(
                f"{name} may prefill {known} tokens at once and a step takes {budget}; "
                "raise max_num_batched_tokens or allow chunked_prefill"
            )

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished; all work may be in flight, so that ``schedule`` gives an empty step."""
        return bool(self.running or self.waiting)

    # -- a step ---------------------------------------------------------------------------------------------------

    def schedule(self) -> Step:
        """Choose the next step's work and take the KV blocks it needs. At most two steps may be in flight."""
        if self._steps_in_flight == MAX_STEPS_IN_FLIGHT:
            raise InvalidInput(f"{MAX_STEPS_IN_FLIGHT} steps are in flight; complete one before the next is scheduled")
        step = Step()
        longest_chunk = self._longest_chunk()
        budget = self._schedule_running(step, self.limits.max_num_batched_tokens, longest_chunk)
        if not step.preempted:
            self._admit(step, budget, longest_chunk)
        for share in step.scheduled:
            self._launch(share)
        self._steps_in_flight += bool(step.scheduled)
        return step

    def _longest_chunk(self) -> int:
        limit, others = self.limits.long_prefill_token_threshold, len(self.running) + len(self.waiting)
        if not limit or others < 2:
            return maxsize
        if self.limits.long_prefill_token_threshold_adaptive:
            return max(limit, self.limits.max_num_batched_tokens // others)
        return limit

    def _schedule_running(self, step: Step, budget: int, longest_chunk: int) -> int:
        index = 0
        while index < len(self.running) and budget > self.draft_slots:
            sequence = self.running[index]
            tokens = min(self._wanted(sequence), longest_chunk, budget - self.draft_slots)
            if tokens <= 0:
                index += 1
                continue
            while not self.kv.extend(sequence, tokens):
                chosen = self._victim()
                victim = self.running.pop(chosen)
                if chosen < index:
                    index -= 1
                    budget += self._withdraw(step, victim)
                self._preempt(victim)
                step.preempted.append(victim)
                if victim is sequence:
                    return budget
            budget -= tokens + self.draft_slots
            step.scheduled.append(self._share(sequence, tokens))
            index += 1
        return budget

    def _wanted(self, sequence: Sequence) -> int:
        """Positions a running sequence would take; 0 if a step in flight surely ends it."""
        if sequence.awaited_tokens and sequence.emitted_tokens + 1 >= sequence.output_tokens:
            return 0
        drafts = sequence.draft_tokens if self.verifies_drafts else 0
        return min(sequence.missing_tokens + drafts, self._longest - sequence.scheduled_tokens - 1)

    def _victim(self) -> int:
        if not self._by_priority:
            return len(self.running) - 1
        return max(range(len(self.running)), key=lambda index: _rank(self.running[index]))

    def _withdraw(self, step: Step, victim: Sequence) -> int:
        """Take a victim's share out of the step again; the budget that it gives back."""
        for index, share in enumerate(step.scheduled):
            if share.sequence is victim:
                del step.scheduled[index]
                return share.tokens + self.draft_slots
        return 0  # it was left out: a step in flight ends it

    def _preempt(self, sequence: Sequence) -> None:
        self.kv.release(sequence)
        sequence.preemptions += 1
        sequence.lost_tokens += sequence.scheduled_tokens
        sequence.stale_tokens = sequence.in_flight_tokens
        sequence.computed_tokens = sequence.in_flight_tokens = sequence.awaited_tokens = sequence.draft_tokens = 0
        if self._by_priority:
            insort(self.waiting, sequence, key=_rank)
        else:
            self.waiting.appendleft(sequence)

    def _admit(self, step: Step, budget: int, longest_chunk: int) -> None:
        decodes = bool(step.scheduled)
        uniform = not any(share.sequence.prefilling for share in step.scheduled)
        while self.waiting and budget > self.draft_slots and len(self.running) < self.limits.max_num_seqs:
            sequence, room = self.waiting[0], budget - self.draft_slots
            hits = self.kv.cached_prefix(sequence)
            hit_tokens = len(hits) * self.pool.block_size
            missing = sequence.known_tokens - hit_tokens
            padding = self._padding(missing, hit_tokens) if uniform and (decodes or hits) else 0
            wanted = min(missing, longest_chunk) + padding
            if wanted > room and (padding or not self.limits.chunked_prefill):
                return
            tokens = min(wanted, room)
            if not self.kv.admit(sequence, hits, tokens, alone=not self.running):
                return
            self.running.append(self.waiting.popleft())
            budget -= tokens + self.draft_slots
            step.scheduled.append(self._share(sequence, tokens, padding))

    def _padding(self, missing_tokens: int, hit_tokens: int) -> int:
        fits = hit_tokens + self.max_draft_tokens + 2 <= self._longest
        return self.max_draft_tokens if self.pads_new_decodes and missing_tokens == 1 and fits else 0

    def _share(self, sequence: Sequence, tokens: int, padding: int = 0) -> Scheduled:
        missing = sequence.missing_tokens
        emits = tokens >= missing
        drafts = max(0, tokens - missing - padding)
        if emits and not self.verifies_drafts:
            drafts = sequence.draft_tokens
        # The last prompt token may be a chunk of its own.
        prefill = missing > 1 or sequence.emitted_tokens + sequence.awaited_tokens == 0
        return Scheduled(sequence, tokens, drafts, emits, prefill, padding)

    def _launch(self, share: Scheduled) -> None:
        sequence = share.sequence
        sequence.in_flight_tokens += share.tokens
        sequence.draft_tokens = 0
        sequence.prefilling = not share.emits
        if share.emits:
            sequence.awaited_tokens += 1 + self._extra(share)

    def _extra(self, share: Scheduled) -> int:
        """Positions of a share beyond the known tokens."""
        return (share.drafts if self.verifies_drafts else 0) + share.padding

    # -- what comes out of it -------------------------------------------------------------------------------------

    def complete(self, step: Step, accepted: list[int]) -> list[int]:
        """Book a computed step, the oldest in flight; ``accepted[i]`` drafts of ``step.scheduled[i]`` were right.

        Returns the tokens each share emitted: accepted drafts and one token of the target's own, cut at the request's
        length limit; 0 for a prefill chunk that is not the last, and for a request that an earlier step ended.
        Finished sequences leave and free their blocks.
        """
        self._steps_in_flight -= bool(step.scheduled)
        emitted = [self._book(share, right) for share, right in zip(step.scheduled, accepted, strict=True)]
        if any(share.sequence.finished for share in step.scheduled):
            self.running = [s for s in self.running if not s.finished]
        return emitted

    def _book(self, share: Scheduled, accepted: int) -> int:
        sequence = share.sequence
        if sequence.finished:
            return 0
        stale = sequence.stale_tokens > 0
        if stale:
            sequence.stale_tokens -= share.tokens
        else:
            extra = self._extra(share)
            wrong = extra - accepted if self.verifies_drafts else extra
            sequence.in_flight_tokens -= share.tokens
            sequence.computed_tokens += share.tokens - wrong
            if share.emits:
                sequence.awaited_tokens -= 1 + extra
        if not share.emits:
            return 0
        count = min(1 + accepted, sequence.output_tokens - sequence.emitted_tokens)
        sequence.emitted_tokens += count
        if not self.verifies_drafts:
            sequence.merged_tokens += count - 1
        if self.limits.async_scheduling and not stale:
            self.kv.name(sequence, sequence.known_tokens - 1)
        if sequence.finished:
            if stale:
                self.waiting.remove(sequence)
            self.kv.release(sequence)
        return count

    def propose(self, sequence: Sequence, draft_tokens: int) -> None:
        """Record drafts to verify in the sequence's next step."""
        sequence.draft_tokens = draft_tokens


def _rank(sequence: Sequence) -> tuple[int, int]:
    return (sequence.priority, sequence.arrival)
