"""The KV blocks of a sequence that have a name, as tests look at them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from specsim.jit import array_at
from specsim.scheduling.records import BLOCK
from specsim.scheduling.scheduler import SequenceState


class NamedBlock(NamedTuple):
    """A KV block as ``records.BLOCK`` has it; ``address`` tells it from others of its name."""

    address: int
    private: int
    hash: int
    place: int  # of the block in its sequence
    references: int


def named_blocks(sequence: SequenceState) -> list[NamedBlock]:
    """From the first on."""
    table = array_at(int(sequence.record["table"][0]), sequence.named_blocks, np.dtype(np.int64))
    return [NamedBlock(address, *array_at(address, 1, BLOCK)[0].item()[:4]) for address in table.tolist()]
