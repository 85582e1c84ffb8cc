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

**Two steps in flight.** A step may be scheduled before the last one completes (asynchronous scheduling). The last
one's tokens then count as if all drafts were right, and booking it takes back the wrong ones. A sequence that the step
in flight surely ends is left out. What a preempted sequence had in flight is still emitted. Drafts for the next step
must be proposed before it is scheduled: right after the last one was scheduled then, after it was booked else.

**Drafts that nobody verifies** take no position and no budget: a round computes one position, emits 1 + accepted
tokens, and the sequence grows by that one position.

**Padding.** vLLM pads an admitted sequence with one token to compute to 1 + k positions where the batch else
only decodes, if k is fixed (``pads_new_decodes``): the graph of a uniform batch runs then.

Prompts computed elsewhere: see ``disaggregation``. Deliberate differences: tests/scheduling/test_differences.py.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import integers_at, jit
from specsim.scheduling.blocks import find_prefix, known_tokens, spare_table, take_blocks
from specsim.scheduling.disaggregation import kv_has_come, kv_is_elsewhere, reserve
from specsim.scheduling.queue import goes_before
from specsim.scheduling.records import engine_at, replica_at, request_at
from specsim.scheduling.shares import add_share, admit_next, extend, may_admit, preempt, share_of, wanted_tokens


def schedule_vllm(address: int, _: int) -> int:
    """Choose the shares of a replica's next step; returns how many there are."""
    replica = replica_at(address)
    engine = engine_at(replica.engine)
    longest_chunk = _longest_chunk(replica, engine)
    budget = _schedule_running(replica, engine, longest_chunk)
    if replica.num_preempted == 0:
        _admit(replica, engine, budget, longest_chunk)
    return int(replica.num_shares)


@jit
def _longest_chunk(replica: Any, engine: Any) -> int:
    limit, others = engine.long_prefill_token_threshold, replica.num_running + replica.num_waiting
    if limit == 0 or others < 2:
        return int(engine.max_model_len)
    if engine.long_prefill_token_threshold_adaptive:
        return int(max(limit, engine.max_num_batched_tokens // others))
    return int(limit)


@jit
def _schedule_running(replica: Any, engine: Any, longest_chunk: int) -> int:
    running = integers_at(replica.running)
    budget, index = engine.max_num_batched_tokens, 0
    while index < replica.num_running and budget > engine.draft_slots:
        address = running[index]
        one = request_at(address)
        tokens = min(wanted_tokens(one, engine), longest_chunk, budget - engine.draft_slots)
        if tokens <= 0:
            index += 1
            continue
        preempted = False
        while not preempted and not extend(replica, engine, one, tokens):
            chosen = _victim(replica, engine)
            victim = running[chosen]
            if chosen < index:
                index -= 1
                budget += _withdraw(replica, victim, engine.draft_slots)
            preempt(replica, engine, chosen)
            preempted = victim == address
        if preempted:
            return int(budget)
        budget -= tokens + engine.draft_slots
        add_share(replica, engine, address, tokens)
        index += 1
    return int(budget)


@jit
def _victim(replica: Any, engine: Any) -> int:
    """Who of the running goes first of all loses last; under ``fcfs`` they stand in that order."""
    chosen = replica.num_running - 1
    if engine.by_priority:
        running = integers_at(replica.running)
        for index in range(replica.num_running):
            if goes_before(engine.by_priority, running[chosen], running[index]):
                chosen = index
    return int(chosen)


@jit
def _withdraw(replica: Any, victim: int, draft_slots: int) -> int:
    """Take a victim's share out of the step again; the budget that it gives back."""
    found, tokens = False, 0
    for index in range(replica.num_shares):
        share = share_of(replica, index)
        if found:
            _copy_share(share, share_of(replica, index - 1))
        elif share.request == victim:
            found, tokens = True, share.tokens + draft_slots
    replica.num_shares -= found
    return int(tokens)  # 0 where it was left out: a step in flight ends it


@jit
def _copy_share(one: Any, to: Any) -> None:
    to.request, to.tokens, to.drafts, to.padding = one.request, one.tokens, one.drafts, one.padding
    to.emits, to.prefill = one.emits, one.prefill


@jit
def _admit(replica: Any, engine: Any, budget: int, longest_chunk: int) -> None:
    decodes, uniform = replica.num_shares > 0, bool(engine.pads_new_decodes and replica.num_waiting)
    for index in range(replica.num_shares if uniform else 0):
        uniform &= request_at(share_of(replica, index).request).prefilling == 0
    while replica.num_waiting and budget > engine.draft_slots and may_admit(replica, engine):
        one, room = request_at(replica.first_waiting), budget - engine.draft_slots
        if kv_is_elsewhere(engine, one):
            if not reserve(replica, engine):
                return
            continue
        table, moved = spare_table(replica), kv_has_come(one)
        hits = 0 if moved else find_prefix(replica, one, table)
        present = one.computed_tokens + hits * engine.block_size
        missing, padding = known_tokens(one) - present, 0
        fits = present + engine.max_draft_tokens + 2 <= engine.max_model_len
        if uniform and (decodes or present) and missing == 1 and fits:
            padding = engine.max_draft_tokens
        wanted = min(missing, longest_chunk) + padding
        if wanted > room and (padding or not engine.chunked_prefill):
            return
        tokens = min(wanted, room)
        if not moved and not take_blocks(replica, engine, one, table, hits, tokens):
            return
        replica.num_pending -= moved
        share = add_share(replica, engine, admit_next(replica, tokens), tokens - padding)
        share.tokens, share.padding = tokens, padding
        budget -= tokens + engine.draft_slots
