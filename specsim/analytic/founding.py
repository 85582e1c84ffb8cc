"""The founding model of speculative decoding under batching (Su, Giannoula, Pekhimenko, arXiv 2310.18813).

Tokens a round: 1 + l(s) with l(s) = c·s^γ, c ≤ 1, 0 < γ < 1. Verification takes α_b·s + β seconds, drafting t_S·s.
With A = α_b + t_S, N tokens take N(A·s + β)/(c·s^γ + 1) seconds when N is large; β is the price of verifying no draft.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq


@dataclass(frozen=True, slots=True)
class FoundingModel:
    """``slope_s``: A, seconds that one more draft token adds; ``base_s``: β, seconds of a round without drafts."""

    slope_s: float
    base_s: float
    c: float
    gamma: float

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
