"""What rounds take, looked up at once for a step-by-step decision: priced once a KV length, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.speculation.round import StepCost

PER_OCTAVE = 4  # KV lengths priced between one and twice it; a length is off by at most 9 %
OCTAVES = 40 * PER_OCTAVE  # more than any KV length has
KEPT = 16  # prices of other costs


@dataclass(frozen=True, slots=True)
class ById:
    """As a key it is the object that it is, which it keeps alive."""

    number: int
    cost: StepCost = field(compare=False)


class KeptPrices:
    """Prices at the KV lengths that came up, [OCTAVES, rows] arrays of them, which rules find by their addresses."""

    def __init__(self, price: Callable[[float, int], Floats], rows: int = 1) -> None:
        """``price(context_tokens, row)``: what to keep."""
        self._price, self._kept = price, list[Floats]()
        self.addresses: Integers = np.zeros((OCTAVES, rows), dtype=np.int64)

    def add(self, octave: int, row: int) -> None:
        """Work out the prices of one entry."""
        self._kept.append(np.ascontiguousarray(self._price(2.0 ** (octave / PER_OCTAVE), row)))
        self.addresses[octave, row] = self._kept[-1].ctypes.data


def kept(make: Callable[..., KeptPrices], cost: StepCost, *arguments: Any) -> KeptPrices:
    """``make(cost, ..)``, made once for a cost: whoever decides by it under another load or seed looks up the same."""
    return _kept(make, ById(id(cost), cost), *arguments)


@lru_cache(maxsize=KEPT)
def _kept(make: Callable[..., KeptPrices], cost: ById, *arguments: Any) -> KeptPrices:
    return make(cost.cost, *arguments)


def round_prices(cost: StepCost, choices: Sequence[int], max_num_seqs: int) -> KeptPrices:
    """Seconds of steady rounds, [batches, choices]."""
    return KeptPrices(lambda context_tokens, _: round_seconds(cost, choices, max_num_seqs, context_tokens).T)


def round_seconds(cost: StepCost, choices: Sequence[int], max_num_seqs: int, context_tokens: float) -> Floats:
    """Seconds of steady rounds, [choices, batches], for batch 1 to the largest."""
    batches = np.arange(1.0, max_num_seqs + 1.0)
    rows = [cost.decode_round(batches, k, context_tokens).seconds for k in choices]
    return np.stack([np.broadcast_to(row, batches.shape) for row in rows])


def first_best(values: Floats, slack: float = 1e-12) -> int:
    """Index of the largest value, the first one within rounding of it."""
    return int(np.argmax(values >= values.max() * (1.0 - slack)))
