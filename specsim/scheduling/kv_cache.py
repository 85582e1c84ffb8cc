"""Paged KV-cache accounting: how many blocks are free, who holds how many.

Counts only. Which physical block holds which token is an engine's business and never changes a schedule, as long
as no prefix is shared.
"""

from __future__ import annotations

from specsim.errors import InvalidInput


class BlockPool:
    """``num_blocks`` blocks of ``block_size`` tokens each."""

    __slots__ = ("block_size", "free_blocks", "num_blocks")

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise InvalidInput(f"{num_blocks} KV blocks of {block_size} tokens; both must be at least 1")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free_blocks = num_blocks

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens: 17 tokens in blocks of 16 take 2."""
        return -(-tokens // self.block_size)

    def can_allocate(self, blocks: int) -> bool:
        """Whether ``blocks`` more blocks are free."""
        return blocks <= self.free_blocks

    def allocate(self, blocks: int) -> None:
        """Take ``blocks`` blocks; ask ``can_allocate`` first."""
        if blocks > self.free_blocks:
            raise InvalidInput(f"{blocks} KV blocks asked, {self.free_blocks} free; call can_allocate first")
        self.free_blocks -= blocks

    def release(self, blocks: int) -> None:
        """Give ``blocks`` blocks back."""
        self.free_blocks += blocks
        if self.free_blocks > self.num_blocks:
            raise InvalidInput(f"{self.free_blocks} of {self.num_blocks} KV blocks free; a block was freed twice")
