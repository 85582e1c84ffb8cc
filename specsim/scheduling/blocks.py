"""Paged KV-cache accounting: how many blocks are free, who holds how many, and which hold a known prefix.

A block is only a count until it is full of known tokens; then, with prefix caching, it gets a name and becomes a
record that other sequences may share. Which physical block holds what is an engine's business and never changes a
schedule.

The order in which free blocks are reused is that of vLLM V1's ``BlockPool`` (0.32): blocks without a name first, then
named ones, the longest unused first; of one sequence's blocks the last is reused first. Two blocks may bear the same
name (two sequences computed the same prefix at once); a lookup finds the older one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import NONE, integers_at, jit
from specsim.scheduling.records import BLOCK, block_at, engine_at

BLOCK_BYTES = BLOCK.itemsize
_ODD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


@jit
def known_tokens(one: Any) -> int:
    """Positions whose token is known."""
    return int(one.prompt_tokens + one.emitted_tokens - one.merged_tokens)


@jit
def blocks_for(tokens: int, engine: Any) -> int:
    """Blocks for so many positions, of which the model's limit leaves some out: 17 in blocks of 16 take 2.

    Layers with a window take more up to the window, layers with a state the same for any number (``cost.cache``).
    """
    each = -(-min(tokens, engine.max_model_len) // engine.block_size)
    bounded = engine.window_blocks * min(each, engine.window_span) + engine.state_blocks
    return int(engine.grows * each + bounded)


@jit
def can_allocate(replica: Any, blocks: int) -> bool:
    """Whether ``blocks`` more blocks are free, those with a name included."""
    return bool(blocks <= replica.free_plain + replica.free_named)


@jit
def allocate(replica: Any, blocks: int) -> None:
    """Take ``blocks`` blocks without a name; ask ``can_allocate`` first."""
    plain = min(blocks, replica.free_plain)
    replica.free_plain -= plain
    for _ in range(blocks - plain):
        address = replica.first_free
        _leave_free(replica, address)
        _forget(replica, address)


@jit
def find_prefix(replica: Any, one: Any, table: int) -> int:
    """Put the blocks that an admission can take over into ``table``, and tell how many; they stay reusable.

    At least one known token is left to compute.
    """
    engine = engine_at(replica.engine)
    if not engine.prefix_caching:
        return 0
    found, blocks = 0, integers_at(table)
    for index in range((known_tokens(one) - 1) // engine.block_size):
        private, name = _name(one, index, engine.block_size)
        address = integers_at(replica.buckets)[_bucket(replica, name, index)]
        while address != NONE and not _bears(address, private, name, index):
            address = block_at(address).younger
        if address == NONE:
            break
        blocks[index] = address
        found += 1
    return max(0, found - 1) if engine.recompute_last_hit else found


@jit
def held_by_others(table: int, blocks: int) -> int:
    """How many of these blocks somebody holds."""
    count = 0
    for index in range(blocks):
        count += block_at(integers_at(table)[index]).references > 0
    return count


@jit
def hold(replica: Any, table: int, blocks: int) -> None:
    """Share blocks that ``find_prefix`` found."""
    for index in range(blocks):
        address = integers_at(table)[index]
        if block_at(address).references == 0:
            _leave_free(replica, address)
        block_at(address).references += 1


@jit
def name_blocks(replica: Any, one: Any, tokens: int) -> None:
    """Name the full blocks among the first ``tokens`` positions of a running sequence."""
    engine = engine_at(replica.engine)
    if not engine.prefix_caching or tokens < (one.named_blocks + 1) * engine.block_size:
        return
    full = tokens // engine.block_size
    blocks = integers_at(one.table)
    for index in range(one.named_blocks, full):
        address = _new_record(replica)
        block = block_at(address)
        block.private, block.hash = _name(one, index, engine.block_size)
        block.index, block.references, block.younger, block.listed = index, 1, NONE, 0
        if not block.private:
            _list(replica, address)
        blocks[index] = address
    one.named_blocks = full


@jit
def spare_table(replica: Any) -> int:
    """A block table that nobody uses; NONE where there are none, without prefix caching."""
    count = replica.num_spare_tables
    return int(integers_at(replica.spare_tables)[count - 1]) if count else NONE


@jit
def take_blocks(replica: Any, engine: Any, one: Any, table: int, hits: int, tokens: int) -> bool:
    """Blocks for an admission that computes ``tokens`` positions after the ``hits`` in ``table``, or False.

    Hits that nobody holds are taken from the free blocks too.
    """
    hit_tokens = hits * engine.block_size
    target = blocks_for(hit_tokens + tokens + engine.lookahead_tokens, engine)
    needed = target
    if engine.scheduler_reserve_full_isl:
        needed = max(needed, blocks_for(known_tokens(one), engine))
    needed -= held_by_others(table, hits)
    if replica.num_running:
        needed += engine.watermark_blocks
    if not can_allocate(replica, needed):
        return False
    hold(replica, table, hits)
    allocate(replica, target - hits)
    replica.num_spare_tables -= table != NONE
    one.blocks, one.named_blocks, one.table = target, hits, table
    one.computed_tokens = hit_tokens
    one.hit_tokens += hit_tokens
    return True


@jit
def release(replica: Any, one: Any) -> None:
    """Give back all that a sequence holds, and its block table."""
    replica.free_plain += one.blocks - one.named_blocks
    if one.table != NONE:
        blocks = integers_at(one.table)
        comes_back = one.emitted_tokens < one.output_tokens
        for index in range(one.named_blocks - 1, -1, -1):
            block = block_at(blocks[index])
            if comes_back and not block.listed:
                _list(replica, blocks[index])
            block.references -= 1
            if block.references == 0:
                _enter_free(replica, blocks[index])
        integers_at(replica.spare_tables)[replica.num_spare_tables] = one.table
        replica.num_spare_tables += 1
    one.blocks, one.named_blocks, one.table = 0, 0, NONE


@jit
def _new_record(replica: Any) -> int:
    """A BLOCK record in no use; there are as many as blocks."""
    address = replica.spare_block
    if address != NONE:
        replica.spare_block = block_at(address).after
    else:
        address = replica.fresh_block
        replica.fresh_block += BLOCK_BYTES
    return int(address)


@jit
def _name(one: Any, index: int, block_size: int) -> tuple[int, int]:
    """What names the sequence up to the end of its ``index``-th block, from 0, beside that index."""
    end = (index + 1) * block_size
    if end <= one.prompt_tokens and end <= one.num_hashes * one.hash_block_tokens:
        return 0, integers_at(one.hashes)[(end - 1) // one.hash_block_tokens]
    return 1, one.request_id


@jit
def _bears(address: int, private: int, name: int, index: int) -> bool:
    block = block_at(address)
    return bool(block.hash == name and block.index == index and block.private == private)


@jit
def _bucket(replica: Any, name: int, index: int) -> int:
    mixed = (np.uint64(np.int64(name)) * _ODD) ^ np.uint64(index)
    mixed = (mixed ^ (mixed >> _SHIFT)) * _ODD
    return int((mixed ^ (mixed >> _SHIFT)) & np.uint64(replica.num_buckets - 1))


@jit
def _list(replica: Any, address: int) -> None:
    """To the end of its bucket, so that the oldest of a name is found first."""
    block = block_at(address)
    block.listed = 1
    heads = integers_at(replica.buckets)
    bucket = _bucket(replica, block.hash, block.index)
    if heads[bucket] == NONE:
        heads[bucket] = address
        return
    last = block_at(heads[bucket])
    while last.younger != NONE:
        last = block_at(last.younger)
    last.younger = address


@jit
def _forget(replica: Any, address: int) -> None:
    """The block loses its name, and the record is spare."""
    block = block_at(address)
    if block.listed:
        _unlist(replica, address)
    block.after = replica.spare_block
    replica.spare_block = address


@jit
def _unlist(replica: Any, address: int) -> None:
    block = block_at(address)
    heads = integers_at(replica.buckets)
    bucket = _bucket(replica, block.hash, block.index)
    if heads[bucket] == address:
        heads[bucket] = block.younger
    else:
        older = block_at(heads[bucket])
        while older.younger != address:
            older = block_at(older.younger)
        older.younger = block.younger


@jit
def _enter_free(replica: Any, address: int) -> None:
    """To the end of the free blocks with a name."""
    block = block_at(address)
    block.before, block.after = replica.last_free, NONE
    if replica.last_free == NONE:
        replica.first_free = address
    else:
        block_at(replica.last_free).after = address
    replica.last_free = address
    replica.free_named += 1


@jit
def _leave_free(replica: Any, address: int) -> None:
    block = block_at(address)
    if block.before == NONE:
        replica.first_free = block.after
    else:
        block_at(block.before).after = block.after
    if block.after == NONE:
        replica.last_free = block.before
    else:
        block_at(block.after).before = block.before
    replica.free_named -= 1
