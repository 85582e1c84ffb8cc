"""Tiers of draft lengths by batch size, the accepted length choosing within a tier."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import PolicyData, check_counts_in_a_row
from specsim.speculation.policy.deciders import DeciderBase
from specsim.speculation.policy.protocol import Decider, Rounds, Setting
from specsim.validated import Validated


class Tier(Validated):
    """Draft lengths to choose from at batch sizes from ``first_batch`` on.

    ``rise``, ``fall``: what is added to the accepted length at which k goes up or down. ``ema``: weight of the newest
    step in the average. It decides after ``warmup`` of its steps, every ``interval`` of them. Defaults are SGLang's.
    """

    first_batch: PositiveInt
    choices: tuple[NonNegativeInt, ...] = Field(min_length=1)
    rise: float = 0.0
    fall: float = -0.25
    ema: Annotated[float, Field(gt=0, le=1)] = 0.2
    interval: PositiveInt = 5
    warmup: NonNegativeInt = 10

    @field_validator("choices")
    @classmethod
    def _ascending(cls, choices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(choices)))


class TieredPolicy(PolicyData):
    """In each tier a moving average of drafts accepted a round moves k among the tier's choices.

    SGLang's adaptive speculation (its ``adaptive_spec_params.py``, commit 015c872, restated). Of two neighbours
    p < c: from c down to p at an average of at most p - 0.5 + ``fall`` (0.5 + ``fall`` for p = 0); from c up to the
    next where the average exceeds c - 0.5 + ``rise``; from k = 0 the next choice is always tried. A tier starts at
    ``initial``, or at its middle choice where it has no such one, with an average of one less than that. Steps that
    verified nothing move neither average nor count, but at k = 0 they count.
    """

    kind: Literal["tiers"] = "tiers"
    tiers: tuple[Tier, ...] = Field(min_length=1)
    initial: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _ordered(self) -> TieredPolicy:
        if self.tiers[0].first_batch != 1:
            raise ValueError(
                f"the first tier starts at batch {self.tiers[0].first_batch}; tiers must start at batch 1"
            )
        for before, after in pairwise(self.tiers):
            if after.first_batch <= before.first_batch:
                raise ValueError(
                    f"a tier from batch {after.first_batch} follows one from {before.first_batch}; sort them"
                )
        return self

    @property
    def longest(self) -> int:
        return max(tier.choices[-1] for tier in self.tiers)

    @property
    def named(self) -> tuple[int, ...]:
        return tuple(sorted({k for tier in self.tiers for k in tier.choices}))

    def start(self, setting: Setting) -> Decider:
        self.check_lengths(setting.choices)
        return _Tiers(self)

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_counts_in_a_row(acceptance, self.kind)


class _Slot:
    """One tier's average and present choice."""

    def __init__(self, tier: Tier, initial: int | None) -> None:
        self._tier = tier
        self._index = tier.choices.index(initial) if initial in tier.choices else len(tier.choices) // 2
        self._average = float(self.k - 1)
        self._steps = 0

    @property
    def k(self) -> int:
        return self._tier.choices[self._index]

    def observe(self, accepted: float | None) -> None:
        if accepted is not None and self.k > 0:
            self._average += self._tier.ema * (accepted - self._average)
        elif accepted is None and self.k > 0:
            return
        self._steps += 1
        beyond = self._steps - self._tier.warmup
        if beyond > 0 and beyond % self._tier.interval == 0:
            self._move()

    def _move(self) -> None:
        choices, last = self._tier.choices, len(self._tier.choices) - 1
        if self.k == 0:
            self._index = min(1, last)
            if self._average < 0:  # nothing was ever drafted here
                self._average = float(self.k - 1)
            return
        start = self._index
        while self._index > 0 and self._average <= _drop_at(choices[self._index - 1]) + self._tier.fall:
            self._index -= 1
        if self._index < start:
            return
        while self._index < last and self._average > choices[self._index] - 0.5 + self._tier.rise:
            self._index += 1


def _drop_at(lower: int) -> float:
    """Average accepted drafts at which a lower choice is as good."""
    return 0.5 if lower == 0 else lower - 0.5


class _Tiers(DeciderBase):
    def __init__(self, policy: TieredPolicy) -> None:
        self._firsts = [tier.first_batch for tier in policy.tiers]
        self._slots = [_Slot(tier, policy.initial) for tier in policy.tiers]

    def observe(self, rounds: Rounds) -> None:
        self._slot(rounds.batch).observe(float(rounds.accepted.mean()) if len(rounds.accepted) else None)

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._slot(batch).k

    def _slot(self, batch: int) -> _Slot:
        return self._slots[max(0, bisect_right(self._firsts, batch) - 1)]
