"""Continuous batching as SGLang's scheduler does it (``schedule_policy.py``, ``schedule_batch.py``, restated).

**A step** computes prompts or decodes, prompts first: as long as a waiting request fits, decoding pauses. With
``mixed_chunks`` the decoding sequences ride along, and the prompts' budget is as many tokens less.

**Prompts.** ``max_num_batched_tokens`` (SGLang's chunked_prefill_size) is filled in the order of arrival, first by the
request that was cut last, then by waiting ones, at most ``max_num_seqs`` (max_running_requests) running in all. The
one that does not fit is cut to whole pages (``block_size``) and goes on in the next step; only one is ever cut.

**Admission** estimates: a request needs its prompt, a page, and the output it may still write (at most 4,096 tokens);
the running ones may still write that much times a ratio. The ratio begins at 0.7 and falls in 600 decode steps to 14 %
of that. Once a request was refused none is tried until a sequence finishes or is retracted.

**Retraction.** A decode step that lacks pages gives up sequences, those with the fewest output tokens and among these
the longest prompt first, until the rest fits. They go to the end of the queue and compute all they knew again, and the
ratio becomes (tokens written + 20 a sequence) / (tokens they may write + 1), at most 1.

Not as there: prefix blocks are shared as under ``vllm``, page by page and from the moment they are scheduled; the
overlap schedule is in the price alone (``async_scheduling``); a request that is cut waits where it lacks pages and is
retracted last of all; the last sequence goes on without drafts that do not fit.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import integers_at, jit
from specsim.scheduling.blocks import (
    blocks_for,
    can_allocate,
    find_prefix,
    known_tokens,
    spare_table,
    take_blocks,
)
from specsim.scheduling.disaggregation import CLIPPED_OUTPUT, kv_has_come, kv_is_elsewhere, reserve
from specsim.scheduling.records import engine_at, replica_at, request_at
from specsim.scheduling.shares import (
    add_share,
    admit_next,
    extend,
    may_admit,
    missing_tokens,
    preempt,
    wanted_tokens,
)

FIRST_RATIO, LEAST_SHARE, DECAY_STEPS, RETRACT_STEPS = 0.7, 0.14, 600, 20


def schedule_sglang(address: int, _: int) -> int:
    """Choose the shares of a replica's next step; returns how many there are."""
    replica = replica_at(address)
    engine = engine_at(replica.engine)
    if replica.num_running == 0:
        replica.new_token_ratio = FIRST_RATIO
    if replica.num_running < replica.ran or replica.num_running == 0:
        replica.refused = 0
    _take_in_moved(replica, engine)
    ran, room = replica.num_running, engine.max_num_batched_tokens
    if engine.mixed_chunks:
        for index in range(ran):
            room -= _decodes(replica, index)
    room = _go_on_with_cut(replica, engine, room)
    if room > 0 and not replica.refused:
        _admit(replica, engine, room)
    if replica.num_shares == 0 or engine.mixed_chunks:
        _decode(replica, engine, ran)
    if replica.num_shares == 0 and replica.num_waiting and kv_has_come(request_at(replica.first_waiting)):
        cut = _cut(replica, replica.num_running)
        if cut >= 0:  # it lacks pages that are held by one whose place it takes
            _retract(replica, engine, cut)
    replica.ran = replica.num_running
    return int(replica.num_shares)


@jit
def _take_in_moved(replica: Any, engine: Any) -> None:
    """Requests whose KV has come run, and their first token, which came with it, is out. Others get pages for it."""
    while replica.num_waiting and kv_has_come(request_at(replica.first_waiting)) and may_admit(replica, engine):
        one = request_at(replica.first_waiting)
        one.first_token_s, one.last_token_s = replica.start_s, replica.start_s
        replica.num_pending -= 1
        admit_next(replica, 0)
    while replica.num_waiting and kv_is_elsewhere(engine, request_at(replica.first_waiting)):
        if not reserve(replica, engine):
            return


@jit
def _running(replica: Any, index: int) -> Any:
    return request_at(integers_at(replica.running)[index])


@jit
def _decodes(replica: Any, index: int) -> bool:
    """Whether a request that ran before this step was not cut: it has no prompt (or recomputed) tokens left."""
    return not _running(replica, index).prefilling


@jit
def _go_on_with_cut(replica: Any, engine: Any, room: int) -> int:
    """The next chunk of the request that was cut; the budget left, none where it is cut again or lacks pages."""
    index = _cut(replica, replica.num_running)
    if index < 0:
        return room
    one = _running(replica, index)
    missing = missing_tokens(one)
    tokens = min(missing, room)
    if tokens <= 0 or not extend(replica, engine, one, tokens):
        return 0
    add_share(replica, engine, integers_at(replica.running)[index], tokens)
    return 0 if tokens < missing else int(room - tokens)


