"""The time of any pass: kernels, padding to captured graphs, launches from the host, collectives.

With CUDA graphs the tokens of a pass are padded to the next captured size, so that its cost is a staircase; above the
largest size it falls to eager launches. An eager pass takes the longer of its kernels and their launches. A mixed pass
(prompt chunks beside decoding) is captured piecewise: attention is launched eagerly between the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from specsim.arrays import Reals
from specsim.cost.attention import attention_kernels
from specsim.cost.forward import (
    Group,
    Kernel,
    KernelPrices,
    Precision,
    collective_kernels,
    sampling_kernels,
    token_kernels,
)
from specsim.cost.step_time import Charge
from specsim.specs.deployment import ExpertGroup
from specsim.specs.engine import pad_to_graph
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part

PIECES_PER_LAYER = 2  # launches a layer of a piecewise captured pass: one graph piece, one attention


class PassCost:
    """Prices passes of one model, or of a part of one, over ``ranks`` GPUs, its routed experts perhaps over more.

    ``graph_sizes``: captured token counts, empty for eager; ``launch_s``: host seconds to launch one kernel, 0 where
    the kernel times hold it already. ``fused``: elementwise kernels as serving engines compile them (forward.py).
    """

    def __init__(
        self, model: ModelSpec | ModelPart, prices: KernelPrices, precision: Precision, *, ranks: int = 1,
        experts: ExpertGroup | None = None, graph_sizes: tuple[int, ...] = (), launch_s: float = 0.0,
        fused: bool = False,
    ) -> None:  # fmt: skip
        self._whole = as_part(model)
        self._part = self._whole.shard(ranks, experts)
        self._ranks, self._experts = ranks, experts
        self._prices = prices
        self._precision = precision
        self._graph_sizes = graph_sizes
        self._launch_s = launch_s
        self._fused = fused
        self._token_charges = lru_cache(maxsize=None)(self._price_tokens)
        self._sampling_charges = lru_cache(maxsize=None)(self._price_sampling)

    def charges(self, groups: Sequence[Group], *, warm: bool, mask: str = "") -> list[Charge]:
        """Everything one pass over ``groups`` takes, logits included, and the host's time between kernels.

        ``mask``, as in ``attention_kernels``, is that of groups which are not prompts and have several tokens each.
        """
        tokens = sum((g.tokens for g in groups), 0)
        rows = sum((g.sequences * g.logit_rows for g in groups), 0)
        padded, captured = pad_to_graph(tokens, self._graph_sizes)
        if isinstance(padded, int) and isinstance(rows, int):
            charges = list(self._token_charges(padded, rows, warm))
        else:
            charges = list(self._price_tokens(padded, rows, warm))
        for group in groups:
            own_mask = "" if group.is_prefill or group.query_tokens == 1 else mask
            kernels = attention_kernels(self._part, group, self._precision, own_mask)
            charges.extend(self.charge(kernel, warm) for kernel in kernels)
        if between_s := self._prices.host_s("layer", 1):
            charges.append(Charge("elementwise", "host", between_s * self._part.mixers, 0.0, 0.0, 0.0, 0))
        if self._launch_s:
            uniform = not any(group.is_prefill for group in groups)
            charges.append(self._waiting_for_launches(charges, captured, uniform))
        return charges

    def sampling(self, operation: str, rows: Reals) -> Sequence[Charge]:
        """Choosing tokens from rows of logits of each head; each rank does so over the whole vocabulary."""
        if isinstance(rows, int):
            return self._sampling_charges(operation, rows)
        return self._price_sampling(operation, rows)

    def _price_sampling(self, operation: str, rows: Reals) -> tuple[Charge, ...]:
        return tuple(
            self.charge(kernel, warm=True)
            for head in self._whole.heads
            for kernel in sampling_kernels(operation, rows, head.n, head.count)
        )

    def _price_tokens(self, tokens: Reals, rows: Reals, warm: bool) -> tuple[Charge, ...]:
        own = token_kernels(self._part, tokens, rows, self._precision, self._experts, fused=self._fused)
        shared = collective_kernels(self._whole, self._ranks, tokens, rows, self._precision, self._experts)
        return tuple(self.charge(kernel, warm) for kernel in (*own, *shared))

    def charge(self, kernel: Kernel, warm: bool) -> Charge:
        """One kernel, all its launches."""
        price = self._prices.price(kernel, warm=warm)
        seconds = price.seconds * kernel.count
        return Charge(
            kernel.part,
            kernel.kind,
            seconds,
            seconds * price.relative_error,
            price.rank,
            price.compute_bound,
            kernel.count,
        )

    def _waiting_for_launches(self, charges: Sequence[Charge], captured: Reals, uniform: bool) -> Charge:
        """Seconds that the device waits for the host to launch its kernels."""
        pieces = 0 if uniform else PIECES_PER_LAYER * self._part.mixers + 1
        launches = np.where(captured, pieces, sum((charge.launches for charge in charges), 0.0))
        kernels_s = sum((charge.seconds for charge in charges), 0.0)
        waiting = np.maximum(0.0, launches * self._launch_s - kernels_s)
        return Charge("host", "host", waiting if waiting.ndim else float(waiting), 0.0, 0.0, 0.0, 0)
