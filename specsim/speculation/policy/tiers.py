"""Tiers of draft lengths by batch size, the accepted length choosing within a tier."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import PolicyData, check_counts_in_a_row
from specsim.speculation.policy.protocol import Decider, Setting
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
        from specsim.speculation.policy.rules.tiers import tiers  # numba comes with it

        self.check_lengths(setting.choices)
        return tiers([tier.model_dump() for tier in self.tiers], self.initial)

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_counts_in_a_row(acceptance, self.kind)
