"""What one launch of a kernel moves and computes: the only home of a kernel's bytes and FLOPs.

Bytes are what must cross memory if nothing is cached: weights or keys once, what goes in and what comes out. A matrix
product of M rows counts 2·M·N·K FLOPs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from specsim.arrays import Dimensions, Reals
from specsim.specs.formats import format_of


def value_bytes(dtype: str) -> float:
    """Of a value that goes into or comes out of a product by weights of this format."""
    return format_of(dtype).activation_bits / 8


def product_work(m: Any, n: Any, k: Any, *, weight_bytes: float, value_bytes: float) -> tuple[Any, Any]:
    """(bytes, FLOPs) of m rows through a matrix of n outputs and k inputs.

    m, n, k = 1, 4096, 4096 in 16 bits: 2·(4096² + 8192) = 33.6 MB for 33.6 MFLOP.
    """
    return weight_bytes * n * k + value_bytes * m * (n + k), 2.0 * m * n * k


def attention_work(
    sequences: Any,
    queries: Any,
    keys: Any,
    *,
    flops_per_pair: Any,
    cached: Any,
    width: Any,
    cache_bytes: float,
    value_bytes: float,
) -> tuple[Any, Any]:
    """(bytes, FLOPs) of causal attention of ``queries`` new tokens a sequence over ``keys`` tokens, these included.

    Each sequence's cache is read once for all its queries. ``cached``: values of a token in the cache, ``width``:
    values of a token's queries over all heads; ``flops_per_pair``: of one query and one key. A query sees on average
    half of its sequence's new tokens.
    """
    moved = sequences * (cache_bytes * keys * cached + 2.0 * value_bytes * queries * width)
    visible = keys - (queries - 1.0) / 2.0
    return moved, sequences * queries * visible * flops_per_pair


def distinct_experts(num_experts: Any, experts_per_token: Any, tokens: Reals) -> Reals:
    """Experts that ``tokens`` tokens touch under uniform routing: E(1 - (1 - K/E)^T).

    MoESD (arXiv 2505.19645, section 3). For E=8, K=2, T=4: 8(1 - 0.75^4) = 5.47.
    """
    touched: Reals = num_experts * (1.0 - np.power(1.0 - experts_per_token / num_experts, tokens))
    return touched


def experts_work(
    tokens: Any,
    hidden_size: Any,
    intermediate_size: Any,
    num_experts: Any,
    experts_per_token: Any,
    *,
    weight_bytes: float,
    value_bytes: float,
    gated: bool = True,
) -> tuple[Any, Any]:
    """(bytes, FLOPs) of one routed layer: both products of every expert that the tokens touch.

    The weights of an expert are read once; each of a token's K copies is a row of its own that goes in and out of
    both products. With one expert it is the dense layer's products. E, K, T = 8, 2, 4 with 64 hidden and 128 inner
    values in 16 bits: 5.47 experts of 3·64·128 weights and 8 rows of 2·64 + 3·128 values, 276,992 bytes.
    """
    inputs = 2 if gated else 1
    rows = tokens * experts_per_token
    weights = (inputs + 1) * hidden_size * intermediate_size
    values = 2 * hidden_size + (inputs + 1) * intermediate_size
    touched = distinct_experts(num_experts, experts_per_token, tokens)
    return weight_bytes * weights * touched + value_bytes * rows * values, 2.0 * rows * weights


def index_work(
    sequences: Any, queries: Any, keys: Any, *, num_heads: float, head_dim: float, key_bytes: float
) -> tuple[Any, Any]:
    """(bytes, FLOPs) of scoring ``keys`` keys of ``key_bytes`` each for every query.

    Keys are read once a sequence; a score a query and key goes out in float32. A query sees on average half of its
    sequence's new tokens.
    """
    pairs = sequences * queries * (keys - (queries - 1.0) / 2.0)
    return sequences * keys * key_bytes + 4.0 * pairs, 2.0 * num_heads * head_dim * pairs


def state_work(
    sequences: Any,
    queries: Any,
    *,
    state_bytes: float,
    heads: float,
    rows: float,
    columns: float,
    operations: float,
    token_bytes: float,
    span: float,
) -> tuple[Any, Any]:
    """(bytes, FLOPs) of taking ``queries`` tokens a sequence into states of ``state_bytes``.

    A state is read once a sequence and ``span`` tokens and written as often, and so are a token's own values. With a
    span, tokens inside it meet each other too, half of it on average (the chunked form of Mamba-2, arXiv 2405.21060).
    """
    spans = np.ceil(np.asarray(queries) / span)
    reads = 1.0 if span == 1 else spans
    inside = 2.0 * (span - 1.0) / 2.0 * (rows + columns)
    moved = sequences * (state_bytes * (reads + spans) + queries * token_bytes)
    return moved, sequences * queries * heads * (operations * rows * columns + inside)


def weights_read(kind: str, shape: Dimensions) -> Any:
    """Weights that one product, or one routed layer, reads."""
    bytes_of_one = product_work if kind == "gemm" else experts_work
    return bytes_of_one(*shape, weight_bytes=1.0, value_bytes=0.0)[0]


@cache
def _bytes(dtype: str) -> tuple[float, float]:
    return format_of(dtype).stored_bits() / 8, value_bytes(dtype)


def work(kind: str, shape: Dimensions, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """(bytes, FLOPs) of one launch, from the shape columns of its class (profiles/schema.py) and its format.

    Of classes that only move data the order of magnitude: their constant factors cancel in the efficiency.
    """
    weight, value = _bytes(dtype)
    if kind == "gemm":
        return product_work(*shape, weight_bytes=weight, value_bytes=value)
    if kind == "attention":
        sequences, queries, keys, num_heads, num_kv_heads, head_dim = shape
        return attention_work(
            sequences,
            queries,
            keys,
            flops_per_pair=4.0 * num_heads * head_dim,
            cached=2.0 * num_kv_heads * head_dim,
            width=num_heads * head_dim,
            cache_bytes=weight,
            value_bytes=max(value, 2.0),  # only the cache is narrow
        )
    if kind == "moe":
        return experts_work(*shape, weight_bytes=weight, value_bytes=value)
    if kind == "collective":
        size, ranks = shape
        return 2.0 * size * (ranks - 1.0) / ranks, 0.0 * size
    size = shape[0] * shape[1]
    return 4.0 * size, 0.0 * size
