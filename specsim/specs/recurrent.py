"""Sublayers that mix tokens by a state of fixed size a sequence: linear attention, state space, short convolution.

Sizes are a whole model's or those of one rank's share (``shard``), named as those of the other ``mixers``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from specsim.specs.layer_kind import Recurrence
from specsim.specs.linear import Linear, StoredMatrices


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A state of fixed size a sequence that every token updates."""

    recurrence: Recurrence
    formats: StoredMatrices = ()

    def linears(self, hidden: int, count: int) -> tuple[Linear, ...]:
        one = self.recurrence
        inner = (Linear("state_inner", n, k, count) for n, k in one.inner)
        return (
            Linear("state_input", one.input_width, hidden, count),
            *inner,
            Linear("state_output", hidden, one.output_width, count),
        )

    @property
    def vector_values(self) -> int:
        one = self.recurrence
        return one.conv_channels * (one.conv_kernel + one.conv_bias) + one.vectors

    @property
    def token_values(self) -> float:
        return 0

    @property
    def state_values(self) -> float:
        """In places of 16 bits: the convolution's last inputs and the state."""
        one = self.recurrence
        return (one.conv_kernel - 1) * one.conv_channels + one.state_values * one.state_bits / 16

    @property
    def rotary_values(self) -> int:
        return 0

    @property
    def width(self) -> int:
        return self.recurrence.input_width + self.recurrence.output_width

    def shard(self, ranks: int) -> Recurrent:
        return replace(self, recurrence=self.recurrence.shard(ranks))
