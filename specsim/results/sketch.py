"""Quantiles of a stream in constant memory, to a stated relative error.

Bins of fixed logarithmic width, as in DDSketch (Masson, Rim, Lee, VLDB 2019, section 2): a value x > LOWEST falls into
bin ceil(log_γ(x / LOWEST)) with γ = (1 + e) / (1 - e), and the bin's answer 2 γ^i LOWEST / (γ + 1) is within e of it.
LOWEST itself shares the first of these bins, so that bin 0 holds only what counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR = 0.005
LOWEST, HIGHEST = 1e-9, 1e9  # seconds: less than a nanosecond counts as 0, and nothing lasts 30 years
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
BINS_PER_E = 1 / math.log(_GAMMA)
NUM_BINS = math.ceil(math.log(HIGHEST / LOWEST) * BINS_PER_E) + 1


def bin_of(value: float) -> int:
    """Index of a value's bin, 0 <= index < NUM_BINS. Plain arithmetic: a compiled loop can call it as it is."""
    if value < LOWEST:
        return 0
    if value >= HIGHEST:
        return NUM_BINS - 1
    return max(1, math.ceil(math.log(value / LOWEST) * BINS_PER_E))


def value_of(index: NDArray[np.int64]) -> NDArray[np.float64]:
    """What bins answer, of the index's shape; bin 0 answers 0."""
    return np.where(index == 0, 0.0, LOWEST * 2 / (_GAMMA + 1) * _GAMMA ** index.astype(np.float64))


@dataclass(slots=True)
class QuantileSketch:
    """Counts by bin, and exact count, sum and sum of squares. Every quantile is within 0.5 % of the exact one.

    A compiled loop may fill ``counts[bin_of(x)]`` and ``moments`` (count, sum, sum of squares) in place.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_BINS, dtype=np.int64))
    moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def add(self, values: NDArray[np.float64]) -> None:
        """Count values >= 0 of any shape."""
        values = np.asarray(values, dtype=np.float64).ravel()
        index = np.ceil(np.log(np.clip(values, LOWEST, HIGHEST) / LOWEST) * BINS_PER_E).astype(np.int64)
        index = np.clip(index, np.where(values < LOWEST, 0, 1), NUM_BINS - 1)
        self.counts += np.bincount(index, minlength=NUM_BINS)
        self.moments += (values.size, values.sum(), np.square(values).sum())

    def merge(self, other: QuantileSketch) -> None:
        """Count the other's values too."""
        self.counts += other.counts
        self.moments += other.moments

    @property
    def count(self) -> int:
        return int(self.moments[0])

    def mean(self) -> float:
        """Exact but for rounding; NaN when empty."""
        return float(self.moments[1] / self.moments[0]) if self.count else math.nan

    def std(self) -> float:
        """Of the population, as vLLM's benchmark has it; NaN when empty."""
        if not self.count:
            return math.nan
        return float(max(0.0, self.moments[2] / self.moments[0] - self.mean() ** 2) ** 0.5)

    def quantile(self, share: float) -> float:
        """The value that ``share`` (0 to 1) of all do not exceed, between ranks as numpy.quantile; NaN when empty."""
        if not self.count:
            return math.nan
        rank = share * (self.count - 1)
        ranks = np.array([math.floor(rank), math.ceil(rank)])
        low, high = value_of(np.searchsorted(np.cumsum(self.counts), ranks, side="right")).tolist()
        return float(low + (high - low) * (rank - math.floor(rank)))

    def as_table(self) -> dict[str, object]:
        """JSON form: moments, and {bin: count} of the bins in use."""
        used = np.flatnonzero(self.counts)
        bins = {str(index): int(self.counts[index]) for index in used.tolist()}
        return {"relative_error": RELATIVE_ERROR, "moments": self.moments.tolist(), "bins": bins}

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> QuantileSketch:
        """The inverse of ``as_table``. Raises ValueError for a table of other bins."""
        bins, moments = table.get("bins"), table.get("moments")
        if (
            table.get("relative_error") != RELATIVE_ERROR
            or not isinstance(bins, dict)
            or not isinstance(moments, list)
        ):
            raise ValueError("not a quantile sketch of this version")
        sketch = cls(moments=np.array(moments, dtype=np.float64))
        for index, count in bins.items():
            sketch.counts[int(index)] = int(count)
        return sketch
