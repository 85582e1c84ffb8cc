"""What a run looked like over time: running, waiting, KV blocks, tokens per step, accepted per round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.results.records import StepRecord


@dataclass(frozen=True, slots=True)
class Series:
    """Equal intervals of a run, all fields of shape [intervals].

    ``running``, ``waiting`` and ``kv_blocks`` are averages over the interval's time, summed over replicas; a replica
    between steps has none. ``tokens_per_step`` and ``accepted_per_round`` are averages over the steps that start in
    the interval, NaN without any; a round is one sequence's verification.
    """

    start_s: Floats
    running: Floats
    waiting: Floats
    kv_blocks: Floats
    steps: Floats
    tokens_per_step: Floats
    accepted_per_round: Floats


def series(steps: Sequence[StepRecord], interval_s: float, *, from_s: float = 0.0) -> Series:
    """The steps in intervals of ``interval_s`` from ``from_s`` on. Raises InvalidInput for more than a million."""
    end_s = max((step.start_s + step.duration_s for step in steps), default=from_s)
    count = max(1, int(np.ceil((end_s - from_s) / interval_s))) if interval_s > 0 else 0
    if not 0 < count <= 1_000_000:
        raise InvalidInput(f"intervals of {interval_s:g} s over {end_s - from_s:g} s; choose 1 to 1,000,000 of them")
    edges: Floats = from_s + interval_s * np.arange(count + 1, dtype=np.float64)
    held = np.zeros((3, count))
    for replica in sorted({step.replica for step in steps}):
        held += _time_averages([step for step in steps if step.replica == replica], edges)
    at = np.clip(np.searchsorted(edges, [step.start_s for step in steps], side="right") - 1, 0, count - 1)

    def summed(values: list[int]) -> Floats:
        return np.bincount(at, weights=values, minlength=count).astype(np.float64)

    started = summed([1 for _ in steps])
    tokens = summed([step.prefill_tokens + step.verify_tokens for step in steps])
    accepted = summed([step.accepted for step in steps])
    rounds = summed([step.verify_tokens - step.draft_tokens for step in steps])
    with np.errstate(invalid="ignore", divide="ignore"):
        per_step, per_round = tokens / started, np.where(rounds > 0, accepted / rounds, np.nan)
    running, waiting, kv_blocks = held
    return Series(edges[:-1], running, waiting, kv_blocks, started, per_step, per_round)


def _time_averages(steps: Sequence[StepRecord], edges: Floats) -> Floats:
    """Running, waiting and KV blocks of one replica, [3, intervals]: differences of their integrals over time."""
    start = np.array([step.start_s for step in steps])
    order = np.argsort(start, kind="stable")
    start = start[order]
    duration = np.array([step.duration_s for step in steps])[order]
    values = np.array([[step.sequences, step.waiting, step.kv_blocks] for step in steps], dtype=np.float64)[order]
    # Knots of the integral: flat between steps, rising within them.
    knots = np.maximum.accumulate(np.stack((start, start + duration), axis=1).ravel())
    reached = np.cumsum(values * duration[:, None], axis=0)
    before = reached - values * duration[:, None]
    width = float(edges[1] - edges[0])
    found = []
    for column in range(3):
        integral = np.stack((before[:, column], reached[:, column]), axis=1).ravel()
        found.append(np.diff(np.interp(edges, knots, integral)) / width)
    return np.array(found)
