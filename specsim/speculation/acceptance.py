"""How many drafted tokens the target accepts: expected values, and draws that alternatives share.

A model is given by conditional rates a_i = P(draft i accepted | drafts before it accepted). From them
r_i = a_1···a_i (unconditional) and the acceptance length AL = 1 + Σ r_i, bonus token included.

Draws are a counter-based function of (seed, request, output position), never of batch order or draft length: a draft
for output position p is right when u(seed, request, p) < a_i. Two systems compared under one seed therefore
face the same luck (common random numbers).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from specsim.errors import InvalidInput

Rate = Annotated[float, Field(ge=0, le=1)]


class _Acceptance(BaseModel, ABC):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def conditional_rates(self, draft_tokens: int) -> NDArray[np.float64]:
        """a_1..a_k, shape [draft_tokens]."""

    def survival(self, draft_tokens: int) -> NDArray[np.float64]:
        """r_1..r_k: P(the first i drafts are all accepted), shape [draft_tokens]."""
        return np.asarray(np.cumprod(self.conditional_rates(draft_tokens)), dtype=np.float64)

    def expected_tokens(self, draft_tokens: int) -> float:
        """Mean tokens a round commits, 1 + Σ r_i. Constant 0.8 and k = 4: (1 - 0.8^5)/0.2 = 3.3616."""
        return 1.0 + float(self.survival(draft_tokens).sum())


class ConstantAcceptance(_Acceptance):
    """Every draft is accepted with the same probability (Leviathan et al., arXiv 2211.17192, section 3.1)."""

    kind: Literal["constant"] = "constant"
    rate: Rate

    def conditional_rates(self, draft_tokens: int) -> NDArray[np.float64]:
        return np.full(draft_tokens, self.rate)


class ConditionalAcceptance(_Acceptance):
    """A conditional rate for each draft position."""

    kind: Literal["conditional"] = "conditional"
    rates: tuple[Rate, ...] = Field(min_length=1)

    def conditional_rates(self, draft_tokens: int) -> NDArray[np.float64]:
        if draft_tokens > len(self.rates):
            raise InvalidInput(
                f"acceptance gives {len(self.rates)} conditional rates and {draft_tokens} tokens are drafted; "
                "add rates or lower max_draft_tokens"
            )
        return np.asarray(self.rates[:draft_tokens], dtype=np.float64)


class PowerLawAcceptance(_Acceptance):
    """Accepted tokens l(s) = c·s^γ (Su, Giannoula, Pekhimenko, arXiv 2310.18813), so r_i = c·(i^γ - (i-1)^γ)."""

    kind: Literal["power_law"] = "power_law"
    c: float = Field(gt=0, le=1)
    gamma: float = Field(gt=0, lt=1)

    def conditional_rates(self, draft_tokens: int) -> NDArray[np.float64]:
        accepted = self.c * np.arange(draft_tokens + 1, dtype=np.float64) ** self.gamma
        survival = np.diff(accepted)
        return survival / np.concatenate(([1.0], survival[:-1]))[:draft_tokens]


Acceptance = Annotated[ConstantAcceptance | ConditionalAcceptance | PowerLawAcceptance, Field(discriminator="kind")]


class AcceptanceDraws:
    """Seeded draws from an acceptance model."""

    def __init__(self, model: _Acceptance, seed: int) -> None:
        self.model = model
        self.seed = seed

    def accepted(
        self, request_ids: NDArray[np.int64], positions: NDArray[np.int64], draft_tokens: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Accepted drafts of each sequence, all arrays of shape [sequences].

        ``positions`` is the output position of each sequence's first draft, ``draft_tokens`` how many it drafted.
        """
        width = int(draft_tokens.max(initial=0))
        if width == 0:
            return np.zeros(len(request_ids), dtype=np.int64)
        rates = self.model.conditional_rates(width)  # [width]
        steps = np.arange(width)
        uniforms = uniform(self.seed, request_ids[:, None], positions[:, None] + steps)  # [sequences, width]
        right = (uniforms < rates) & (steps < draft_tokens[:, None])
        return np.asarray(np.cumprod(right, axis=1).sum(axis=1), dtype=np.int64)


def uniform(seed: int, request_ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of its arguments (broadcast against each other).

    Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood, OOPSLA 2014) over the keyed counter.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed % 2**64) + _mix(request_ids.astype(np.uint64)))
        bits = _mix(key + _GOLDEN * (positions.astype(np.uint64) + np.uint64(1)))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    mixed = np.atleast_1d(np.asarray(bits, dtype=np.uint64)) + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
