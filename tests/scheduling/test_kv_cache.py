"""Block accounting, against closed forms and against blocks that exist one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.scheduling.kv_cache import BlockPool, CachedBlock, PrefixKey


@given(tokens=st.integers(0, 10_000), size=st.integers(1, 300))
def test_blocks_are_enough_and_not_one_too_many(tokens: int, size: int) -> None:
    blocks = BlockPool(1, size).blocks_for(tokens)
    assert (blocks - 1) * size < tokens <= blocks * size or (tokens == 0 and blocks == 0)


def test_blocks_come_back() -> None:
    pool = BlockPool(5, 16)
    pool.allocate(3)
    assert pool.free_blocks == 2
    assert pool.can_allocate(2)
    assert not pool.can_allocate(3)
    with pytest.raises(InvalidInput, match="3 KV blocks asked, 2 free"):
        pool.allocate(3)
    pool.release(3)
    assert pool.free_blocks == 5
    with pytest.raises(InvalidInput, match="freed twice"):
        pool.release(1)


def test_a_pool_holds_something() -> None:
    with pytest.raises(InvalidInput, match="0 KV blocks of 16"):
        BlockPool(0, 16)


def prefix(*hashes: int) -> list[PrefixKey]:
    return [(False, value, index) for index, value in enumerate(hashes)]


def held(pool: BlockPool, keys: list[PrefixKey]) -> list[CachedBlock]:
    pool.allocate(len(keys))
    return [pool.name(key) for key in keys]


def test_named_blocks_are_found_until_they_are_reused_last_block_first() -> None:
    pool = BlockPool(4, 16)
    pool.release(0, held(pool, prefix(1, 2, 3)))
    assert pool.free_blocks == 4
    assert len(pool.find(prefix(1, 2, 3))) == 3
    pool.allocate(1)  # the one that never had a name
    assert len(pool.find(prefix(1, 2, 3))) == 3
    pool.allocate(1)
    assert len(pool.find(prefix(1, 2, 3))) == 2
    assert pool.find(prefix(9, 2)) == []  # another beginning


def test_the_longest_unused_prefix_goes_first_and_a_shared_block_not_at_all() -> None:
    pool = BlockPool(4, 16)
    first, second = held(pool, prefix(1, 2)), held(pool, prefix(7, 8))
    pool.release(0, first)
    pool.release(0, second)
    again = pool.find(prefix(1))
    pool.hold(again)
    assert pool.free_blocks == 3
    pool.allocate(1)  # block 2 of the first prefix
    assert len(pool.find(prefix(1, 2))) == 1
    assert len(pool.find(prefix(7, 8))) == 2
    pool.allocate(2)
    assert pool.find(prefix(7, 8)) == []
    assert pool.find(prefix(1)) == again


class Blocks:
    """Numbered blocks in one queue, as they lie in memory: plain and slow."""

    def __init__(self, count: int) -> None:
        self.queue = list(range(count))
        self.names: dict[int, PrefixKey] = {}  # by the time of naming
        self.holders = [0] * count

    def take(self, count: int) -> list[int]:
        taken, self.queue = self.queue[:count], self.queue[count:]
        for number in taken:
            self.names.pop(number, None)
            self.holders[number] = 1
        return taken

    def share(self, numbers: list[int]) -> None:
        for number in numbers:
            self.holders[number] += 1
        self.queue = [number for number in self.queue if number not in numbers]

    def give(self, numbers: list[int]) -> None:
        for number in reversed(numbers):
            self.holders[number] -= 1
        free = [number for number in reversed(numbers) if not self.holders[number]]
        nameless = [number for number in free if number not in self.names]
        self.queue = nameless + self.queue + [number for number in free if number in self.names]

    def find(self, keys: list[PrefixKey]) -> list[int]:
        found = []
        for key in keys:
            numbers = [number for number, name in self.names.items() if name == key]
            if not numbers:
                break
            found.append(numbers[0])
        return found


@settings(deadline=None, max_examples=200)
@given(data=st.data(), count=st.integers(1, 12))
def test_counting_gives_what_a_queue_of_blocks_gives(data: st.DataObject, count: int) -> None:
    """Holders come, grow, name what they filled and leave, in any order; prefixes are of three families."""
    pool, blocks = BlockPool(count, 1), Blocks(count)
    holders: list[tuple[list[PrefixKey], list[CachedBlock], list[int]]] = []  # keys, named blocks, numbered ones
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["come", "grow", "name", "name", "leave"]))
        if action == "come":
            keys = prefix(*data.draw(st.sampled_from([(1, 2, 3, 4, 5), (1, 2, 6, 7), (8, 9, 10)])))
            ours, theirs = pool.find(keys), blocks.find(keys)
            assert [block.key for block in ours] == [blocks.names[number] for number in theirs]
            assert [block.references for block in ours] == [blocks.holders[number] for number in theirs]
            pool.hold(ours)
            blocks.share(theirs)
            holders.append((keys, ours, theirs))
        elif holders:
            at = data.draw(st.integers(0, len(holders) - 1))
            keys, ours, theirs = holders[at]
            if action == "grow" and pool.can_allocate(1):
                pool.allocate(1)
                theirs += blocks.take(1)
            elif action == "name" and len(ours) < min(len(keys), len(theirs)):
                blocks.names[theirs[len(ours)]] = keys[len(ours)]
                ours.append(pool.name(keys[len(ours)]))
            elif action == "leave":
                pool.release(len(theirs) - len(ours), ours)
                blocks.give(theirs)
                del holders[at]
        assert pool.free_blocks == len(blocks.queue)
