"""Which shapes a sweep times first: a coarse grid that a device finishes in a share of its minutes.

Axes go up in powers of two or so between the smallest and largest that any served model needs, so that any model lands
between measured shapes; token counts are dense where verification lives (1 to 64). What lies between is measured
later, where interpolation is worst (``refine``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, product

import numpy as np

from specsim.specs.kernel_work import work


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing to time: a row of the profile that is still without its times."""

    kind: str
    operation: str
    shape: tuple[float, ...]
    cache: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Block:
    """Shapes of one class: every combination of the axes (in the order of its columns), then the fixed columns."""

    kind: str
    axes: tuple[tuple[int, ...], ...]
    fixed: tuple[int, ...] = ()
    operations: tuple[str, ...] = ("",)
    caches: tuple[str, ...] = ("cold",)
    dtypes: tuple[str, ...] = ("",)  # "": the sweep's own


@dataclass(frozen=True, slots=True)
class Grid:
    """What a sweep of one kind of device covers; shapes too long to be worth their time are left out."""

    blocks: tuple[Block, ...]
    most_flops: float
    most_bytes: float
    pass_tokens: tuple[int, ...]  # token counts of the passes that elementwise kernels are timed in, cold
    pass_hidden_sizes: tuple[int, ...]  # of the generic models that run those passes
    host_batches: tuple[int, ...]
    whole_passes: tuple[tuple[int, int, int], ...]  # sequences, query and KV tokens of whole passes, for checks
    most_pass_flops: float = math.inf  # of the passes that elementwise kernels are timed in


LARGEST_GROUP = 24
FIRST_LEVEL_SHARE = 1 / 16  # of a grid's longest kernels, those of its first level
FIRST_LEVEL_PASS_FLOPS = 2e9
ELEMENTWISE = ("embedding", "norm", "rotary", "kv_write", "activation", "add")
SAMPLING = ("greedy", "softmax", "sample", "rejection")
_INT4 = ("int4-weight-g128", "int4-weight-g32")
NARROW = ("int8-weight", *_INT4)

_CPU_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
_CPU_KEYS = (32, 128, 512, 1024, 2048, 4096)

CPU = Grid(
    blocks=(
        Block(
            "gemm",
            (_CPU_ROWS, (256, 512, 1024, 2048, 4096, 8192, 16384), (256, 512, 1024, 2048, 4096)),
            caches=("cold", "warm"),
        ),
        Block("gemm", (_CPU_ROWS, (32768, 131072), (256, 512, 1024, 2048))),
        Block("gemm", ((1, 4, 16, 64), (1024, 4096, 11008), (1024, 4096)), dtypes=NARROW),
        *(
            Block("attention", ((1, 4, 16, 64), (1,), _CPU_KEYS), (heads, 2, size), caches=("cold", "warm"))
            for heads, size in ((2, 64), (8, 64), (16, 64), (2, 128), (8, 128), (16, 128))
        ),
        Block("attention", ((1, 4, 16, 64), (2, 3, 5), _CPU_KEYS), (2, 2, 64)),
        Block("attention", ((1, 4, 16, 64), (2, 3, 5, 9, 17), _CPU_KEYS), (8, 2, 64)),
        Block("attention", ((1, 4, 16, 64), (9,), _CPU_KEYS), (16, 2, 64)),
        # many streams: KV heads times sequences, eight times those above
        *(
            Block("attention", ((1, 4, 16, 64), (1, 3, 9), (128, 512, 2048)), layout)
            for layout in ((16, 16, 64), (32, 8, 64))
        ),
        Block("attention", ((1, 4, 16, 64), (3, 9), _CPU_KEYS), (8, 2, 128)),
        *(Block("attention", ((1, 4), (32, 128, 512), (128, 512, 2048)), (8, 2, size)) for size in (64, 128)),
        Block("attention", ((1, 8), (4, 16), (128, 1024)), (8, 2, 64), operations=("tree",)),
        Block("elementwise", ((1, 8, 64, 512), (256, 1024, 4096)), operations=ELEMENTWISE, caches=("warm",)),
        Block(
            "sampling", ((1, 2, 4, 16, 64, 256), (2048, 8192, 32768, 131072)), operations=SAMPLING, caches=("warm",)
        ),
        Block("moe", ((1, 2, 4, 8, 32, 128),), (1024, 512, 8, 2)),
    ),
    most_flops=2.5e10,
    most_bytes=3e8,
    pass_tokens=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    pass_hidden_sizes=(256, 512, 1024, 2048),
    host_batches=(1, 2, 4, 8, 16, 32, 64),
    whole_passes=((1, 1, 256), (1, 5, 256), (8, 1, 256), (8, 5, 1024), (32, 3, 256)),
)

_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192, 16384)
_KEYS = (128, 1024, 8192, 32768, 131072)
_BATCHES = (1, 4, 16, 64, 256)
_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 17, 32, 64)