@jit
def _admit(replica: Any, engine: Any, room: int) -> None:
    while replica.num_waiting and room > 0 and may_admit(replica, engine):
        one, table = request_at(replica.first_waiting), spare_table(replica)
        if kv_is_elsewhere(engine, one):
            return
        hits = find_prefix(replica, one, table)
        missing = known_tokens(one) - hits * engine.block_size
        if missing + _may_write(one) + engine.block_size >= _tokens_left(replica, engine):
            replica.refused = replica.num_running > 0
            return
        tokens = missing
        if missing > room:
            tokens = room // engine.block_size * engine.block_size
            if not engine.chunked_prefill or tokens == 0:
                return
        if not take_blocks(replica, engine, one, table, hits, tokens):
            return
        add_share(replica, engine, admit_next(replica, tokens), tokens)
        room -= tokens
        if tokens < missing:
            return


@jit
def _may_write(one: Any) -> int:
    """Output tokens that a request is taken to write yet."""
    return int(min(one.output_tokens - one.emitted_tokens, CLIPPED_OUTPUT))


@jit
def _tokens_left(replica: Any, engine: Any) -> float:
    """Tokens of free blocks that no running sequence is expected to fill."""
    left = float((replica.free_plain + replica.free_named) * engine.block_size)
    for index in range(replica.num_running):
        one = _running(replica, index)
        if one.emitted_tokens == 0:
            left -= _may_write(one) + missing_tokens(one)
        else:
            left -= _may_write(one) * replica.new_token_ratio
    return left


@jit
def _decode(replica: Any, engine: Any, ran: int) -> None:
    """All sequences that decode, of the first ``ran`` running ones; retracts some where pages are short."""
    decoding, retracted = 0, False
    for index in range(ran):
        decoding += _decodes(replica, index)
    while not _fits(replica, engine, ran):
        if decoding > 1:
            _retract(replica, engine, _first_to_give_up(replica, ran))
            decoding -= 1
        elif not _drop_drafts(replica, ran):
            index = _cut(replica, ran) if replica.num_pending == 0 else ran - 1
            if index < 0 or replica.num_shares:
                return
            _retract(replica, engine, index)
        else:
            continue
        ran -= 1
        retracted = True
    if retracted:
        replica.new_token_ratio, replica.refused = _estimated_ratio(replica, ran), 0
    elif decoding:
        decay = FIRST_RATIO * (1.0 - LEAST_SHARE) / DECAY_STEPS
        replica.new_token_ratio = max(replica.new_token_ratio - decay, FIRST_RATIO * LEAST_SHARE)
    for index in range(ran):
        tokens = wanted_tokens(_running(replica, index), engine) if _decodes(replica, index) else 0
        if tokens > 0 and extend(replica, engine, _running(replica, index), tokens):
            add_share(replica, engine, integers_at(replica.running)[index], tokens)


@jit
def _fits(replica: Any, engine: Any, ran: int) -> bool:
    """Whether there are pages for all that decode."""
    pages = 0
    for index in range(ran):
        if _decodes(replica, index):
            one = _running(replica, index)
            end = one.computed_tokens + one.in_flight_tokens + wanted_tokens(one, engine)
            pages += max(0, blocks_for(end + engine.lookahead_tokens, engine) - one.blocks)
    return can_allocate(replica, pages)


@jit
def _first_to_give_up(replica: Any, ran: int) -> int:
    chosen = -1
    for index in range(ran):
        if not _decodes(replica, index):
            continue
        one, best = _running(replica, index), _running(replica, max(chosen, 0))
        fewer = one.emitted_tokens < best.emitted_tokens
        alike = one.emitted_tokens == best.emitted_tokens and one.prompt_tokens >= best.prompt_tokens
        if chosen < 0 or fewer or alike:
            chosen = index
    return chosen


@jit
def _cut(replica: Any, ran: int) -> int:
    """Which of the first ``ran`` running requests was cut, -1 for none."""
    for index in range(ran):
        if not _decodes(replica, index):
            return index
    return -1


@jit
def _drop_drafts(replica: Any, ran: int) -> bool:
    """The last sequence that decodes goes on without drafts; False where it has none."""
    for index in range(ran):
        if _decodes(replica, index) and _running(replica, index).draft_tokens:
            _running(replica, index).draft_tokens = 0
            return True
    return False


@jit
def _retract(replica: Any, engine: Any, index: int) -> None:
    """To the end of the queue."""
    _running(replica, index).arrival = replica.arrivals
    replica.arrivals += 1
    preempt(replica, engine, index)


@jit
def _estimated_ratio(replica: Any, ran: int) -> float:
    written, asked = 0, 0
    for index in range(ran):
        if _decodes(replica, index):
            written += _running(replica, index).emitted_tokens + RETRACT_STEPS
            asked += _running(replica, index).output_tokens
    return min(1.0, written / (asked + 1))
