"""One routed layer of a mixture of experts: both products of every expert touched, and the activation between them.

Tokens come sorted by expert, as engines' dispatch leaves them; how many each expert gets is drawn once (uniform
routing, seeded), so that a launch never waits for the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from specsim.reference.network.kernels import gated_activation, linear, pack


def visits(tokens: int, num_experts: int, experts_per_token: int, seed: int) -> list[int]:
    """Rows each expert sees when every token picks distinct experts uniformly; sums to tokens · experts_per_token."""
    generator = np.random.default_rng(seed)
    order = generator.random((tokens, num_experts)).argsort(axis=1)[:, :experts_per_token]
    counts: list[int] = np.bincount(order.ravel(), minlength=num_experts).tolist()
    return counts


GROUPED_ON = (9, 10)  # major compute capability; elsewhere torch loops over experts and waits for the device


class ExpertWeights:
    """Weights of one layer: gate_up [experts, 2·intermediate, hidden] and down [experts, hidden, intermediate]."""

    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        grouping = gate_up.device.type == "cuda" and torch.cuda.get_device_capability()[0] in GROUPED_ON
        self._grouped = grouping and gate_up.dtype == torch.bfloat16  # in other dtypes it loops as well
        # Grouped products take whole stacks; a loop over experts takes one packed matrix after another.
        self._gate_up, self._down = gate_up.transpose(1, 2), down.transpose(1, 2)
        self._matrices = [] if self._grouped else [(pack(a), pack(b)) for a, b in zip(gate_up, down, strict=True)]

    @property
    def kernel(self) -> str:
        return "_grouped_mm" if self._grouped else "linear, expert by expert"

    def run(self, x: Tensor, counts: list[int], ends: Tensor) -> Tensor:
        """x [rows, hidden] sorted by expert, ``counts`` rows each; ``ends`` [experts] is their running sum, int32."""
        if self._grouped:
            middle = gated_activation(torch._grouped_mm(x, self._gate_up, offs=ends))
            return torch._grouped_mm(middle, self._down, offs=ends)
        pieces = [
            linear(gated_activation(linear(rows, gate_up)), down)
            for rows, (gate_up, down) in zip(x.split(counts), self._matrices, strict=True)
            if len(rows)
        ]
        return torch.cat(pieces)
