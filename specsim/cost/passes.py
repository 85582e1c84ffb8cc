"""The time of any pass: kernels, padding to captured graphs, launches from the host, collectives.

With CUDA graphs the tokens of a pass are padded to the next captured size, so that its cost is a staircase; above the
largest size it falls to eager launches. An eager pass takes the longer of its kernels and their launches, each with
the Python around it. A pass captured in pieces (by vLLM: one with prompt chunks beside decoding) launches attention
eagerly between them, and the device idles for a moment at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Reals
from specsim.cost.attention import IN_ONE_CALL
from specsim.cost.forward import Group, KernelPrices, Precision, one_prompt_kernel
from specsim.cost.part_kernels import PlacedPart, part_kernels
from specsim.cost.step_time import Charge
from specsim.specs.deployment import ExpertGroup
from specsim.specs.engine import GraphMode, pad_to_graph
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part

PIECES_PER_LAYER = 2  # launches a layer of a piecewise captured pass: one graph piece, one attention


@dataclass(frozen=True, slots=True)
class Launching:
    """Host seconds to launch a kernel outside of a graph and a piece of one, and what the device idles at a piece.

    All 0 where the kernel times hold their launch already. ``kernel_error``, ``piece_error`` and ``gap_error``: one
    standard deviation of each, as a share.
    """

    kernel_s: float = 0.0
    piece_s: float = 0.0
    gap_s: float = 0.0
    kernel_error: float = 0.0
    piece_error: float = 0.0
    gap_error: float = 0.0


class PassCost:
    """Prices passes of one model, or of a part of one, over ``ranks`` GPUs, its routed experts perhaps over more.

    ``graph_sizes``: captured token counts, empty for eager; ``graph_mode``, ``attention_backend``: as in EngineLimits.
    ``fused``, ``quantised_inside``, ``logit_bytes``: as of a PlacedPart.
    """

    def __init__(
        self, model: ModelSpec | ModelPart, prices: KernelPrices, precision: Precision, *, ranks: int = 1,
        experts: ExpertGroup | None = None, graph_sizes: tuple[int, ...] = (),
        graph_mode: GraphMode = "full_and_piecewise", attention_backend: str | None = None,
        launching: Launching = Launching(), fused: bool = False, quantised_inside: bool = False,
        logit_bytes: float = 4.0,
    ) -> None:  # fmt: skip
        self.kernels = part_kernels(
            PlacedPart(as_part(model), prices, precision, ranks, experts, fused, quantised_inside, logit_bytes)
        )
        self._prices = prices
        self._graph_sizes = graph_sizes
        self._graph_mode = graph_mode
        self._in_one_call = attention_backend in IN_ONE_CALL
        self._launching = launching

    def charges(self, groups: Sequence[Group], *, warm: bool, mask: str = "") -> list[Charge]:
        """Everything one pass over ``groups`` takes, logits included, and the host's time between kernels.

        ``mask``, as in ``attention_kernels``, is that of groups which are not prompts and have several tokens each.
        """
        tokens = sum((g.tokens for g in groups), 0)
        rows = sum((g.sequences * g.logit_rows for g in groups), 0)
        uniform = not any(group.is_prefill for group in groups)
        padded, captured = pad_to_graph(tokens, self.captured_sizes(uniform=uniform))
        charges = self.of_tokens(padded, rows, warm=warm)
        for group in one_prompt_kernel(groups):
            charges += self.of_attention(group, warm=warm, mask=mask, uniform=uniform)
        if self.launches:
            charges.append(self._launches(charges, captured, uniform=uniform))
        return charges

    def captured_sizes(self, *, uniform: bool) -> tuple[int, ...]:
        """Token counts with a captured graph; ``uniform``: of a pass without prompts."""
        return () if self._graph_mode == "full_decode_only" and not uniform else self._graph_sizes

    def of_tokens(self, padded: Reals, rows: Reals, *, warm: bool) -> list[Charge]:
        """What depends on the tokens that run and on the rows of logits alone: a sum of one for each."""
        charges = list(self.kernels.of_tokens(padded, rows, warm=warm))
        if between_s := self._prices.host_s("layer", 1):
            charges.append(Charge("elementwise", "host", between_s * self.kernels.mixers, 0.0, 0.0, 0.0, 0))
        return charges

    def of_attention(self, group: Group, *, warm: bool, mask: str, uniform: bool) -> tuple[Charge, ...]:
        """Attention of one group, in a pass with prompts unless it is ``uniform``."""
        own_mask = "" if group.is_prefill or group.query_tokens == 1 else mask
        tiled = self._in_one_call and not uniform and not group.is_prefill
        return self.kernels.of_attention(group, warm=warm, mask=own_mask, in_tiles=tiled)

    @property
    def launches(self) -> bool:
        """Whether the host's launches are priced apart from the kernels."""
        return self._launching.kernel_s > 0

    def launching_s(self, launches: Reals, captured: Reals, *, uniform: bool) -> tuple[Reals, Reals]:
        """Seconds that the host spends on launching a pass of so many kernels, and that the device idles between."""
        whole = uniform and self._graph_mode != "piecewise"
        most = PIECES_PER_LAYER * self.kernels.mixers + 1
        pieces = 0 if whole else most
        busy_s = np.where(captured, pieces * self._launching.piece_s, launches * self._launching.kernel_s)
        # An eager pass launches at least what a piecewise one does between its pieces.
        return busy_s, np.where(captured, pieces, most) * self._launching.gap_s

    def _launches(self, charges: Sequence[Charge], captured: Reals, *, uniform: bool) -> Charge:
        """What the device waits for the host to launch its kernels, and idles between pieces of a graph."""
        kernels = sum((charge.launches for charge in charges), 0.0)
        kernels_s = sum((charge.seconds for charge in charges), 0.0)
        one = self._launching
        busy_s, idle_s = self.launching_s(kernels, captured, uniform=uniform)
        waiting_s = np.asarray(np.maximum(0.0, busy_s - kernels_s - idle_s))
        found = (idle_s, busy_s, waiting_s, busy_s * np.where(captured, one.piece_error, one.kernel_error))
        idle, busy, waiting, error = found if waiting_s.ndim else map(float, found)
        return Charge("host", "host", waiting + idle, idle * one.gap_error, 0.0, 0.0, 0, busy, waiting, error)
