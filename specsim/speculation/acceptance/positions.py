"""Laws by draft position, the same in every round: one rate, a vector of rates, a power law, a rate by exit layer."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.speculation.acceptance.law import AcceptanceLaw, PositionLaw
from specsim.validated import Share


class ConstantAcceptance(PositionLaw):
    """Every draft is accepted with the same probability (Leviathan et al., arXiv 2211.17192, section 3.1)."""

    kind: Literal["constant"] = "constant"
    rate: Share

    def conditional_rates(self, draft_tokens: int) -> Floats:
        return np.full(draft_tokens, self.rate)


class ConditionalAcceptance(PositionLaw):
    """A conditional rate for each draft position."""

    kind: Literal["conditional"] = "conditional"
    rates: tuple[Share, ...] = Field(min_length=1)

    def conditional_rates(self, draft_tokens: int) -> Floats:
        return _first(self.rates, draft_tokens, "conditional rates")


class UnconditionalAcceptance(PositionLaw):
    """Per-position rates r_i as vLLM logs them: P(the first i drafts are all accepted), so they never rise."""

    kind: Literal["unconditional"] = "unconditional"
    rates: tuple[Share, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _never_rising(self) -> UnconditionalAcceptance:
        for position, (before, rate) in enumerate(pairwise(self.rates), start=2):
            if rate > before:
                raise ValueError(
                    f"unconditional rate {rate:g} at position {position} exceeds {before:g} before it; they never "
                    "rise, so give these as kind conditional if each is given the one before"
                )
        return self

    def survival(self, draft_tokens: int) -> Floats:
        return _first(self.rates, draft_tokens, "unconditional rates")

    def conditional_rates(self, draft_tokens: int) -> Floats:
        return AcceptanceLaw.conditional_rates(self, draft_tokens)


class PowerLawAcceptance(PositionLaw):
    """Accepted tokens l(s) = c·s^γ (Su, Giannoula, Pekhimenko, arXiv 2310.18813), so r_i = c·(i^γ - (i-1)^γ)."""

    kind: Literal["power_law"] = "power_law"
    c: float = Field(gt=0, le=1)
    gamma: float = Field(gt=0, lt=1)

    def conditional_rates(self, draft_tokens: int) -> Floats:
        accepted = self.c * np.arange(draft_tokens + 1, dtype=np.float64) ** self.gamma
        survival = np.diff(accepted)
        return survival / np.concatenate(([1.0], survival[:-1]))[:draft_tokens]


class LayerIndexedAcceptance(PositionLaw):
    """A drafter that is the target's own first layers: the rate of each draft by the layer it leaves at.

    ``rates`` is by layer (the number of layers run); between two listed layers the rate is interpolated linearly.
    """

    kind: Literal["layer_indexed"] = "layer_indexed"
    rates: dict[int, Share] = Field(min_length=1)
    exit_layer: int = Field(ge=1)

    @model_validator(mode="after")
    def _inside(self) -> LayerIndexedAcceptance:
        first, last = min(self.rates), max(self.rates)
        if not first <= self.exit_layer <= last:
            raise ValueError(
                f"exit_layer {self.exit_layer} is outside the listed layers {first}..{last}; add its rate"
            )
        return self

    def at(self, exit_layer: int) -> LayerIndexedAcceptance:
        """The same drafter left at another layer. Raises InvalidInput outside the listed layers."""
        first, last = min(self.rates), max(self.rates)
        if not first <= exit_layer <= last:
            raise InvalidInput(f"exit layer {exit_layer} is outside the listed layers {first}..{last}; add its rate")
        return self.model_copy(update={"exit_layer": exit_layer})

    @property
    def rate(self) -> float:
        layers = sorted(self.rates)
        above = bisect_left(layers, self.exit_layer)
        if layers[above] == self.exit_layer:
            return self.rates[self.exit_layer]
        below = layers[above - 1]
        share = (self.exit_layer - below) / (layers[above] - below)
        return (1 - share) * self.rates[below] + share * self.rates[layers[above]]

    def conditional_rates(self, draft_tokens: int) -> Floats:
        return np.full(draft_tokens, self.rate)


def _first(rates: tuple[float, ...], draft_tokens: int, what: str) -> Floats:
    if draft_tokens > len(rates):
        raise InvalidInput(
            f"acceptance gives {len(rates)} {what} and {draft_tokens} tokens are drafted; draft {len(rates)} at most "
            "(--draft-tokens, in a file speculation.max_draft_tokens), or add rates"
        )
    return np.asarray(rates[:draft_tokens], dtype=np.float64)
