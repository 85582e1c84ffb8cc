"""How sure a simulated figure is: intervals over replications, and over paired differences between alternatives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
_FIXED = {"num_gpus", "num_kv_blocks"}  # settings, not outcomes


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence limits; the limits are None where ``count`` is 1."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def as_json(self) -> dict[str, float | int | None]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}


def student_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean ± t_{n-1} · s / √n of independent values, at least one.

    For 1, 2, 3 the mean is 2, s is 1, t_2 = 4.303, so the 95 % limits are 2 ± 2.484.
    """
    sample = np.asarray(values, dtype=np.float64)
    count, mean = sample.size, float(sample.mean())
    if count < 2:
        return Interval(mean, None, None, count)
    from scipy.special import stdtrit  # a slow import that most runs do without

    half = float(stdtrit(count - 1, 0.5 + level / 2) * sample.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def metric_intervals(summaries: Sequence[Mapping[str, Any]], level: float = LEVEL) -> dict[str, Interval]:
    """The interval of every number in the summaries of independent replications, where all of them have it."""
    first = summaries[0] if summaries else {}
    names = [name for name in first if name not in _FIXED and all(is_number(one.get(name)) for one in summaries)]
    return {name: student_interval([one[name] for one in summaries], level) for name in names}


def paired_differences(
    alternative: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], level: float = LEVEL
) -> dict[str, Interval]:
    """The interval of alternative minus base for every metric, replication i against replication i.

    Under common random numbers (equal seeds) the pairs share their luck, so that these are narrower than the two
    intervals apart.
    """
    pairs = list(zip(alternative, base, strict=True))
    both = [name for name in (alternative[0] if alternative else {}) if all(name in base_one for base_one in base)]
    return metric_intervals(
        [
            {name: one[name] - other[name] for name in both if is_number(one[name]) and is_number(other[name])}
            for one, other in pairs
        ],
        level,
    )


def is_number(value: object) -> bool:
    """Whether a summary's value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
