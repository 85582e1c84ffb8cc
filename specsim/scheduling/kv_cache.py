"""Paged KV-cache accounting: how many blocks are free, who holds how many, and which hold a known prefix.

A block is only a count until it is full of known tokens; then, with prefix caching, it gets a name and becomes a
``CachedBlock`` that other sequences may share. Which physical block holds what is an engine's business and never
changes a schedule.

The order in which free blocks are reused is that of vLLM V1's ``BlockPool`` (0.32): blocks without a name first, then
named ones, the longest unused first; of one sequence's blocks the last is reused first. Two blocks may bear the same
name (two sequences computed the same prefix at once); a lookup finds the older one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specsim.errors import InvalidInput

PrefixKey = tuple[bool, int, int]
"""Names all tokens from a sequence's first to the end of one block: (whether only its request can know it, the
request's id or the workload's hash, index of the block)."""


@dataclass(slots=True, eq=False)
class CachedBlock:
    """A full block whose tokens are known by name; free while ``references`` is 0, but found until it is reused."""

    key: PrefixKey
    references: int = 1


class BlockPool:
    """``num_blocks`` blocks of ``block_size`` tokens each, all of which can be held."""

    __slots__ = ("_by_key", "_free_cached", "_free_plain", "block_size", "num_blocks")

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise InvalidInput(f"{num_blocks} KV blocks of {block_size} tokens; both must be at least 1")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free_plain = num_blocks
        self._free_cached: OrderedDict[CachedBlock, None] = OrderedDict()  # the next to be reused first
        self._by_key: dict[PrefixKey, dict[CachedBlock, None]] = {}  # of each name the oldest first

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds, those with a name included."""
        return self._free_plain + len(self._free_cached)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens: 17 tokens in blocks of 16 take 2."""
        return -(-tokens // self.block_size)

    def can_allocate(self, blocks: int) -> bool:
        """Whether ``blocks`` more blocks are free."""
        return blocks <= self._free_plain + len(self._free_cached)

    def allocate(self, blocks: int) -> None:
        """Take ``blocks`` blocks without a name; ask ``can_allocate`` first."""
        if not self.can_allocate(blocks):
            raise InvalidInput(f"{blocks} KV blocks asked, {self.free_blocks} free; call can_allocate first")
        plain = min(blocks, self._free_plain)
        self._free_plain -= plain
        for _ in range(blocks - plain):
            self._forget(self._free_cached.popitem(last=False)[0])

    def release(self, blocks: int, cached: Sequence[CachedBlock] = ()) -> None:
        """Give back ``blocks`` blocks without a name, and the named ones that one sequence holds, in its order."""
        self._free_plain += blocks
        for block in reversed(cached):
            block.references -= 1
            if not block.references:
                self._free_cached[block] = None
        if self.free_blocks > self.num_blocks:
            raise InvalidInput(f"{self.free_blocks} of {self.num_blocks} KV blocks free; a block was freed twice")

    def name(self, key: PrefixKey) -> CachedBlock:
        """Name a block that its holder took with ``allocate`` and has filled with known tokens."""
        block = CachedBlock(key)
        self._by_key.setdefault(key, {})[block] = None
        return block

    def find(self, keys: Iterable[PrefixKey]) -> list[CachedBlock]:
        """The blocks of the longest cached prefix; they stay reusable until they are held."""
        found: list[CachedBlock] = []
        for key in keys:
            named = self._by_key.get(key)
            if named is None:
                break
            found.append(next(iter(named)))
        return found

    def hold(self, cached: Iterable[CachedBlock]) -> None:
        """Share blocks that ``find`` returned."""
        for block in cached:
            if not block.references:
                del self._free_cached[block]
            block.references += 1

    def _forget(self, block: CachedBlock) -> None:
        named = self._by_key[block.key]
        del named[block]
        if not named:
            del self._by_key[block.key]
