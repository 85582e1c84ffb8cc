"""Block accounting, against closed forms and against blocks that exist one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.cost.cache import CacheLayout
from specsim.jit import address_of, array_at
from specsim.scheduling import blocks
from specsim.scheduling.engine import engine_of
from specsim.scheduling.records import BLOCK, REQUEST, replica_at, request_at
from specsim.scheduling.replica import new_replica
from specsim.specs.engine import EngineLimits

FIND, HOLD, NAME, RELEASE, ALLOCATE, FITS = range(6)


@numba.njit
def do(operation: int, replica_address: int, request: int, table: int, count: int) -> int:
    """One of the pool's operations for Python."""
    replica = replica_at(replica_address)
    if operation == FIND:
        return blocks.find_prefix(replica, request_at(request), table)
    if operation == HOLD:
        blocks.hold(replica, table, count)
    elif operation == NAME:
        blocks.name_blocks(replica, request_at(request), count)
    elif operation == RELEASE:
        blocks.release(replica, request_at(request))
    elif operation == ALLOCATE:
        blocks.allocate(replica, count)
    elif operation == FITS:
        return int(blocks.can_allocate(replica, count))
    return 0


class Pool:
    """A replica's blocks of one token each."""

    def __init__(self, count: int) -> None:
        self.arrays = new_replica(engine_of(EngineLimits(block_size=1, prefix_caching=True), count + 1))
        self.at = address_of(self.arrays.record)

    @property
    def free(self) -> int:
        return int(self.arrays.record["free_plain"][0] + self.arrays.record["free_named"][0])

    def fits(self, count: int) -> bool:
        return bool(do(FITS, self.at, 0, 0, count))


class Holder:
    """A request whose prompt is named by ``names``; it holds what it found when it came."""

    def __init__(self, pool: Pool, names: Sequence[int], number: int = 0) -> None:
        self.pool, self.record, self.hashes = pool, np.zeros(1, REQUEST), np.array(names, dtype=np.int64)
        self.at, record = address_of(self.record), pool.arrays.record
        fields = {
            "request_id": number, "prompt_tokens": len(names) + 1, "hashes": address_of(self.hashes),
            "num_hashes": len(names), "hash_block_tokens": 1,
        }  # fmt: skip
        for name, value in fields.items():
            self.record[name] = value
        record["num_spare_tables"] -= 1
        self.table = int(pool.arrays.spare_tables[record["num_spare_tables"][0]])
        self.found = do(FIND, pool.at, self.at, self.table, 0)

    def hold(self) -> None:
        do(HOLD, self.pool.at, 0, self.table, self.found)
        self.record["blocks"] = self.record["named_blocks"] = self.found
        self.record["table"] = self.table

    def grow(self, count: int = 1) -> None:
        do(ALLOCATE, self.pool.at, 0, 0, count)
        self.record["blocks"] += count

    def name(self, count: int) -> None:
        do(NAME, self.pool.at, self.at, 0, count)

    def leave(self) -> None:
        do(RELEASE, self.pool.at, self.at, 0, 0)

    def named(self) -> list[tuple[int, int, int]]:
        """(name, index, references) of each block found or named."""
        count = max(self.found, int(self.record["named_blocks"][0]))
        found = [array_at(at, 1, BLOCK)[0].item() for at in array_at(self.table, count, np.dtype(np.int64)).tolist()]
        return [block[1:4] for block in found]


def holding(pool: Pool, *names: int) -> Holder:
    """A request that has computed and named a whole prompt, beside whatever others of its name there are."""
    one = Holder(pool, names)
    one.found = 0
    one.hold()
    one.grow(len(names))
    one.name(len(names))
    return one


def cached(pool: Pool, *names: int) -> int:
    """How long the longest cached prefix of these names is."""
    asking = Holder(pool, names)
    asking.record["table"] = asking.table
    asking.leave()
    return asking.found


@given(tokens=st.integers(0, 10_000), size=st.integers(1, 300))
def test_blocks_are_enough_and_not_one_too_many(tokens: int, size: int) -> None:
    count = blocks_for(tokens, address_of(engine_of(EngineLimits(block_size=size), 2)))
    assert (count - 1) * size < tokens <= count * size or (tokens == 0 and count == 0)


