"""The scheduler's rules on records, ``scheduling.scheduler`` first come, first served, without prefixes.

Statement by statement the same, so read the rules there.
"""

from __future__ import annotations

from typing import Any

from specsim.serving.compiled.jit import jit
from specsim.serving.compiled.state import NONE, Limits, State


@jit
def push_waiting(state: State, r: int, row: int) -> None:
    """To the end of the queue."""
    replica = state.replicas[r]
    state.requests[row].following = NONE
    if replica.last_waiting == NONE:
        replica.first_waiting = row
    else:
        state.requests[replica.last_waiting].following = row
    replica.last_waiting = row
    replica.waiting += 1


@jit
def _preempt(state: State, r: int) -> int:
    """The last running sequence loses its cache and goes to the head of the queue."""
    replica = state.replicas[r]
    replica.running -= 1
    row = state.running[r, replica.running]
    one = state.requests[row]
    replica.free_blocks += one.blocks
    one.blocks = 0
    one.computed = 0
    one.drafts = 0
    one.preemptions += 1
    one.following = replica.first_waiting
    replica.first_waiting = row
    if replica.last_waiting == NONE:
        replica.last_waiting = row
    replica.waiting += 1
    return int(row)


@jit
def _admit(state: State, r: int, row: int) -> None:
    replica = state.replicas[r]
    replica.first_waiting = state.requests[row].following
    if replica.first_waiting == NONE:
        replica.last_waiting = NONE
    replica.waiting -= 1
    state.running[r, replica.running] = row
    replica.running += 1


@jit
def _blocks_for(tokens: int, limits: Limits) -> int:
    return -(-min(tokens, limits.longest) // limits.block_size)


@jit
def _extend(one: Any, replica: Any, tokens: int, limits: Limits) -> bool:
    """Blocks for more positions of a running sequence, or False."""
    missing = _blocks_for(one.computed + tokens + limits.lookahead_tokens, limits) - one.blocks
    if missing > replica.free_blocks:
        return False
    if missing > 0:
        replica.free_blocks -= missing
        one.blocks += missing
    return True


@jit
def _claim(one: Any, replica: Any, tokens: int, limits: Limits) -> bool:
    """Blocks for an admission, or False."""
    target = _blocks_for(tokens + limits.lookahead_tokens, limits)
    needed = target
    if limits.reserve_whole_prompt:
        needed = max(needed, _blocks_for(one.prompt + one.emitted - one.merged, limits))
    if replica.running:
        needed += limits.watermark_blocks
    if needed > replica.free_blocks:
        return False
    replica.free_blocks -= target
    one.blocks = target
    return True


@jit
def _enter(share: Any, one: Any, row: int, tokens: int, padding: int, limits: Limits) -> bool:
    """A sequence's share of the step; returns whether prompt (or recomputed) tokens are left after it."""
    missing = one.prompt + one.emitted - one.merged - one.computed
    emits = tokens >= missing
    drafts = max(0, tokens - missing - padding)
    if emits and not limits.verifies_drafts:
        drafts = one.drafts
    share.row = row
    share.tokens = tokens
    share.drafts = drafts
    share.extra = padding + (drafts if limits.verifies_drafts else 0)
    share.emits = emits
    share.prefill = missing > 1 or one.emitted == 0
    return not emits


@jit
def schedule(state: State, r: int, limits: Limits) -> int:
    """Choose the next step's work and take its KV blocks; returns how many shares it has."""
    replica = state.replicas[r]
    budget, count, preempted, prefilling = limits.max_num_batched_tokens, 0, False, False
    longest_chunk, others = limits.longest, replica.running + replica.waiting
    if limits.longest_chunk and others > 1:
        longest_chunk = limits.longest_chunk
        if limits.longest_chunk_adaptive:
            longest_chunk = max(longest_chunk, limits.max_num_batched_tokens // others)
    while count < replica.running and budget > limits.draft_slots:
        row = state.running[r, count]
        one = state.requests[row]
        tokens = one.prompt + one.emitted - one.merged - one.computed
        if limits.verifies_drafts:
            tokens += one.drafts
        tokens = min(tokens, limits.longest - one.computed - 1)
        tokens = min(tokens, longest_chunk, budget - limits.draft_slots)
        while not _extend(one, replica, tokens, limits):
            preempted = True
            if _preempt(state, r) == row:
                return count
        budget -= tokens + limits.draft_slots
        prefilling |= _enter(state.shares[count], one, row, tokens, 0, limits)
        count += 1
    if preempted:
        return count
    uniform = count > 0 and not prefilling
    while replica.waiting and budget > limits.draft_slots and replica.running < limits.max_num_seqs:
        row, room = replica.first_waiting, budget - limits.draft_slots
        one = state.requests[row]
        missing, padding = one.prompt + one.emitted - one.merged, 0
        if uniform and missing == 1 and limits.padding + 2 <= limits.longest:
            padding = limits.padding
        tokens = min(missing, longest_chunk) + padding
        if tokens > room and (padding or not limits.chunked_prefill):
            break
        tokens = min(tokens, room)
        if not _claim(one, replica, tokens, limits):
            break
        _admit(state, r, row)
        budget -= tokens + limits.draft_slots
        _enter(state.shares[count], one, row, tokens, padding, limits)
        count += 1
    return count
