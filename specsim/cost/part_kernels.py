"""Prices of the kernels that passes over one part of a model run, on one machine.

They depend on neither captured graphs nor launches, so that passes of several engines and draft lengths have them in
common: what was priced for one is kept for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from specsim.arrays import Reals
from specsim.cost.attention import attention_kernels
from specsim.cost.exchanges import collective_kernels
from specsim.cost.forward import (
    Group,
    Kernel,
    KernelPrices,
    Precision,
    sampling_kernels,
    token_kernels,
)
from specsim.cost.step_time import Charge
from specsim.specs.deployment import ExpertGroup
from specsim.specs.formats import format_of
from specsim.specs.model_part import ModelPart

KEPT_PARTS = 64
KEPT = 512  # prices of a part: prompt chunks of the tables of a simulation, passes that draft lengths have in common
LARGEST = 8192  # elements of a price that is kept
# Launches of what is priced as one kernel. A routed layer chooses experts, sorts tokens (2), multiplies twice with the
# activation between and sums up (vllm/model_executor/layers/fused_moe/fused_moe.py); narrow ones quantise both inputs.
LAUNCHES = {"moe": 7}
QUANTISING = {"moe": 2}

Charges = tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A part of a model, how it is stored and divided over GPUs, and whose prices its kernels have.

    ``ranks``: GPUs that it is divided among, its routed ``experts`` perhaps among more. ``fused``: elementwise kernels
    as serving engines compile them, ``quantised_inside``: what goes into narrow products is quantised by them
    (forward.py). ``logit_bytes``: what choosing a token moves for each logit.
    """

    whole: ModelPart
    prices: KernelPrices
    precision: Precision
    ranks: int
    experts: ExpertGroup | None
    fused: bool
    quantised_inside: bool
    logit_bytes: float


@lru_cache(maxsize=KEPT_PARTS)
def part_kernels(part: PlacedPart) -> PartKernels:
    """The same for equal parts."""
    return PartKernels(part)


class PartKernels:
    """Prices the kernels of a part: what depends on tokens, attention of a group, choosing tokens."""

    def __init__(self, part: PlacedPart) -> None:
        self._part, self._own = part, part.whole.shard(part.ranks, part.experts)
        self._kept = lru_cache(maxsize=KEPT)(_Asked.answer)
        self._token_charges = lru_cache(maxsize=None)(self._price_tokens)
        self._sampling_charges = lru_cache(maxsize=None)(self._price_sampling)

    @property
    def mixers(self) -> int:
        """Sublayers of attention or with a state."""
        return self._own.mixers

    def of_tokens(self, tokens: Reals, rows: Reals, *, warm: bool) -> Charges:
        """What depends on the tokens that run and on the rows of logits alone: a sum of one for each."""
        if isinstance(tokens, int) and isinstance(rows, int):
            return self._token_charges(tokens, rows, warm)
        return self._once(lambda: self._price_tokens(tokens, rows, warm), "tokens", warm, tokens, rows)

    def of_attention(self, group: Group, *, warm: bool, mask: str = "", in_tiles: bool = False) -> Charges:
        """Attention of a group; ``mask`` and ``in_tiles`` as in ``attention_kernels``."""
        counts = (group.sequences, group.query_tokens, group.kv_tokens, group.logit_rows)
        return self._once(
            lambda: self._price_attention(group, warm, mask, in_tiles), "attention", warm, *counts, mask, in_tiles
        )

    def sampling(self, operation: str, rows: Reals) -> Charges:
        """Choosing tokens from rows of logits of each head; each rank does so over the whole vocabulary."""
        if isinstance(rows, int):
            return self._sampling_charges(operation, rows)
        return self._once(lambda: self._price_sampling(operation, rows), operation, rows)

    def charge(self, kernel: Kernel, warm: bool) -> Charge:
        """One kernel, all its launches."""
        price = self._part.prices.price(kernel, warm=warm)
        launches = LAUNCHES.get(kernel.kind, 1) + kernel.quantises
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

    def _once(self, price: Callable[[], Charges], *key: object) -> Charges:
        """A price of arrays, unless they are large, is kept by what they hold; one of plain numbers hardly recurs."""
        sizes = [value.size for value in key if isinstance(value, np.ndarray)]
        if not sizes or max(sizes) > LARGEST:
            return price()
        return self._kept(_Asked(tuple(map(_content, key)), price))

    def _price_tokens(self, tokens: Reals, rows: Reals, warm: bool) -> Charges:
        part = self._part
        own = token_kernels(
            self._own, tokens, rows, part.precision, part.experts,
            fused=part.fused, quantised_inside=part.quantised_inside,
        )  # fmt: skip
        shared = collective_kernels(part.whole, part.ranks, tokens, rows, part.precision, part.experts)
        return tuple(self.charge(kernel, warm) for kernel in (*own, *shared))

    def _price_attention(self, group: Group, warm: bool, mask: str, in_tiles: bool) -> Charges:
        kernels = attention_kernels(self._own, group, self._part.precision, mask, in_tiles=in_tiles)
        return tuple(self.charge(kernel, warm) for kernel in kernels)

    def _price_sampling(self, operation: str, rows: Reals) -> Charges:
        return tuple(
            self.charge(kernel, warm=True)
            for head in self._part.whole.heads
            for kernel in sampling_kernels(operation, rows, head.n, head.count, self._part.logit_bytes)
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be priced, known by its ``content``."""

    content: tuple[object, ...]
    price: Callable[[], Charges] = field(compare=False)

    def answer(self) -> Charges:
        return self.price()


def _content(value: object) -> object:
    """Hashable, and the same for arrays that hold the same."""
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
