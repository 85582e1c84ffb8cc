"""Which sequence gets which KV blocks: room for an admission or for one more step, prefixes found and named."""

from __future__ import annotations

from sys import maxsize

from specsim.scheduling.kv_cache import BlockPool, CachedBlock
from specsim.scheduling.sequence import Sequence
from specsim.specs.engine import EngineLimits


class KvManager:
    """The blocks of one replica; ``num_kv_blocks`` includes the null block, which nobody ever holds."""

    def __init__(
        self, limits: EngineLimits, num_kv_blocks: int, *, lookahead_tokens: int, recompute_last_hit: bool
    ) -> None:
        self.limits = limits
        self.lookahead_tokens = lookahead_tokens
        self.recompute_last_hit = recompute_last_hit
        self.pool = BlockPool(num_kv_blocks - 1, limits.block_size)
        self._watermark_blocks = int(limits.watermark * num_kv_blocks)
        self._longest = maxsize if limits.max_model_len is None else limits.max_model_len

    def blocks_for(self, tokens: int) -> int:
        """Blocks for so many positions, of which the model's limit leaves some out."""
        return self.pool.blocks_for(min(tokens, self._longest))

    def cached_prefix(self, sequence: Sequence) -> list[CachedBlock]:
        """The blocks that an admission can take over; at least one known token is left to compute."""
        if not self.limits.prefix_caching:
            return []
        size = self.pool.block_size
        hits = self.pool.find(sequence.prefix_key(b, size) for b in range((sequence.known_tokens - 1) // size))
        return hits[:-1] if self.recompute_last_hit else hits

    def admit(self, sequence: Sequence, hits: list[CachedBlock], tokens: int, *, alone: bool) -> bool:
        """Blocks for an admission that computes ``tokens`` positions after ``hits``, or False.

        Hits that nobody holds are taken from the free blocks too. ``alone``: nobody else runs.
        """
        hit_tokens = len(hits) * self.pool.block_size
        target = self.blocks_for(hit_tokens + tokens + self.lookahead_tokens)
        needed = target
        if self.limits.scheduler_reserve_full_isl:
            needed = max(needed, self.blocks_for(sequence.known_tokens))
        needed -= sum(block.references > 0 for block in hits)
        if not alone:
            needed += self._watermark_blocks
        if not self.pool.can_allocate(needed):
            return False
        self.pool.hold(hits)
        self.pool.allocate(target - len(hits))
        sequence.blocks, sequence.cached = target, hits
        sequence.computed_tokens = hit_tokens
        sequence.hit_tokens += hit_tokens
        self.name(sequence, min(hit_tokens + tokens, sequence.known_tokens))
        return True

    def extend(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for ``tokens`` more positions of a running sequence, or False."""
        end = sequence.scheduled_tokens + tokens
        missing = self.blocks_for(end + self.lookahead_tokens) - sequence.blocks
        if missing > 0:
            if not self.pool.can_allocate(missing):
                return False
            self.pool.allocate(missing)
            sequence.blocks += missing
        self.name(sequence, min(end, sequence.known_tokens))
        return True

    def name(self, sequence: Sequence, tokens: int) -> None:
        """Name the full blocks among the first ``tokens`` positions."""
        if not self.limits.prefix_caching:
            return
        size = self.pool.block_size
        for block in range(len(sequence.cached), tokens // size):
            sequence.cached.append(self.pool.name(sequence.prefix_key(block, size)))

    def release(self, sequence: Sequence) -> None:
        """Give back all that the sequence holds."""
        self.pool.release(sequence.blocks - len(sequence.cached), sequence.cached)
        sequence.blocks, sequence.cached = 0, []
