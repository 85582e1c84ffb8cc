"""What rounds of every batch size and draft length take, looked up at once for a step-by-step decision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specsim.arrays import Floats
from specsim.speculation.round import StepCost

PER_OCTAVE = 4  # KV lengths priced between one and twice it; a length is off by at most 9 %


class RoundPrices:
    """Seconds of steady rounds, [choices, batches], for batch 1 to the largest; priced once a KV length."""

    def __init__(self, cost: StepCost, choices: Sequence[int], max_num_seqs: int) -> None:
        self._cost = cost
        self._choices = choices
        self._batches = np.arange(1.0, max_num_seqs + 1.0)
        self._found: dict[float, Floats] = {}
        self._columns: dict[int, list[list[float]]] = {}

    def seconds(self, context_tokens: float) -> Floats:
        """At exactly this KV length; entry [i, b - 1] is batch b at the i-th choice."""
        if context_tokens not in self._found:
            rows = [self._cost.decode_round(self._batches, k, context_tokens).seconds for k in self._choices]
            self._found[context_tokens] = np.stack([np.broadcast_to(row, self._batches.shape) for row in rows])
        return self._found[context_tokens]

    def near(self, batch: int, context_tokens: float) -> list[float]:
        """Of one batch size, a number a choice, at the nearest of the KV lengths that are priced."""
        octave = _nearest(context_tokens)
        if octave not in self._columns:
            self._columns[octave] = self.seconds(rounded(context_tokens)).T.tolist()
        columns = self._columns[octave]
        return columns[min(max(batch, 1), len(columns)) - 1]


def rounded(context_tokens: float) -> float:
    """The nearest of PER_OCTAVE lengths an octave, in the logarithm."""
    return float(2.0 ** (_nearest(context_tokens) / PER_OCTAVE))


def _nearest(context_tokens: float) -> int:
    return round(math.log2(max(1.0, context_tokens)) * PER_OCTAVE)


def first_best(values: Floats | Sequence[float], slack: float = 1e-12) -> int:
    """Index of the largest value, the first one within rounding of it."""
    if isinstance(values, np.ndarray):
        return int(np.argmax(values >= values.max() * (1.0 - slack)))
    enough = max(values) * (1.0 - slack)
    return next(index for index, value in enumerate(values) if value >= enough)
