"""The founding model of speculative decoding under batching (Su, Giannoula, Pekhimenko, arXiv 2310.18813).

Tokens a round: 1 + l(s) with l(s) = c·s^γ, c ≤ 1, 0 < γ < 1. Verification takes α_b·s + β seconds, drafting t_S·s.
With A = α_b + t_S, N tokens take N(A·s + β)/(c·s^γ + 1) seconds when N is large; β is the price of verifying no draft.

``best_lengths`` makes the same decision from any prices, straight lines or not: it is the study's offline profile, a
table from batch size to draft length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from specsim.arrays import Floats, Indices
from specsim.speculation.round import StepCost


@dataclass(frozen=True, slots=True)
class FoundingModel:
    """``slope_s``: A, seconds that one more draft token adds; ``base_s``: β, seconds of a round without drafts."""

    slope_s: float
    base_s: float
    c: float
    gamma: float

    @classmethod
    def of_rounds(cls, round_s: Floats, c: float, gamma: float) -> FoundingModel:
        """The line through the prices of rounds with 0, 1, 2, ... drafts, shape [lengths], by least squares."""
        slope, base = np.polyfit(np.arange(len(round_s)), round_s, 1)
        return cls(float(slope), float(base), c, gamma)

    def seconds_per_token(self, draft_tokens: float) -> float:
        """(A·s + β) / (c·s^γ + 1)."""
        return float((self.slope_s * draft_tokens + self.base_s) / (self.c * draft_tokens**self.gamma + 1.0))

    def continuous_optimum(self) -> float:
        """The one root of A·c(1-γ)s^γ - β·c·γ·s^(γ-1) + A = 0, the derivative's numerator.

        It rises from minus infinity to infinity, so the root is the only minimum of ``seconds_per_token``.
        """

        def slope(s: float) -> float:
            rising = self.slope_s * self.c * (1 - self.gamma) * s**self.gamma
            falling = self.base_s * self.c * self.gamma * s ** (self.gamma - 1)
            return float(rising - falling + self.slope_s)

        low, high = 1.0, 1.0
        while slope(low) >= 0:
            low /= 2
        while slope(high) <= 0:
            high *= 2
        # Solved for log s: the optimum may be as small as 1e-15 where drafting is dear and γ close to 1.
        # One doubling to spare on both sides, for an end that is the root but for rounding.
        ends = math.log(low / 2), math.log(high * 2)
        root = brentq(lambda x: slope(math.exp(x)), *ends, xtol=1e-13, rtol=1e-13)
        return math.exp(root)

    def best_draft_tokens(self, longest: int) -> int:
        """Integer arg-min over 0..longest; the continuous optimum below 1 does not mean that 0 wins."""
        return min(range(longest + 1), key=self.seconds_per_token)

    def speedup_at_optimum(self) -> float:
        """Speed-up over no drafts at the continuous optimum s: 1 + (1-γ)·c·s^γ, whatever the machine.

        Put A/β = cγs^(γ-1)/(1 + c(1-γ)s^γ), which makes s the optimum, into (c·s^γ + 1)/(s·A/β + 1).
        """
        return 1.0 + (1.0 - self.gamma) * self.c * math.pow(self.continuous_optimum(), self.gamma)


def largest_speedup(optimum: float) -> float:
    """The most that a continuous optimum of so many drafts can speed up, over c ≤ 1 and all γ: 1 + s/(e·ln s).

    ``FoundingModel.speedup_at_optimum`` at c = 1 is largest for γ = 1 - 1/ln s; ``optimum`` must exceed e for that
    γ to be positive. 8 drafts: at most 2.42.
    """
    return 1.0 + optimum / (math.e * math.log(optimum))


def ratios_of(shortest: int, longest: int, c: float, gamma: float) -> tuple[float, float]:
    """Smallest and largest A/β for which the best integer length lies in ``shortest``..``longest``.

    s drafts are at least as good as s + 1 from A/β = (T(s+1) - T(s)) / ((s+1)·T(s) - s·T(s+1)) on, T(s) = 1 + c·s^γ,
    and with one minimum that settles all longer ones. c = 0.8, γ = 0.7: 6 to 8 drafts from 0.142 to 0.188.
    """

    def border(s: int) -> float:
        here, next_ = 1 + c * math.pow(s, gamma), 1 + c * math.pow(s + 1, gamma)
        return (next_ - here) / ((s + 1) * here - s * next_)

    return border(longest), math.inf if shortest == 0 else border(shortest - 1)


def tokens_per_round(longest: int, c: float, gamma: float) -> Floats:
    """1 + c·s^γ for s = 0, 1, .. ``longest``. c = 0.8, γ = 0.5: 1, 1.8, 2.13, 2.39, 2.6 at 4."""
    return np.asarray(1.0 + c * np.arange(longest + 1, dtype=np.float64) ** gamma)


def price_rounds(cost: StepCost, batches: Sequence[int], longest: int, context_tokens: float) -> Floats:
    """Seconds of a steady round, [batches, longest + 1], of one target with one drafter."""
    sizes = np.asarray(batches, dtype=np.float64)
    prices = [cost.decode_round(sizes, s, context_tokens).seconds for s in range(longest + 1)]
    return np.stack([np.broadcast_to(seconds, sizes.shape) for seconds in prices], axis=-1)


def speedups(round_s: Floats, tokens: Floats) -> Floats:
    """Tokens a second over those without drafts; both arguments have draft lengths 0, 1, .. as their last axis."""
    return np.asarray(tokens * round_s[..., :1] / round_s)


def best_lengths(round_s: Floats, tokens: Floats) -> Indices:
    """The draft length with the most tokens a second, 0 included; the shorter one wins a tie."""
    return np.asarray(np.argmax(speedups(round_s, tokens), axis=-1))
