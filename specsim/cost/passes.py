"""The time of any pass: kernels, padding to captured graphs, launches from the host, collectives.

With CUDA graphs the tokens of a pass are padded to the next captured size, so that its cost is a staircase; above the
largest size it falls to eager launches. An eager pass takes the longer of its kernels and their launches, each with
the Python around it. A pass captured in pieces (by vLLM: one with prompt chunks beside decoding) launches attention
eagerly between them, and the device idles for a moment at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from specsim.arrays import Reals
from specsim.cost.attention import IN_ONE_CALL, attention_kernels
from specsim.cost.forward import (
    Group,
    Kernel,
    KernelPrices,
    Precision,
    collective_kernels,
    one_prompt_kernel,
    sampling_kernels,
    token_kernels,
)
from specsim.cost.step_time import Charge
from specsim.specs.deployment import ExpertGroup
from specsim.specs.engine import GraphMode, pad_to_graph
from specsim.specs.formats import format_of
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part

KEPT = 64  # passes of other groups: draft lengths have most of their draft passes in common
PIECES_PER_LAYER = 2  # launches a layer of a piecewise captured pass: one graph piece, one attention
# Launches of what is priced as one kernel. A routed layer chooses experts, sorts tokens (2), multiplies twice with the
# activation between and sums up (vllm/model_executor/layers/fused_moe/fused_moe.py); products of narrow activations
# quantise them first (per_token_group_quant_fp8 and its like, in vLLM and SGLang).
LAUNCHES = {"moe": 7}
QUANTISING = {"gemm": 1, "moe": 2}


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


@dataclass(frozen=True, slots=True)
class _Pass:
    """``content`` stands for the groups, whose arrays cannot be compared."""

    content: tuple[object, ...]
    warm: bool
    mask: str
    groups: Sequence[Group] = field(compare=False)


class PassCost:
    """Prices passes of one model, or of a part of one, over ``ranks`` GPUs, its routed experts perhaps over more.

    ``graph_sizes``: captured token counts, empty for eager; ``graph_mode``, ``attention_backend``: as in EngineLimits.
    ``fused``: elementwise kernels as serving engines compile them (forward.py). ``logit_bytes``: what choosing a token
    moves for each logit.
    """

    def __init__(
        self, model: ModelSpec | ModelPart, prices: KernelPrices, precision: Precision, *, ranks: int = 1,
        experts: ExpertGroup | None = None, graph_sizes: tuple[int, ...] = (),
        graph_mode: GraphMode = "full_and_piecewise", attention_backend: str | None = None,
        launching: Launching = Launching(), fused: bool = False, logit_bytes: float = 4.0,
    ) -> None:  # fmt: skip
        self._whole = as_part(model)
        self._part = self._whole.shard(ranks, experts)
        self._ranks, self._experts = ranks, experts
        self._prices = prices
        self._precision = precision
        self._graph_sizes = graph_sizes
        self._graph_mode = graph_mode
        self._in_one_call = attention_backend in IN_ONE_CALL
        self._launching = launching
        self._fused = fused
        self._kept_charges = lru_cache(maxsize=KEPT)(self._price_pass)
        self._logit_bytes = logit_bytes
        self._token_charges = lru_cache(maxsize=None)(self._price_tokens)
        self._sampling_charges = lru_cache(maxsize=None)(self._price_sampling)

    def charges(self, groups: Sequence[Group], *, warm: bool, mask: str = "") -> tuple[Charge, ...]:
        """Everything one pass over ``groups`` takes, logits included, and the host's time between kernels.

        ``mask``, as in ``attention_kernels``, is that of groups which are not prompts and have several tokens each.
        """
        return self._kept_charges(_Pass(tuple(group.content for group in groups), warm, mask, groups))

    def _price_pass(self, asked: _Pass) -> tuple[Charge, ...]:
        groups, warm = asked.groups, asked.warm
        tokens = sum((g.tokens for g in groups), 0)
        rows = sum((g.sequences * g.logit_rows for g in groups), 0)
        uniform = not any(group.is_prefill for group in groups)
        padded, captured = pad_to_graph(tokens, self.captured_sizes(uniform=uniform))
        charges = self.of_tokens(padded, rows, warm=warm)
        for group in one_prompt_kernel(groups):
            charges += self.of_attention(group, warm=warm, mask=asked.mask, uniform=uniform)
        if self.launches:
            charges.append(self._launches(charges, captured, uniform=uniform))
        return tuple(charges)

    def captured_sizes(self, *, uniform: bool) -> tuple[int, ...]:
        """Token counts with a captured graph; ``uniform``: of a pass without prompts."""
        return () if self._graph_mode == "full_decode_only" and not uniform else self._graph_sizes

    def of_tokens(self, padded: Reals, rows: Reals, *, warm: bool) -> list[Charge]:
        """What depends on the tokens that run and on the rows of logits alone: a sum of one for each."""
        if isinstance(padded, int) and isinstance(rows, int):
            charges = list(self._token_charges(padded, rows, warm))
        else:
            charges = list(self._price_tokens(padded, rows, warm))
        if between_s := self._prices.host_s("layer", 1):
            charges.append(Charge("elementwise", "host", between_s * self._part.mixers, 0.0, 0.0, 0.0, 0))
        return charges

    def of_attention(self, group: Group, *, warm: bool, mask: str, uniform: bool) -> list[Charge]:
        """Attention of one group, in a pass with prompts unless it is ``uniform``."""
        own_mask = "" if group.is_prefill or group.query_tokens == 1 else mask
        tiled = self._in_one_call and not uniform and not group.is_prefill
        kernels = attention_kernels(self._part, group, self._precision, own_mask, in_tiles=tiled)
        return [self.charge(kernel, warm) for kernel in kernels]

    @property
    def launches(self) -> bool:
        """Whether the host's launches are priced apart from the kernels."""
        return self._launching.kernel_s > 0

    def launching_s(self, launches: Reals, captured: Reals, *, uniform: bool) -> tuple[Reals, Reals]:
        """Seconds that the host spends on launching a pass of so many kernels, and that the device idles between."""
        whole = uniform and self._graph_mode != "piecewise"
        most = PIECES_PER_LAYER * self._part.mixers + 1
        pieces = 0 if whole else most
        busy_s = np.where(captured, pieces * self._launching.piece_s, launches * self._launching.kernel_s)
        # An eager pass launches at least what a piecewise one does between its pieces.
        return busy_s, np.where(captured, pieces, most) * self._launching.gap_s

    def sampling(self, operation: str, rows: Reals) -> Sequence[Charge]:
        """Choosing tokens from rows of logits of each head; each rank does so over the whole vocabulary."""
        if isinstance(rows, int):
            return self._sampling_charges(operation, rows)
        return self._price_sampling(operation, rows)

    def _price_sampling(self, operation: str, rows: Reals) -> tuple[Charge, ...]:
        return tuple(
            self.charge(kernel, warm=True)
            for head in self._whole.heads
            for kernel in sampling_kernels(operation, rows, head.n, head.count, self._logit_bytes)
        )

    def _price_tokens(self, tokens: Reals, rows: Reals, warm: bool) -> tuple[Charge, ...]:
        own = token_kernels(self._part, tokens, rows, self._precision, self._experts, fused=self._fused)
        shared = collective_kernels(self._whole, self._ranks, tokens, rows, self._precision, self._experts)
        return tuple(self.charge(kernel, warm) for kernel in (*own, *shared))

    def charge(self, kernel: Kernel, warm: bool) -> Charge:
        """One kernel, all its launches."""
        price = self._prices.price(kernel, warm=warm)
        launches = LAUNCHES.get(kernel.kind, 1)
        if kernel.kind in QUANTISING and format_of(kernel.dtype).activation_bits < 16:
            launches += QUANTISING[kernel.kind]
        seconds = price.seconds * kernel.count
        return Charge(
            kernel.part,
            kernel.kind,
            seconds,
            seconds * price.relative_error,
            price.rank,
            price.compute_bound,
            launches * kernel.count,
        )

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
