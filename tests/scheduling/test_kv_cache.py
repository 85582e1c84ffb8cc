"""Block accounting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.scheduling.kv_cache import BlockPool


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
