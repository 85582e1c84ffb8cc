"""What prefill and decode replicas do for each other; by vLLM's rules (NixlConnector) or by SGLang's.

A prefill replica computes a prompt and keeps its KV blocks until they have been read. A decode replica gives a request
blocks before any KV moves, and runs it once its KV is there. Whole blocks move, of the drafter's cache with the
target's: a prefill replica runs the drafter over its prompts too, and never drafts.

**vLLM.** The prefill replica's request has an output of one token, which the proxy throws away; then the decode
replica gets the request, reserves blocks for all of the prompt that its own prefix cache lacks, in the order of its
queue, and reads them. The prompt's last position is computed again there, so the first token is the decode replica's.

**SGLang** (``disaggregation/decode.py``). Both replicas get the request. Its prompt is computed once the decode
replica has reserved pages, beside which ``num_reserved_decode_tokens`` stay free for each request that it holds, and
as many as let any running one finish if all others were retracted. The first token is the prefill replica's; it comes
with the KV and is out when the request joins the running ones.

Requests whose KV is there go before all others that wait, as vLLM's queue of skipped requests does. A request that is
preempted is prefilled again where it decodes.

Not as there: blocks for the first step's drafts are reserved too, and a request that finds all others' KV in its way
makes room, since both engines can come to a stand without; at most ``max_num_seqs`` requests hold blocks and do not
run; KV moves when the whole prompt is computed, not chunk by chunk (SGLang); a retracted request's KV is thrown away,
not kept in the host's memory (SGLang).
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, integers_at, jit
from specsim.scheduling.blocks import blocks_for, find_prefix, spare_table, take_blocks
from specsim.scheduling.queue import enqueue, leave_queue
from specsim.scheduling.records import DECODE, engine_at, request_at

CLIPPED_OUTPUT = 4096  # SGLang expects no longer one


@jit
def kv_is_elsewhere(engine: Any, one: Any) -> bool:
    """Whether a waiting request's KV is to come and has no blocks yet."""
    return bool(engine.role == DECODE and one.other_half != NONE)


@jit
def kv_has_come(one: Any) -> bool:
    """Of a waiting request."""
    return bool(one.blocks > 0)


@jit
def reserve(replica: Any, engine: Any) -> bool:
    """Blocks for the next of the queue, whose KV will come; False where it must wait."""
    address = replica.first_waiting
    one, table = request_at(address), spare_table(replica)
    if replica.num_pending >= engine.max_num_seqs:
        return False
    if engine.sglang and not _leaves_room(replica, engine, one):
        return False
    hits = find_prefix(replica, one, table)
    first_step = min(one.prompt_tokens + engine.sglang, one.prompt_tokens + one.output_tokens - 1)
    if engine.pads_new_decodes:
        first_step += engine.max_draft_tokens
    if not take_blocks(replica, engine, one, table, hits, first_step - hits * engine.block_size):
        return False
    leave_queue(replica, address)
    integers_at(replica.reserved)[replica.num_reserved] = address
    replica.num_reserved += 1
    replica.num_pending += 1
    return True


@jit
def _leaves_room(replica: Any, engine: Any, one: Any) -> bool:
    held, longest = 0, 0
    for index in range(replica.num_running):
        other = request_at(integers_at(replica.running)[index])
        held += other.prompt_tokens + other.emitted_tokens
        longest = max(longest, other.prompt_tokens + min(other.output_tokens, CLIPPED_OUTPUT))
    reserved = engine.num_reserved_decode_tokens
    kept = max(reserved * (replica.num_running + replica.num_pending), longest - held if replica.num_running else 0)
    free = (replica.free_plain + replica.free_named) * engine.block_size
    longest = one.prompt_tokens + min(one.output_tokens, CLIPPED_OUTPUT)
    return bool(max(one.prompt_tokens + reserved, longest - held) <= free - kept)


@jit
def blocks_to_move(replica: Any, one: Any) -> int:
    """KV blocks of a request's prompt that a decode replica lacks, which has reserved for it."""
    return int(blocks_for(one.prompt_tokens, engine_at(replica.engine)) - one.named_blocks)


@jit
def start_moving(replica: Any, address: int) -> None:
    """The KV of a request is on its way, after that of others."""
    request_at(address).after = NONE
    if replica.first_moving == NONE:
        replica.first_moving = address
    else:
        request_at(replica.last_moving).after = address
    replica.last_moving = address


@jit
def end_moving(replica: Any) -> int:
    """The next request whose KV was on the way has it, and waits to run; its address."""
    engine, address = engine_at(replica.engine), replica.first_moving
    one = request_at(address)
    replica.first_moving, one.after, one.other_half = one.after, NONE, NONE
    one.emitted_tokens = engine.sglang
    one.computed_tokens = one.prompt_tokens + engine.sglang - 1
    enqueue(replica, engine.by_priority, address)
    return int(address)
