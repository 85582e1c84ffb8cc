"""What held a run back: which of an engine's limits requests waited for, and how full the KV cache was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from specsim.arrays import Records
from specsim.results.records import StepRecord

LIMITS = ("max_num_seqs", "max_num_batched_tokens", "kv_cache")
ADDED = ("sequences", "prefill_tokens", "verify_tokens", "kv_blocks", "waiting", "duration_s")
FULL = 0.98  # share of a step's tokens from which on it has no room: a short rest is not given to a prompt


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one replica's steps may hold at most; ``prompt_blocks``: KV blocks that a mean prompt takes."""

    max_num_seqs: int
    max_num_batched_tokens: int
    num_kv_blocks: int
    prompt_blocks: int


@dataclass(slots=True)
class StepTotals:
    """What steps add up to, in constant memory. ``kv_block_s``: of all steps, each times its KV blocks;
    ``waited_s``: of steps that left requests waiting, by the limit that they waited for.
    """

    steps: int = 0
    busy_s: float = 0.0
    sequence_s: float = 0.0
    kv_block_s: float = 0.0
    peak_kv_blocks: int = 0
    waited_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))

    def add(self, steps: Records, limits: StepLimits | None) -> None:
        """Steps as records of ADDED and more.

        A step that leaves requests waiting is full of sequences, or of tokens, or the next prompt does not fit its
        free KV blocks; where none of these holds they came after the step was scheduled.
        """
        if not len(steps):
            return
        sequences, kv_blocks, seconds = steps["sequences"], steps["kv_blocks"], steps["duration_s"]
        self.steps += len(steps)
        self.busy_s += float(seconds.sum())
        self.sequence_s += float(seconds @ sequences)
        self.kv_block_s += float(seconds @ kv_blocks)
        self.peak_kv_blocks = max(self.peak_kv_blocks, int(kv_blocks.max()))
        if limits is None:
            return
        left = steps["waiting"] > 0
        full = (
            sequences >= limits.max_num_seqs,
            steps["prefill_tokens"] + steps["verify_tokens"] >= FULL * limits.max_num_batched_tokens,
            kv_blocks + limits.prompt_blocks > limits.num_kv_blocks,
        )
        for name, reached in zip(LIMITS, full, strict=True):
            self.waited_s[name] += float(seconds[left & reached].sum())
            left = left & ~reached

    @classmethod
    def of(cls, steps: Sequence[StepRecord], limits: StepLimits | None) -> StepTotals:
        """Those of steps that were kept."""
        records = np.zeros(len(steps), [(name, np.float64 if name.endswith("_s") else np.int64) for name in ADDED])
        for name in ADDED:
            records[name] = list(map(attrgetter(name), steps))
        found = cls()
        found.add(records, limits)
        return found

    def as_summary(self, limits: StepLimits | None) -> dict[str, Any]:
        """Means over the time that steps took, shares of the KV cache and of that time; None where not known."""
        busy_s = self.busy_s
        known = limits is not None and busy_s > 0
        blocks = limits.num_kv_blocks if limits is not None else 1
        return {
            "steps": self.steps,
            "mean_batch": self.sequence_s / busy_s if busy_s else None,
            "mean_kv_cache_usage": self.kv_block_s / busy_s / blocks if known else None,
            "peak_kv_cache_usage": self.peak_kv_blocks / blocks if known else None,
            "waited_for": {name: s / busy_s for name, s in self.waited_s.items()} if known else None,
        }
