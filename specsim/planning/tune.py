"""Which k at which batch size, as few ranges as a tolerance allows and as an engine can follow.

By the map of ``specsim predict``, prompts in it unless one KV length is given. Means over batch sizes give each
doubling of the batch the same weight, since where a server will run is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from specsim.analytic.rounds import largest_batch, speedup_map
from specsim.analytic.speedups import SpeedupMap
from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.errors import InvalidInput
from specsim.interop.engine_config import (
    merged_steps,
    steps_policy,
    steps_ranges,
)
from specsim.planning.engine_text import ScheduleRule, drafter_of
from specsim.speculation.policy import FixedPolicy, TablePolicy

Prefer = Literal["throughput", "sure"]
TOLERANCE = 0.01  # throughput given up for fewer ranges; predictions are not as sure as that

GAINS = ("speedup", "low", "high")


@dataclass(frozen=True, slots=True)
class TunedBatch:
    """What the schedule does at one batch size; ``low`` and ``high`` bound its speed-up's 90 % interval."""

    batch: int
    draft_tokens: int
    speedup: float
    low: float
    high: float
    best_draft_tokens: int  # with no tolerance and no engine's rule
    best_speedup: float
    fixed_speedup: float  # of the best single k


@dataclass(frozen=True, slots=True)
class Tuning:
    """A batch -> k schedule and what it is worth; ``fixed_draft_tokens``: the best single k.

    The schedule holds up to ``max_num_seqs``; ``batches`` are those that were priced.
    """

    policy: FixedPolicy | TablePolicy
    batches: tuple[TunedBatch, ...]
    max_num_seqs: int
    fixed_draft_tokens: int
    context_tokens: float
    price_name: str

    @property
    def pays(self) -> bool:
        return self.policy.longest > 0

    def ranges(self) -> list[tuple[int, int, int]]:
        """[first, last, k] up to ``max_num_seqs``, as an engine takes them."""
        steps = merged_steps([(1, self.batches[0].draft_tokens), *((b.batch, b.draft_tokens) for b in self.batches)])
        return steps_ranges(steps, self.max_num_seqs)

    def gain_over_fixed(self) -> float:
        """Throughput of the schedule over that of the best single k, the mean over batch sizes."""
        return self._mean([row.speedup / row.fixed_speedup for row in self.batches])

    def gain_over_off(self) -> tuple[float, float, float]:
        """Throughput over that without a drafter: mean, and 90 % bounds as if all batch sizes erred alike."""
        mean, low, high = (self._mean([getattr(row, name) for row in self.batches]) for name in GAINS)
        return mean, low, high

    def _mean(self, ratios: Sequence[float]) -> float:
        """Geometric, each doubling of the batch weighing the same; 0 if one is."""
        share = weights([row.batch for row in self.batches])
        return float(np.exp(share @ np.log(ratios))) if min(ratios) > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        keys = TunedBatch.__slots__
        mean, low, high = self.gain_over_off()
        return {
            "policy": self.policy.model_dump(mode="json"),
            "ranges": [list(entry) for entry in self.ranges()],
            "batches": [{key: getattr(batch, key) for key in keys} for batch in self.batches],
            "fixed_draft_tokens": self.fixed_draft_tokens,
            "gain_over_off": mean,
            "gain_over_off_low": low,
            "gain_over_off_high": high,
            "gain_over_fixed": self.gain_over_fixed(),
            "context_tokens": self.context_tokens,
            "prices": self.price_name,
        }


