"""A weight matrix of a model, as passes multiply by it and memory holds it."""

from __future__ import annotations

from dataclasses import dataclass

from specsim.specs.formats import Stored

StoredMatrices = tuple[tuple[str, Stored], ...]  # by the name of a matrix, where not as the model's own


@dataclass(frozen=True, slots=True)
class Linear:
    """``count`` weight matrices of the same shape; a product with M rows costs 2·M·n·k FLOPs each.

    ``routed`` marks the experts of one MoE layer: ``count`` is then layers, each with ``experts`` of which
    ``experts_per_token`` run for a token. ``on_rows``: only positions whose logits are wanted go through it.
    ``split``: a drafter's own matrix whose outputs ranks of tensor parallelism divide. ``stored``: how,
    where it is not as the model's other matrices.
    """

    name: str
    n: int  # output features
    k: int  # input features
    count: int
    routed: bool = False
    on_rows: bool = False
    split: bool = False
    bias: bool = False
    stored: Stored | None = None
    experts: int = 1
    experts_per_token: int = 1

    @property
    def parameters(self) -> int:
        """Of all of them, every expert counted, biases left out."""
        return self.n * self.k * self.count * self.experts

    @property
    def active_parameters(self) -> int:
        """Those that one token multiplies by."""
        return self.n * self.k * self.count * self.experts_per_token

    @property
    def bias_values(self) -> int:
        return self.n * self.count * self.experts if self.bias else 0