@settings(max_examples=50)
@given(
    tokens=st.integers(1, 10_000), size=st.integers(1, 300), grows=st.integers(0, 1), windows=st.integers(0, 5),
    span=st.integers(1, 20), states=st.integers(0, 30),
)  # fmt: skip
def test_windows_and_states_take_what_their_layout_says(
    tokens: int, size: int, grows: int, windows: int, span: int, states: int
) -> None:
    layout = CacheLayout(size, 1.0, grows, windows, span, states)
    engine = engine_of(EngineLimits(block_size=16), 2, layout=layout)
    assert blocks_for(tokens, address_of(engine)) == layout.blocks_for(tokens)


@numba.njit
def blocks_for(tokens: int, engine: int) -> int:
    return blocks.blocks_for(tokens, blocks.engine_at(engine))


def test_blocks_come_back() -> None:
    pool = Pool(5)
    one = Holder(pool, [1])
    one.hold()
    one.grow(3)
    assert pool.free == 2
    assert pool.fits(2)
    assert not pool.fits(3)
    one.leave()
    assert pool.free == 5


def test_named_blocks_are_found_until_they_are_reused_last_block_first() -> None:
    pool = Pool(4)
    holding(pool, 1, 2, 3).leave()
    assert pool.free == 4
    assert cached(pool, 1, 2, 3) == 3
    other = Holder(pool, [])
    other.hold()
    other.grow()  # the one that never had a name
    assert cached(pool, 1, 2, 3) == 3
    other.grow()
    assert cached(pool, 1, 2, 3) == 2
    assert cached(pool, 9, 2) == 0  # another beginning


def test_the_longest_unused_prefix_goes_first_and_a_shared_block_not_at_all() -> None:
    pool = Pool(4)
    first, second = holding(pool, 1, 2), holding(pool, 7, 8)
    first.leave()
    second.leave()
    again = Holder(pool, [1])
    again.hold()
    assert pool.free == 3
    again.grow()  # block 2 of the first prefix
    assert cached(pool, 1, 2) == 1
    assert cached(pool, 7, 8) == 2
    again.grow(2)
    assert cached(pool, 7, 8) == 0
    assert cached(pool, 1) == 1


class Blocks:
    """Numbered blocks in one queue, as they lie in memory: plain and slow."""

    def __init__(self, count: int) -> None:
        self.queue = list(range(count))
        self.names: dict[int, tuple[int, int]] = {}  # by the time of naming
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

    def find(self, keys: list[tuple[int, int]]) -> list[int]:
        found = []
        for key in keys:
            numbers = [number for number, name in self.names.items() if name == key]
            if not numbers:
                break
            found.append(numbers[0])
        return found


@settings(max_examples=200)
@given(data=st.data(), count=st.integers(1, 12))
def test_counting_gives_what_a_queue_of_blocks_gives(data: st.DataObject, count: int) -> None:
    """Holders come, grow, name what they filled and leave, in any order; prefixes are of three families."""
    pool, plain = Pool(count), Blocks(count)
    holders: list[tuple[list[tuple[int, int]], Holder, list[int]]] = []  # keys, ours, numbered blocks
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["come", "grow", "name", "name", "leave"]))
        if action == "come":
            names = data.draw(st.sampled_from([(1, 2, 3, 4, 5), (1, 2, 6, 7), (8, 9, 10)]))
            keys = [(name, index) for index, name in enumerate(names)]
            ours, theirs = Holder(pool, names), plain.find(keys)
            assert ours.named() == [(*plain.names[number], plain.holders[number]) for number in theirs]
            ours.hold()
            plain.share(theirs)
            holders.append((keys, ours, theirs))
        elif holders:
            at = data.draw(st.integers(0, len(holders) - 1))
            keys, ours, theirs = holders[at]
            named = len(ours.named())
            if action == "grow" and pool.fits(1):
                ours.grow()
                theirs += plain.take(1)
            elif action == "name" and named < min(len(keys), len(theirs)):
                plain.names[theirs[named]] = keys[named]
                ours.name(named + 1)
            elif action == "leave":
                ours.leave()
                plain.give(theirs)
                del holders[at]
        assert pool.free == len(plain.queue)