def tune(
    assembly: Assembly,
    *,
    rule: ScheduleRule = "any",
    batches: Sequence[int] | None = None,
    context_tokens: float | None = None,
    prefer: Prefer = "throughput",
    tolerance: float = TOLERANCE,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """The schedule of a scenario over ``batches``, by default every one that fits up to ``max_num_seqs``.

    Within ``tolerance`` of the best throughput at each batch size, and never below off, the schedule has as few
    ranges as can be (with none, it is the best at each). ``prefer`` sure ranks by the lower end of the speed-up's
    interval, where off is 1: k only where it is almost certain to pay. Raises NoAnswer if the models do not fit,
    InvalidInput without a drafter.
    """
    if not 0 <= tolerance < 1:
        raise InvalidInput(f"a tolerance of {tolerance:g}; give a share of throughput, 0 or more and below 1")
    drafter = drafter_of(assembly.scenario)
    if not any(assembly.choices()):
        raise InvalidInput(
            f"{drafter.drafter_name()} drafts nothing here, so that there is no k to choose; name a drafter"
        )
    if batches is None:
        context = assembly.context_tokens if context_tokens is None else context_tokens
        batches = range(1, min(assembly.limits.max_num_seqs, largest_batch(assembly, max(1.0, context))) + 1)
    found = speedup_map(assembly, batches=batches, context_tokens=context_tokens, progress=progress)
    grid = _Grid.of(found)
    ranked = grid.speedup if prefer == "throughput" else np.where(grid.lengths == 0, 1.0, grid.low)
    share = weights(grid.batches)
    fixed = _first_best(share @ np.log(np.maximum(ranked, np.finfo(float).tiny)))
    rows = grid.rows(_schedule(ranked, share, rule, tolerance), fixed)
    steps = merged_steps([(1, rows[0].draft_tokens), *((row.batch, row.draft_tokens) for row in rows)])
    most = assembly.limits.max_num_seqs
    return Tuning(
        steps_policy(steps, most),
        rows,
        most,
        int(grid.lengths[fixed]),
        found.cells[0].context_tokens,
        found.price_name,
    )


def weights(batches: Sequence[int]) -> Floats:
    """Weights of ascending batch sizes, the same for each doubling: ln(next / this), and a last one of one more."""
    edges = np.log(np.array([*batches, batches[-1] + 1], dtype=np.float64))
    return np.asarray(np.diff(edges) / (edges[-1] - edges[0]), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Grid:
    """A map as arrays [batches, lengths]."""

    batches: list[int]
    lengths: NDArray[np.int64]
    speedup: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, found: SpeedupMap) -> _Grid:
        batches = sorted({cell.batch for cell in found.cells})
        lengths = np.array(sorted({cell.draft_tokens for cell in found.cells}), dtype=np.int64)
        columns = [
            np.array([getattr(cell, name) for cell in found.cells]).reshape(len(batches), len(lengths))
            for name in GAINS
        ]
        return cls(batches, lengths, *columns)

    def rows(self, chosen: Sequence[int], fixed: int) -> tuple[TunedBatch, ...]:
        """What a column a batch size does, beside the best one and one fixed column."""
        found = []
        for i, (batch, k) in enumerate(zip(self.batches, chosen, strict=True)):
            best = _first_best(self.speedup[i])
            speedup, low, high = (float(column[i, k]) for column in (self.speedup, self.low, self.high))
            found.append(
                TunedBatch(
                    batch,
                    int(self.lengths[k]),
                    speedup,
                    low,
                    high,
                    int(self.lengths[best]),
                    float(self.speedup[i, best]),
                    float(self.speedup[i, fixed]),
                )
            )
        return tuple(found)


def _schedule(values: Floats, share: Floats, rule: ScheduleRule, tolerance: float) -> list[int]:
    """Column of each row, under an engine's rule; column 0 is off, and only one length for all may lose to it."""
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    if rule == "one":
        return [_first_best(share @ logs)] * len(values)
    paying = np.where(values >= values[:, :1], values, 0.0)
    if rule == "any":
        return fewest_ranges(paying, tolerance)
    candidates = []
    for longest in np.flatnonzero(paying[0]).tolist():
        shorter = paying[:, : longest + 1].copy()
        shorter[0, :longest] = 0.0  # the first range drafts the longest
        candidates.append(fewest_ranges(shorter, tolerance))
    rows = np.arange(len(values))
    return candidates[_first_best(np.array([share @ logs[rows, chosen] for chosen in candidates]))]


def fewest_ranges(values: Floats, tolerance: float) -> list[int]:
    """One column for each row of ``values`` [rows, columns], changing as seldom as can be.

    A column will do in a row where it is within ``tolerance`` of the row's best. Taking each range as far as one
    column goes gives the fewest ranges; of the columns that go as far, the one of highest geometric mean.
    """
    fits = values >= values.max(axis=1, keepdims=True) * (1.0 - tolerance) * (1.0 - 1e-12)
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    chosen: list[int] = []
    start, alive = 0, np.ones(values.shape[1], dtype=bool)
    for row in range(len(values) + 1):
        if row == len(values) or not (alive & fits[row]).any():
            column = _first_best(np.where(alive, logs[start:row].sum(axis=0), -np.inf))
            chosen += [column] * (row - start)
            start, alive = row, np.ones(values.shape[1], dtype=bool)
        if row < len(values):
            alive = alive & fits[row]
    return chosen


def _first_best(values: Floats) -> int:
    """Index of the largest value, the first one within rounding of it."""
    return int(np.argmax(values >= values.max() - 1e-12 * max(1.0, abs(float(values.max())))))
