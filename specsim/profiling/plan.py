"""Which shapes a sweep times: a coarse-to-fine grid a device can finish in minutes, no model's own shapes.

Weights, widths and cache lengths go up in powers of two or four, so that any model lands between them; token
counts are dense where verification lives (1 to 64).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from specsim.cost.efficiency import work


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing to time: a row of the profile that is still without its times."""

    kind: str
    operation: str
    shape: tuple[float, ...]
    cache: str


@dataclass(frozen=True, slots=True)
class Grid:
    """The values along each axis, and what is too long to be worth its time on this device."""

    gemm_m: tuple[int, ...]
    gemm_n: tuple[int, ...]
    gemm_k: tuple[int, ...]
    attention_sequences: tuple[int, ...]
    attention_queries: tuple[int, ...]
    attention_keys: tuple[int, ...]
    attention_heads: tuple[tuple[int, int, int], ...]  # heads, KV heads, head size
    tokens: tuple[int, ...]
    widths: tuple[int, ...]
    vocabularies: tuple[int, ...]
    most_flops: float
    most_bytes: float
    pass_hidden_sizes: tuple[int, ...]  # of the generic passes that elementwise kernels are timed in, cold


CPU = Grid(
    gemm_m=(1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 512),
    gemm_n=(256, 512, 1024, 2048, 4096, 8192, 16384, 32768),
    gemm_k=(256, 512, 1024, 2048, 4096),
    attention_sequences=(1, 2, 4, 8, 16, 32, 64),
    attention_queries=(1, 2, 3, 4, 5, 6, 7, 8, 9, 32, 128),
    attention_keys=(32, 64, 128, 192, 256, 384, 512, 1024, 2048),
    attention_heads=((8, 8, 64), (16, 4, 64), (16, 4, 128)),
    tokens=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    widths=(256, 1024, 4096),
    vocabularies=(8192, 32768, 131072),
    most_flops=2e10,
    most_bytes=64e6,
    pass_hidden_sizes=(256, 1024, 2048),
)
CUDA = Grid(
    gemm_m=(*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192),
    gemm_n=(512, 1024, 2048, 4096, 8192, 16384, 32768, 131072),
    gemm_k=(512, 1024, 2048, 4096, 8192, 16384),
    attention_sequences=(1, 4, 16, 64, 256),
    attention_queries=(1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 512),
    attention_keys=(128, 512, 2048, 8192, 32768),
    attention_heads=((16, 16, 128), (32, 8, 128), (64, 8, 128), (32, 8, 64)),
    tokens=(1, 4, 16, 64, 256, 1024, 4096),
    widths=(1024, 4096, 16384),
    vocabularies=(32768, 131072),
    most_flops=2e13,
    most_bytes=4e9,
    pass_hidden_sizes=(),
)
ELEMENTWISE = ("embedding", "norm", "rotary", "kv_write", "activation", "add")


def thinned(grid: Grid) -> Grid:
    """Every second value of the long axes, the ends kept: a first look in a fraction of the time."""

    def half(values: tuple[int, ...]) -> tuple[int, ...]:
        kept = values[::2]
        return kept if kept[-1:] == values[-1:] else (*kept, values[-1])

    axes = ("gemm_m", "gemm_n", "gemm_k", "attention_sequences", "attention_queries", "attention_keys", "tokens")
    halved: dict[str, Any] = {
        name: half(getattr(grid, name)) for name in (*axes, "widths", "vocabularies", "pass_hidden_sizes")
    }
    return replace(grid, **halved, attention_heads=grid.attention_heads[1:2], most_bytes=grid.most_bytes / 2)


def shapes(grid: Grid, cache_bytes: int) -> Iterator[Shape]:
    """Every shape of a grid. Warm ones only where the data of a whole small model could stay in the cache."""
    for n, k, m in product(grid.gemm_n, grid.gemm_k, grid.gemm_m):
        moved, flops = work("gemm", (m, n, k))
        if 2 * n * k > grid.most_bytes or flops > grid.most_flops:
            continue
        yield Shape("gemm", "", (m, n, k), "cold")
        if moved <= cache_bytes / 2:
            yield Shape("gemm", "", (m, n, k), "warm")
    axes = (grid.attention_heads, grid.attention_sequences, grid.attention_queries, grid.attention_keys)
    for (heads, kv_heads, head_dim), sequences, queries, keys in product(*axes):
        shape = (sequences, queries, keys, heads, kv_heads, head_dim)
        moved, flops = work("attention", shape)
        if queries > keys / 2 or flops > grid.most_flops or moved > grid.most_bytes:
            continue
        yield Shape("attention", "", shape, "cold")
        if moved <= cache_bytes / 8:
            yield Shape("attention", "", shape, "warm")
    for operation, width, tokens in product(ELEMENTWISE, grid.widths, grid.tokens):
        yield Shape("elementwise", operation, (tokens, width), "warm")
    for vocabulary, rows in product(grid.vocabularies, grid.tokens):
        if rows * vocabulary * 4 <= grid.most_bytes:
            yield Shape("sampling", "greedy", (rows, vocabulary), "warm")
