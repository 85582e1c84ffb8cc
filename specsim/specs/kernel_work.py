"""What one launch of a kernel moves and computes, from the shape columns of its class."""

from __future__ import annotations

from typing import Any

Values = tuple[Any, ...]  # floats or arrays, one a dimension

_WEIGHT_BYTES = {  # groups of weights share a scale of 16 bits
    "float32": 4.0, "fp8": 1.0, "int8": 1.0, "int8-weight": 1.0, "int4-weight-g128": 4.125 / 8,
    "int4-weight-g32": 4.5 / 8,
}  # fmt: skip
_ACTIVATION_BYTES = {"float32": 4.0, "fp8": 1.0, "int8": 1.0}


def work(kind: str, shape: Values, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """(bytes, FLOPs) of one launch; constant factors cancel in the efficiency.

    Worked: gemm m, n, k = 1, 4096, 4096 in bfloat16 moves 2·(4096² + 8192) = 33.6 MB for 33.6 MFLOP.
    """
    weight, value = _WEIGHT_BYTES.get(dtype, 2.0), _ACTIVATION_BYTES.get(dtype, 2.0)
    if kind == "gemm":
        m, n, k = shape
        return weight * n * k + value * m * (n + k), 2.0 * m * n * k
    if kind == "attention":
        sequences, query_tokens, kv_tokens, num_heads, num_kv_heads, head_dim = shape
        cache = 2.0 * weight * kv_tokens * num_kv_heads
        moved = sequences * head_dim * (cache + 4.0 * query_tokens * num_heads)
        visible = kv_tokens - (query_tokens - 1.0) / 2.0
        return moved, 4.0 * sequences * query_tokens * visible * num_heads * head_dim
    if kind == "moe":
        tokens, hidden_size, intermediate_size, num_experts, experts_per_token = shape
        touched = num_experts * (1.0 - (1.0 - experts_per_token / num_experts) ** tokens)
        matrices = 3.0 * hidden_size * intermediate_size
        moved = weight * matrices * touched + 4.0 * tokens * hidden_size
        return moved, 2.0 * matrices * tokens * experts_per_token
    if kind == "collective":
        size, ranks = shape
        return 2.0 * size * (ranks - 1.0) / ranks, 0.0 * size
    size = shape[0] * shape[1]
    return 4.0 * size, 0.0 * size
