"""What changes the target's own pass without drafting: early exit, narrow weights, beams, experts kept on the host."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from specsim.arrays import Reals
from specsim.specs.model import Bits
from specsim.validated import Share, Validated


class ExitDepth(Validated):
    """Tokens that leave after ``depth`` of the layers, and their share."""

    depth: float = Field(gt=0, le=1)
    share: Share


class ExitLaw(Validated):
    """How deep tokens go. ``batch``: each token leaves alone, all wait for the deepest, or all leave together.

    ``check``: the LM head is run at each exit to judge it.
    """

    levels: tuple[ExitDepth, ...] = Field(min_length=1)
    batch: Literal["each", "deepest", "together"]
    check: bool = False

    @model_validator(mode="after")
    def _a_law(self) -> ExitLaw:
        total = sum(level.share for level in self.levels)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"shares of exit depths add up to {total:g}; every token leaves somewhere, so to 1")
        if any(after.depth <= before.depth for before, after in pairwise(self.levels)):
            raise ValueError("exit depths do not ascend; sort levels by depth and name each once")
        return self

    def reaching(self) -> tuple[float, ...]:
        """Share of tokens that run the layers up to each level's depth."""
        left = 0.0
        found = []
        for level in self.levels:
            found.append(max(0.0, 1.0 - left))
            left += level.share
        return tuple(found)

    def runs(self, reaching: float, sequences: Reals) -> Reals:
        """P(a pass of ``sequences`` tokens runs layers that a share ``reaching`` of tokens needs).

        0.5 and two sequences: 0.75, or 0.5 where all leave together.
        """
        return reaching if self.batch == "together" else 1.0 - np.power(1.0 - reaching, sequences)


class NarrowWeights(Validated):
    """Weight-only quantisation: bits, weights that share a scale, operations that widen one weight in a pass."""

    bits: Bits
    group_size: PositiveInt = 128
    operations_per_weight: NonNegativeFloat = 0.0


class HostExperts(Validated):
    """Experts kept in host memory: those not resident are loaded in the pass that needs them.

    A share ``hit_rate`` of the loads is foreseen and hidden behind computing, as far as the pass is long enough.
    """

    resident_share: Share
    hit_rate: Share
    bytes_per_s: PositiveFloat


class TargetModifier(Validated):
    """``sequences``: beams of a request, each with its own tokens and cache."""

    exit: ExitLaw | None = None
    weights: NarrowWeights | None = None
    sequences: PositiveInt = 1
    experts: HostExperts | None = None
