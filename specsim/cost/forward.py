"""One forward pass as kernels: what runs, how much it computes and moves.

A pass is a list of groups (sequences, new tokens each, KV length) that share one stream of weights. Its GEMMs have
M = Σ sequences·tokens rows; the LM head only the rows whose logits are wanted; attention is summed over groups.
Verify attention reads each sequence's cache once for all its new tokens: never one read a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from specsim.specs.model import Linear, ModelSpec

Source = Literal["measured", "interpolated", "extrapolated", "roofline"]
SOURCES: tuple[Source, ...] = ("measured", "interpolated", "extrapolated", "roofline")  # best first
Part = Literal["gemm", "lm_head", "attention", "elementwise", "sampling", "host"]


@dataclass(frozen=True, slots=True)
class Group:
    """``sequences`` sequences of ``query_tokens`` new tokens each, ``kv_tokens`` keys in view once they are computed.

    ``logit_rows``: positions a sequence whose logits are wanted (all when verifying, the last after a prefill,
    none for a prompt chunk that is not the last).
    """

    sequences: int
    query_tokens: int
    kv_tokens: float  # mean over the group's sequences, the new tokens included
    logit_rows: int = 1

    @property
    def tokens(self) -> int:
        return self.sequences * self.query_tokens


@dataclass(frozen=True, slots=True)
class Kernel:
    """``count`` launches of the same kernel. ``shape`` holds the profile's shape columns of class ``kind``."""

    kind: str  # profile class: gemm, attention, elementwise, sampling
    part: Part
    shape: tuple[float, ...]
    operation: str  # elementwise and sampling: which; else empty
    count: float
    flops: float  # one launch
    bytes: float  # one launch, what must cross memory if nothing is cached


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds of one kernel launch. ``relative_error``: one standard deviation, as a share of the seconds."""

    seconds: float
    source: Source
    relative_error: float


class KernelPrices(Protocol):
    """Where kernel times come from: a profile, or a roofline."""

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch; ``warm``: its weights were read a moment ago and fit the last-level cache."""
        ...

    def host_s(self, part: str, sequences: int) -> float | None:
        """Measured host seconds of ``part`` (step, draft_pass, ngram); None where not measured."""
        ...

    @property
    def name(self) -> str:
        """Profile name, or ``roofline``."""
        ...

    @property
    def machine_error(self) -> float:
        """Relative error that all kernels share: the machine's own drift, or its distance from a datasheet."""
        ...


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of weights and cache, and the dtype that the matrix units compute in."""

    weight_bits: float
    kv_bits: float
    dtype: str


def token_kernels(model: ModelSpec, tokens: int, rows: int, precision: Precision) -> Iterator[Kernel]:
    """Everything of a pass but attention: it depends on the token count and the rows of logits alone."""
    for linear in model.linears():
        m = rows if linear.name == "lm_head" else tokens
        if m:
            yield _gemm(linear, m, model, precision)
    yield from _elementwise(model, tokens, precision)


def sampling_kernels(operation: str, rows: int, vocab_size: int) -> Iterator[Kernel]:
    """Choosing tokens from ``rows`` rows of logits (float32)."""
    if rows:
        size = rows * vocab_size
        yield Kernel("sampling", "sampling", (rows, vocab_size), operation, 1, 2.0 * size, 4.0 * size)


def _gemm(linear: Linear, m: float, model: ModelSpec, precision: Precision) -> Kernel:
    part: Part = "lm_head" if linear.name == "lm_head" else "gemm"
    matrices, rows = 1.0, float(m)
    if linear.routed and model.moe is not None:
        matrices = model.moe.expected_experts(m)
        rows = m * model.moe.experts_per_token / matrices  # rows each touched expert sees
    flops = 2.0 * rows * linear.n * linear.k
    moved = linear.n * linear.k * precision.weight_bits / 8 + rows * (linear.n + linear.k) * _activation_bytes(
        precision
    )
    return Kernel("gemm", part, (rows, linear.n, linear.k), "", linear.count * matrices, flops, moved)


def attention_kernel(model: ModelSpec, group: Group, precision: Precision) -> Kernel:
    """Attention of one group, launched once a layer."""
    # Causal: a query of the group's own new tokens sees on average half of them.
    visible = group.kv_tokens - (group.query_tokens - 1) / 2
    flops = group.sequences * model.attention_flops(group.query_tokens, visible) / model.num_layers
    cache = group.sequences * group.kv_tokens * model.kv_values_per_token() * precision.kv_bits / 8
    queries = 2 * group.tokens * model.num_heads * model.head_dim * _activation_bytes(precision)
    shape = (
        group.sequences, group.query_tokens, group.kv_tokens, model.num_heads, model.num_kv_heads, model.head_dim,
    )  # fmt: skip
    return Kernel("attention", "attention", shape, "", model.num_layers, flops, cache + queries)


def _elementwise(model: ModelSpec, tokens: int, precision: Precision) -> Iterator[Kernel]:
    """Norms, rotary, cache write, activation, residual adds and the embedding; widths in values a token."""
    layers, hidden = model.num_layers, model.hidden_size
    heads_width = (model.num_heads + model.num_kv_heads) * model.head_dim
    gated = 2 if model.gated_mlp else 1
    moe = model.moe
    mlp_width = model.intermediate_size if moe is None else moe.intermediate_size * moe.experts_per_token
    operations = (
        ("embedding", hidden, 1, 2), ("norm", hidden, 2 * layers + 1, 2), ("rotary", heads_width, layers, 2),
        ("kv_write", model.kv_values_per_token(), layers, 2), ("activation", mlp_width, layers, gated + 1),
        ("add", hidden, 2 * layers, 3),
    )  # fmt: skip
    for operation, width, count, passes in operations:
        if tokens:
            moved = passes * tokens * width * _activation_bytes(precision)
            yield Kernel("elementwise", "elementwise", (tokens, width), operation, count, 5.0 * tokens * width, moved)


def _activation_bytes(precision: Precision) -> float:
    return 4.0 if precision.dtype == "float32" else 2.0
