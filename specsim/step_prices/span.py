"""What tables must span, and where their knots are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.cost.attention import TILE_ROWS

KV_RATIO, CHUNK_RATIO, PREFIX_RATIO, SEQUENCE_RATIO = 1.2, 1.15, 1.3, 1.1  # of neighbouring knots
FEW = 16.0  # sequences up to which every number is a knot
PART_OF_ONE = (0.1, 0.3, 0.6)  # what a pass that few requests reach holds on average
JUST_MORE = 0.01  # tokens than whole tiles: chunks in one kernel are priced by their mean length
LONGEST_IN_TILES = 2048.0  # tokens of a chunk; one tile more is little of a longer one's time
CHUNK_COUNTS = (1.0, 1.5, 2.0, 3.0, 5.0, 9.0)  # of a length, in one kernel
MOST_CHUNKS = 16  # beside as many sequences as may run


@dataclass(frozen=True, slots=True)
class Extent:
    """What the tables must span."""

    max_num_seqs: int
    max_num_batched_tokens: int
    longest_kv: int
    choices: tuple[int, ...] = (0,)  # draft lengths that may be chosen
    verifies: bool = True  # False: drafts are emitted unverified, so every width is 1

    @property
    def widest(self) -> int:
        """Tokens that a decoding sequence may compute in a step."""
        return 1 + (max(self.choices) if self.verifies else 0)

    @property
    def draft_lengths(self) -> tuple[int, ...]:
        """Those that have plans of their own."""
        return (0, *(k for k in self.choices if k > 0))

    def k_index(self) -> Integers:
        """Each k's place among them, [k]; -1 where it has none."""
        index = np.full(max(self.choices) + 1, -1, dtype=np.int64)
        index[list(self.draft_lengths)] = np.arange(len(self.draft_lengths))
        return index

    @property
    def sequences(self) -> Floats:
        """Whole numbers of sequences that the host's times are tabulated for."""
        return np.arange(self.max_num_seqs + MOST_CHUNKS + 1.0)


class Knots(NamedTuple):
    """Of all tables."""

    kv: Floats
    sequences: Floats
    counts: Floats  # of prompt chunks in one kernel
    chunks: Floats  # their new tokens
    prefixes: Floats  # tokens before them

    @classmethod
    def spanning(cls, sequences: float, tokens: int, longest_kv: int) -> Knots:
        longest, most = max(64.0, float(longest_kv)), max(4.0, float(tokens))
        few = np.arange(1.0, min(FEW, max(2.0, sequences)) + 1.0)
        many = _geometric(FEW, max(FEW + 1.0, sequences), SEQUENCE_RATIO).round()
        tiles = np.arange(TILE_ROWS, min(LONGEST_IN_TILES, most - 1.0), TILE_ROWS)
        return cls(
            _geometric(1.0, longest, KV_RATIO),
            np.unique([*PART_OF_ONE, *few, *many[many <= sequences]]),
            np.array(CHUNK_COUNTS),
            np.unique([*_geometric(2.0, most - 1.0, CHUNK_RATIO).round(), *tiles, *(tiles + JUST_MORE)]),
            np.array([0.0, *_geometric(32.0, longest, PREFIX_RATIO)]),
        )


def _geometric(first: float, last: float, ratio: float) -> Floats:
    count = max(2, int(np.ceil(np.log(last / first) / np.log(ratio))) + 1)
    return np.geomspace(first, last, count)
