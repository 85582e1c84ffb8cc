"""Draft lengths that the batch size alone decides, written out by hand: what engines take as configuration."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from specsim.speculation.policy.base import PolicyData
from specsim.speculation.policy.deciders import ByBatch
from specsim.speculation.policy.protocol import Decider, Setting


class BatchPolicy(PolicyData):
    """k by batch size."""

    @abstractmethod
    def draft_tokens(self, batch: int) -> int:
        """Tokens to draft after a step that ran ``batch`` sequences; 0 is a round without speculation."""

    @property
    @abstractmethod
    def longest(self) -> int: ...

    def start(self, setting: Setting) -> Decider:
        self.check_lengths(setting.choices)
        return ByBatch([self.draft_tokens(batch) for batch in range(setting.max_num_seqs + 1)])


class FixedPolicy(BatchPolicy):
    """Always the same draft length."""

    kind: Literal["fixed"] = "fixed"
    k: NonNegativeInt

    def draft_tokens(self, batch: int) -> int:
        return self.k

    @property
    def longest(self) -> int:
        return self.k

    @property
    def named(self) -> tuple[int, ...]:
        return (self.k,)


class OffAbovePolicy(BatchPolicy):
    """A fixed draft length up to a batch size, no speculation above it."""

    kind: Literal["off_above"] = "off_above"
    k: PositiveInt
    max_batch: PositiveInt

    def draft_tokens(self, batch: int) -> int:
        return self.k if batch <= self.max_batch else 0

    @property
    def longest(self) -> int:
        return self.k

    @property
    def named(self) -> tuple[int, ...]:
        return (0, self.k)


class TablePolicy(BatchPolicy):
    """Batch -> k ranges ``[first, last, k]``, as vLLM's num_speculative_tokens_per_batch_size.

    Ranges start at batch 1 and do not overlap; a gap, and everything beyond the last range, keeps the k before it.
    """

    kind: Literal["table"] = "table"
    ranges: tuple[tuple[PositiveInt, PositiveInt, NonNegativeInt], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> TablePolicy:
        if self.ranges[0][0] != 1:
            raise ValueError(f"the first range starts at batch {self.ranges[0][0]}; ranges must start at batch 1")
        for first, last, _ in self.ranges:
            if last < first:
                raise ValueError(f"range [{first}, {last}] ends before it starts; write [first, last, k]")
        for (_, before, _), (first, _, _) in zip(self.ranges, self.ranges[1:], strict=False):
            if first <= before:
                raise ValueError(f"a range starts at batch {first}, inside the one ending at {before}; separate them")
        return self

    def draft_tokens(self, batch: int) -> int:
        chosen = self.ranges[0][2]
        for first, _, k in self.ranges:
            if batch >= first:
                chosen = k
        return chosen

    @property
    def longest(self) -> int:
        return max(k for _, _, k in self.ranges)

    @property
    def named(self) -> tuple[int, ...]:
        return tuple(sorted({k for _, _, k in self.ranges}))
