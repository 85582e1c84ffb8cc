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

from specsim.jit import NONE, integers_at, jit
from specsim.scheduling.blocks import (
    allocate,
    blocks_for,
    can_allocate,
    find_prefix,
    known_tokens,
    name_blocks,
    release,
    spare_table,
    take_blocks,
)
from specsim.scheduling.disaggregation import kv_has_come, kv_is_elsewhere, reserve
from specsim.scheduling.queue import enqueue, goes_before, leave_queue
from specsim.scheduling.records import SHARE, engine_at, replica_at, request_at, share_at

SHARE_BYTES = SHARE.itemsize


@jit
def submit(replica: Any, address: int) -> None:
    """Queue a new request."""
    request_at(address).arrival = replica.arrivals
    replica.arrivals += 1
    enqueue(replica, engine_at(replica.engine).by_priority, address)


@jit
def missing_tokens(one: Any) -> int:
    """Positions to compute before the next token comes out, drafts left aside."""
    return int(known_tokens(one) + one.awaited_tokens - one.computed_tokens - one.in_flight_tokens)


@jit
def share_of(replica: Any, index: int) -> Any:
    """A share of the step scheduled last."""
    return share_at(replica.shares + index * SHARE_BYTES)


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
def wanted_tokens(one: Any, engine: Any) -> int:
    """Positions a running sequence would take; 0 if a step in flight surely ends it."""
    if one.awaited_tokens and one.emitted_tokens + 1 >= one.output_tokens:
        return 0
    drafts = one.draft_tokens if engine.verifies_drafts else 0
    room = engine.max_model_len - one.computed_tokens - one.in_flight_tokens - 1
    return int(min(missing_tokens(one) + drafts, room))


@jit
def extend(replica: Any, engine: Any, one: Any, tokens: int) -> bool:
    """Blocks for ``tokens`` more positions of a running sequence, or False."""
    end = one.computed_tokens + one.in_flight_tokens + tokens
    missing = blocks_for(end + engine.lookahead_tokens, engine) - one.blocks
    if missing > 0:
        if not can_allocate(replica, missing):
            return False
        allocate(replica, missing)
        one.blocks += missing
    name_blocks(replica, one, min(end, known_tokens(one)))
    return True


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
def preempt(replica: Any, engine: Any, index: int) -> None:
    """The running request at ``index`` loses its cache and queues again."""
    running = integers_at(replica.running)
    address = running[index]
    replica.num_running -= 1
    for later in range(index, replica.num_running):
        running[later] = running[later + 1]
    one = request_at(address)
    release(replica, one)
    one.preemptions += 1
    one.lost_tokens += one.computed_tokens + one.in_flight_tokens
    one.stale_tokens = one.in_flight_tokens
    one.computed_tokens, one.in_flight_tokens, one.awaited_tokens, one.draft_tokens = 0, 0, 0, 0
    integers_at(replica.preempted)[replica.num_preempted] = address
    replica.num_preempted += 1
    enqueue(replica, engine.by_priority, address)


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
        share = add_share(replica, engine, admit_next(replica, engine, tokens), tokens - padding)
        share.tokens, share.padding = tokens, padding
        budget -= tokens + engine.draft_slots


@jit
def may_admit(replica: Any, engine: Any) -> bool:
    """Whether the next of the queue may run: prompts that wait to be moved keep their block tables."""
    if request_at(replica.first_waiting).submitted_s >= replica.seen_s:
        return False
    has_table = not engine.prefix_caching or replica.num_spare_tables > 0
    return bool(replica.num_running < engine.max_num_seqs and has_table)


@jit
def admit_next(replica: Any, engine: Any, tokens: int) -> int:
    """The next of the queue runs and computes so many tokens; its address."""
    address = replica.first_waiting
    one = request_at(address)
    leave_queue(replica, address)
    name_blocks(replica, one, min(one.computed_tokens + tokens, known_tokens(one)))
    integers_at(replica.running)[replica.num_running] = address
    replica.num_running += 1
    return int(address)


@jit
def add_share(replica: Any, engine: Any, address: int, tokens: int) -> Any:
    one, share = request_at(address), share_of(replica, replica.num_shares)
    missing = missing_tokens(one)
    emits, drafts = tokens >= missing, max(0, tokens - missing)
    if emits and not engine.verifies_drafts:
        drafts = one.draft_tokens
    share.request, share.tokens, share.drafts, share.padding = address, tokens, drafts, 0
    # The last prompt token may be a chunk of its own.
    share.emits, share.prefill = emits, missing > 1 or one.emitted_tokens + one.awaited_tokens == 0
    share.accepted = 0
    replica.num_shares += 1
    return share


@jit
def launch_share(share: Any, verifies_drafts: int) -> None:
    """The share is computed from now on."""
    one = request_at(share.request)
    one.in_flight_tokens += share.tokens
    one.draft_tokens = 0
    one.prefilling = not share.emits
    if share.emits:
        one.awaited_tokens += 1 + beyond_known(share, verifies_drafts)


@jit
def beyond_known(share: Any, verifies_drafts: int) -> int:
    """Positions of a share beyond the known tokens."""
    return int(share.padding + (share.drafts if verifies_drafts else 0))


@jit
def book(replica: Any) -> None:
    """Book a computed step, the oldest in flight: the replica's shares, with what each accepted.

    ``emitted`` of each becomes the tokens that come out: accepted drafts and one token of the target's own, cut at the
    request's length limit; 0 for a prefill chunk that is not the last, and for a request that an earlier step ended.
    Finished sequences leave and free their blocks, but those that a decode replica has yet to read.
    """
    engine, finished = engine_at(replica.engine), False
    for index in range(replica.num_shares):
        share = share_of(replica, index)
        one = request_at(share.request)
        share.emitted = 0
        if one.emitted_tokens < one.output_tokens:
            _book_share(replica, engine, one, share)
        finished |= one.emitted_tokens >= one.output_tokens
    if finished:
        running, kept = integers_at(replica.running), 0
        for index in range(replica.num_running):
            address = running[index]
            if request_at(address).emitted_tokens < request_at(address).output_tokens:
                running[kept] = address
                kept += 1
        replica.num_running = kept


@jit
def _book_share(replica: Any, engine: Any, one: Any, share: Any) -> None:
    stale = one.stale_tokens > 0
    if stale:
        one.stale_tokens -= share.tokens
    else:
        extra = beyond_known(share, engine.verifies_drafts)
        one.in_flight_tokens -= share.tokens
        one.computed_tokens += share.tokens - extra + (share.accepted if engine.verifies_drafts else 0)
        if share.emits:
            one.awaited_tokens -= 1 + extra
    if not share.emits:
        return
    share.emitted = min(1 + share.accepted, one.output_tokens - one.emitted_tokens)
    one.emitted_tokens += share.emitted
    if not engine.verifies_drafts:
        one.merged_tokens += share.emitted - 1
    if engine.async_scheduling and not stale:
        name_blocks(replica, one, known_tokens(one) - 1)
    if one.emitted_tokens >= one.output_tokens:
        if stale:
            leave_queue(replica, share.request)
        if one.other_half == NONE:
            release(replica, one)