CUDA = Grid(
    blocks=(
        Block("gemm", (_ROWS, (16, 256, 1024, 2048, 4096, 8192, 16384, 65536, 263168), (256, 1024, 4096, 8192, 32768)),
              caches=("cold", "warm")),
        Block("gemm", (_ROWS, (1024, 4096, 16384, 65536), (1024, 4096, 16384)), dtypes=("float16", "fp8")),
        Block("gemm", ((1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096), (1024, 4096, 16384, 65536), (1024, 4096, 16384)),
              dtypes=("int8",)),
        Block("gemm", ((1, 2, 4, 8, 16, 32, 64, 256), (1024, 4096, 16384, 65536), (1024, 4096, 16384)),
              dtypes=_INT4),
        # torch's kernel, without tensor cores, reads a matrix again for every row: slower than any engine's from there
        Block("gemm", ((1, 2, 4, 8), (1024, 4096, 16384), (1024, 4096, 16384)), dtypes=("int8-weight",)),
        *(Block("attention", (_BATCHES, (1,), _KEYS), layout, caches=("cold", "warm"))
          for layout in ((16, 16, 64), (32, 8, 64), (16, 16, 128), (32, 8, 128), (64, 8, 128), (128, 1, 576))),
        *(Block("attention", (_BATCHES, _WIDTHS[1:], _KEYS), layout)
          for layout in ((16, 16, 128), (32, 8, 128), (64, 8, 128))),
        *(Block("attention", (_BATCHES, (2, 4, 8, 16), _KEYS), layout) for layout in ((32, 8, 64), (128, 1, 576))),
        *(Block("attention", ((1, 4), (128, 512, 2048, 8192), (128, 512, 2048, 8192, 32768)), layout)
          for layout in ((32, 8, 64), (16, 16, 128), (32, 8, 128), (64, 8, 128), (128, 128, 192))),
        Block("attention", ((1, 16, 64), (4, 8, 16, 32, 64), (1024, 8192)), (32, 8, 128), operations=("tree",)),
        Block("elementwise", ((1, 4, 16, 64, 256, 1024, 4096), (1024, 4096, 16384)), operations=ELEMENTWISE,
              caches=("warm",)),
        Block("sampling", ((1, 4, 16, 64, 256, 1024), (32768, 131072)), operations=SAMPLING, caches=("warm",)),
        Block("moe", ((1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096),), (4096, 14336, 8, 2)),
        Block("moe", ((1, 4, 16, 64, 256, 1024, 4096),), (2048, 768, 128, 8)),
        Block("moe", ((1, 4, 16, 64, 256, 1024),), (7168, 256, 256, 8)),
    ),
    most_flops=2e13,
    most_bytes=5e9,
    pass_tokens=(),
    pass_hidden_sizes=(),
    host_batches=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    whole_passes=((1, 1, 1024), (1, 5, 1024), (16, 1, 1024), (16, 5, 1024), (64, 3, 1024)),
)  # fmt: skip


def thinned(grid: Grid) -> Grid:
    """Every second value of each axis, the ends kept: a first look in a fraction of the time."""

    def half(values: tuple[int, ...]) -> tuple[int, ...]:
        kept = values[::2]
        return kept if kept[-1:] == values[-1:] else (*kept, values[-1])

    blocks = tuple(replace(block, axes=tuple(half(axis) for axis in block.axes)) for block in grid.blocks)
    return replace(
        grid,
        blocks=blocks,
        most_bytes=grid.most_bytes / 2,
        pass_tokens=half(grid.pass_tokens),
        pass_hidden_sizes=half(grid.pass_hidden_sizes),
        host_batches=half(grid.host_batches),
        whole_passes=grid.whole_passes[:2],
    )


def levels(grid: Grid) -> list[Grid]:
    """A grid, coarse before fine: each level holds the one before, the first is short kernels and few shapes only."""
    first = replace(
        thinned(thinned(grid)),
        most_flops=grid.most_flops * FIRST_LEVEL_SHARE,
        whole_passes=grid.whole_passes[:1],
        most_bytes=grid.most_bytes * FIRST_LEVEL_SHARE,
        most_pass_flops=FIRST_LEVEL_PASS_FLOPS,
    )
    return [first, thinned(grid), grid]


def shapes(grid: Grid, dtype: str, cache_bytes: int) -> Iterator[Shape]:
    """Every shape of a grid, once each."""
    seen: set[Shape] = set()
    for block in grid.blocks:
        columns = product(*block.axes)
        for values, operation, cache, name in product(columns, block.operations, block.caches, block.dtypes):
            shape = Shape(block.kind, operation, (*values, *block.fixed), cache, name or dtype)
            if shape not in seen and worthwhile(shape, grid, cache_bytes):
                seen.add(shape)
                yield shape


def worthwhile(shape: Shape, grid: Grid, cache_bytes: float) -> bool:
    """Possible, not too long, and warm only where the data of a whole small model could stay in the cache."""
    moved, flops = size(shape)
    if flops > grid.most_flops or moved > grid.most_bytes:
        return False
    if shape.kind == "attention" and shape.shape[1] > shape.shape[2]:
        return False
    caching = {"gemm": cache_bytes / 2, "attention": cache_bytes / 8}
    return shape.cache == "cold" or moved <= caching.get(shape.kind, grid.most_bytes)


def size(shape: Shape) -> tuple[float, float]:
    """Bytes that one launch works on, and its FLOPs."""
    moved, flops = work(shape.kind, shape.shape, shape.dtype)
    return float(moved), float(flops)


def by_weights(found: list[Shape], seed: int) -> list[list[Shape]]:
    """Shapes that share weights together, in a seeded random order inside and out: drift aligns with no axis.

    Groups of more than LARGEST_GROUP shapes are split.
    """

    def weights(shape: Shape) -> tuple[object, ...]:
        own = shape.shape[1:] if shape.kind in ("gemm", "moe") else shape.shape[3:]
        return shape.kind, shape.operation, shape.cache, shape.dtype, own

    generator = np.random.default_rng(seed)
    groups: list[list[Shape]] = []
    for _, members in groupby(sorted(found, key=weights), key=weights):
        group = list(members)
        generator.shuffle(group)
        groups.extend(group[i : i + LARGEST_GROUP] for i in range(0, len(group), LARGEST_GROUP))
    generator.shuffle(groups)
    return groups
