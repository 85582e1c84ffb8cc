"""What the rules of all engines have in common: requests that wait and run, their shares of a step, and its booking.

Which requests take part in a step is chosen as the replica's engine chooses it, see ``vllm`` and ``sglang``.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, call_at, integers_at, jit
from specsim.scheduling.blocks import allocate, blocks_for, can_allocate, known_tokens, name_blocks, release
from specsim.scheduling.queue import enqueue, leave_queue
from specsim.scheduling.records import SHARE, engine_at, replica_at, request_at, share_at

SHARE_BYTES = SHARE.itemsize


@jit
def submit(replica: Any, address: int) -> None:
    """Queue a new request."""
    request_at(address).arrival = replica.arrivals
    replica.arrivals += 1
    enqueue(replica, engine_at(replica.engine).by_priority, address)


@jit
def schedule(address: int) -> int:
    """Choose a replica's next step and take the KV blocks it needs; returns how many shares it has."""
    replica = replica_at(address)
    replica.num_shares, replica.num_preempted = 0, 0
    count = call_at(replica.rules, address, 0)
    for index in range(count):
        launch_share(share_of(replica, index), engine_at(replica.engine).verifies_drafts)
    return count


@jit
def share_of(replica: Any, index: int) -> Any:
    """A share of the step scheduled last."""
    return share_at(replica.shares + index * SHARE_BYTES)


@jit
def missing_tokens(one: Any) -> int:
    """Positions to compute before the next token comes out, drafts left aside."""
    return int(known_tokens(one) + one.awaited_tokens - one.computed_tokens - one.in_flight_tokens)


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
def may_admit(replica: Any, engine: Any) -> bool:
    """Whether the next of the queue may run: prompts that wait to be moved keep their block tables."""
    if request_at(replica.first_waiting).submitted_s >= replica.seen_s:
        return False
    has_table = not engine.prefix_caching or replica.num_spare_tables > 0
    return bool(replica.num_running < engine.max_num_seqs and has_table)


@jit
def admit_next(replica: Any, tokens: int) -> int:
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
