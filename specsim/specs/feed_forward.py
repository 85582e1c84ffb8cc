"""Sublayers that take each token for itself: one dense part, or routed experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from specsim.specs.layer_kind import MixtureOfExperts
from specsim.specs.linear import Linear, StoredMatrices


@dataclass(frozen=True, slots=True)
class Dense:
    """A feed-forward part that every token runs whole."""

    intermediate_size: int
    gated: bool = True
    bias: bool = False
    formats: StoredMatrices = ()

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        inputs = 2 if self.gated else 1
        return (
            Linear("gate_up", inputs * self.intermediate_size, hidden, count, bias=self.bias),
            Linear("down", hidden, self.intermediate_size, count, bias=self.bias),
        )

    @property
    def vector_values(self) -> int:
        return 0

    @property
    def width(self) -> int:
        return ((2 if self.gated else 1) + 1) * self.intermediate_size

    def shard(self, ranks: int) -> Dense:
        return replace(self, intermediate_size=self.intermediate_size // ranks)


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts with their router, and those that every token runs.

    ``elsewhere``: experts that the router chooses among and other GPUs hold.
    """

    moe: MixtureOfExperts
    gated: bool = True
    formats: StoredMatrices = ()
    elsewhere: int = 0

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        moe, inputs, inside = self.moe, 2 if self.gated else 1, self.moe.latent_size or hidden
        routed: dict[str, Any] = {
            "routed": True,
            "experts": moe.num_experts,
            "experts_per_token": moe.experts_per_token,
            "bias": moe.bias,
        }
        rows = [
            Linear("router", moe.num_experts + self.elsewhere, hidden, count, bias=moe.bias),
            Linear("expert_gate_up", inputs * moe.intermediate_size, inside, count, **routed),
            Linear("expert_down", inside, moe.intermediate_size, count, **routed),
        ]
        if moe.latent_size:
            rows.append(Linear("expert_input", inside, hidden, count))
            rows.append(Linear("expert_output", hidden, inside, count))
        if shared := moe.shared_width:
            rows.append(Linear("shared_gate_up", inputs * shared, hidden, count))
            rows.append(Linear("shared_down", hidden, shared, count))
        return tuple(rows)

    @property
    def vector_values(self) -> int:
        return self.moe.vectors + (self.moe.num_experts + self.elsewhere if self.moe.router_bias else 0)

    def shard(self, ranks: int, expert_gpus: int = 1) -> Experts:
        """A slice of each expert, or a share of the whole experts where ``expert_gpus`` divide them."""
        if expert_gpus == 1:
            return replace(self, moe=self.moe.shard(ranks))
        spread = self.moe.spread(expert_gpus, ranks)
        return replace(self, moe=spread, elsewhere=self.moe.num_experts - spread.num_experts)


FeedForward = Dense | Experts
