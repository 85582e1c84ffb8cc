"""Which prompts begin alike: block hashes of many requests in two arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PrefixHashes:
    """Prompt block hashes of n requests: those of row i are ``values[starts[i] : starts[i + 1]]``.

    One number for each block of ``block_tokens`` prompt tokens, the last of which may be partial. Equal numbers in two
    requests mean equal prompts up to the end of that block.
    """

    starts: NDArray[np.int64]  # [n + 1], not descending, from 0
    values: NDArray[np.int64]
    block_tokens: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Blocks of each request, [n]."""
        return np.diff(self.starts)

    def take(self, rows: NDArray[np.int64]) -> PrefixHashes:
        """These rows, in this order."""
        counts = self.counts[rows]
        where = np.repeat(self.starts[:-1][rows], counts) + _inside(counts)
        return PrefixHashes(_starts(counts), self.values[where], self.block_tokens)

    def part(self, start: int, stop: int) -> PrefixHashes:
        """Rows start..stop-1 as views."""
        starts = self.starts[start : stop + 1]
        return PrefixHashes(starts - starts[0], self.values[starts[0] : starts[-1]], self.block_tokens)

    def shortened(self, prompt_tokens: NDArray[np.int32]) -> PrefixHashes:
        """Without the hashes of blocks that would begin after the prompt's end."""
        fitting = np.minimum(self.counts, -(-prompt_tokens.astype(np.int64) // self.block_tokens))
        kept = _inside(self.counts) < np.repeat(fitting, self.counts)
        return PrefixHashes(_starts(fitting), self.values[kept], self.block_tokens)

    def rows(self) -> list[tuple[int, ...]]:
        starts, values = self.starts.tolist(), self.values.tolist()
        return [tuple(values[low:high]) for low, high in pairwise(starts)]


def prefix_hashes(hashes: Iterable[Sequence[int]], block_tokens: int) -> PrefixHashes:
    """The arrays of one sequence of hashes a request."""
    each = list(hashes)
    counts = np.array([len(one) for one in each], dtype=np.int64)
    values = np.fromiter((value for one in each for value in one), dtype=np.int64, count=int(counts.sum()))
    return PrefixHashes(_starts(counts), values, block_tokens)


def joined_prefixes(parts: Sequence[PrefixHashes]) -> PrefixHashes:
    """Consecutive parts as one."""
    counts = np.concatenate([part.counts for part in parts])
    return PrefixHashes(_starts(counts), np.concatenate([part.values for part in parts]), parts[0].block_tokens)


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


def _inside(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ..., counts[i] - 1 for every i, one after the other."""
    starts = _starts(counts)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
