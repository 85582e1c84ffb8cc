"""The axes that a kernel class's efficiency varies on.

Some dimensions of a shape are fixed by the model (the sizes of a matrix, a head layout), others run from step to step
(tokens, sequences, keys). Lengths are in e-folds: over how large a change of a coordinate two efficiencies lose
their likeness. They were chosen on calibration rows of five GPUs' public kernel tables, never on test rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from specsim.arrays import Dimensions, Floats


@dataclass(frozen=True, slots=True)
class Axes:
    """The coordinates of one class.

    ``split``: a shape's fixed and running dimensions; ``joined``: the shape of both. ``origin``: coordinates where
    every running dimension is 1, of the fixed ones. ``running``: which coordinate each running dimension multiplies.
    ``metrics``: matrices [axes, features] that turn log coordinates into units of correlation length; a surface keeps
    the one that suits its rows.
    ``tiles``: of each metric, how many of a shape's first dimension are computed at once, a last tile that is not full
    at the price of a full one; 1 throughout where none are given. ``fill``: of each metric, the weight of what tiles
    leave idle (``unfilled``) in how alike two shapes are; 0 throughout where none are given.
    """

    split: Callable[[Dimensions], tuple[Dimensions, Dimensions]]
    joined: Callable[[Dimensions, Dimensions], Dimensions]
    origin: Callable[[Dimensions], Dimensions]
    running: tuple[int, ...]
    metrics: tuple[Floats, ...]
    tiles: tuple[float, ...] = ()
    fill: tuple[float, ...] = ()

    def points(self, fixed: Dimensions, running: Dimensions) -> Floats:
        """Log coordinates [rows, axes] of arrays of dimensions."""
        rows = max(np.size(x) for x in (*fixed, *running))
        columns = [np.log(np.broadcast_to(np.asarray(x, dtype=np.float64), rows)) for x in self.origin(fixed)]
        for axis, values in zip(self.running, running, strict=True):
            columns[axis] = columns[axis] + np.log(values)
        return np.column_stack(columns)


def axes_of(kind: str, shapes: Floats, processors: int | None = None) -> Axes:
    """The axes for rows of these shapes [rows, dimensions], on a device of so many processors; None: unknown."""
    if kind == "attention":
        ratios = len(np.unique(shapes[:, 2] / shapes[:, 1]))
        return _PROMPT if ratios < len(np.unique(shapes[:, 2])) else _CACHED
    return {"gemm": _GEMM if processors is None else _GEMM_FILLED, "moe": _MOE}.get(kind, _TWO)


def unfilled(rows: Floats, columns: Floats, processors: int) -> Floats:
    """Log of the work that processors stand ready for over the work of an output of rows × columns, by tile.

    Each processor computes one tile at a time, so a launch lasts as many rounds as the fullest processor has tiles.
    Which tile a library takes is its own affair: there is one answer for each of 64 sizes, [outputs, 64], over the
    root of their number, so that distances are root mean squares. Worked: 256 × 4096 in tiles of 128 × 128 are 64
    tiles; on 148 processors one round, log(148 / 64) = 0.84, and on 60 two, log(120 / 64) = 0.63.
    """
    high, wide = (sides.ravel() for sides in np.meshgrid(_SIDES, _SIDES))
    tiles = np.ceil(rows[:, None] / high) * np.ceil(columns[:, None] / wide)
    ready = np.ceil(tiles / processors) * processors * high * wide
    return np.asarray(np.log(ready / (rows * columns)[:, None]) / math.sqrt(len(high)))


def _first_runs(shape: Dimensions) -> tuple[Dimensions, Dimensions]:
    return shape[1:], shape[:1]


def _running_first(fixed: Dimensions, running: Dimensions) -> Dimensions:
    return (*running, *fixed)


def _keys_run(shape: Dimensions) -> tuple[Dimensions, Dimensions]:
    return shape[3:], shape[:3]


def _prompt_runs(shape: Dimensions) -> tuple[Dimensions, Dimensions]:
    sequences, query_tokens, kv_tokens = shape[:3]
    return shape[3:], (sequences, query_tokens, kv_tokens / query_tokens)


def _prompt(fixed: Dimensions, running: Dimensions) -> Dimensions:
    sequences, query_tokens, ratio = running
    return (sequences, query_tokens, query_tokens * ratio, *fixed)


def _lengths(*lengths: float) -> Floats:
    return np.diag(1.0 / np.array(lengths))


def _features(axes: int, *sums: tuple[int, ...]) -> Floats:
    """[axes, features]: each feature is the sum of the coordinates listed."""
    matrix = np.zeros((axes, len(sums)))
    for feature, coordinates in enumerate(sums):
        matrix[list(coordinates), feature] = 1.0
    return matrix


def _first_then_fixed(fixed: Dimensions) -> Dimensions:
    return (1.0, *fixed)


# GEMM: m, n, k; or the size of the output, its aspect and k, where a library's times follow its number of tiles. Each
# with rows computed one by one, and in tiles of 64, the smallest that a tensor core's wide instructions take.
_BY_SIDE = _lengths(4, 2, 2)
_BY_OUTPUT = (_features(3, (0, 1), (0,), (2,)) - _features(3, (), (1,), ())) @ _lengths(1.5, 4, 4)
_GEMM = Axes(
    _first_runs,
    _running_first,
    _first_then_fixed,
    (0,),
    (_BY_SIDE, _BY_OUTPUT, _BY_SIDE, _BY_OUTPUT),
    tiles=(1.0, 1.0, 64.0, 64.0),
)
# Where the number of processors is known, shapes are also alike in how far each size of tile would fill them: two
# outputs just above and just below a full round are neighbours on the axes and a third apart in time.
_SIDES = np.arange(32.0, 257.0, 32.0)
_GEMM_FILLED = replace(
    _GEMM, metrics=(*_GEMM.metrics, _BY_SIDE, _BY_SIDE), tiles=(*_GEMM.tiles, 1.0, 64.0), fill=(0, 0, 0, 0, 6.0, 6.0)
)


def _layout(fixed: Dimensions) -> Dimensions:
    """Heads a KV head; KV heads (twice: as streams a sequence, and themselves); head size; two switches.

    The switches, e for on: several heads share a KV head, and there are several KV heads. Some libraries run another
    kernel there, whatever the sizes; the metrics without them leave the switches out.
    """
    num_heads, num_kv_heads, head_dim = fixed
    shared = np.where(np.asarray(num_heads) > num_kv_heads, math.e, 1.0)
    several = np.where(np.asarray(num_kv_heads) > 1, math.e, 1.0)
    return num_heads / num_kv_heads, num_kv_heads, num_kv_heads, head_dim, shared, several


# Attention over a cache: grouped queries ride along with their KV head as extra rows, and every KV head of every
# sequence is a stream of its own, so any head layout lands between measured ones. The third metric looks along the
# size of the whole cache, where times step as it outgrows the last-level cache, and across it.
_CACHED = Axes(
    _keys_run,
    _running_first,
    lambda fixed: (*_layout(fixed), 1.0),  # and keys
    (1, 0, 6),
    (
        _features(7, (0,), (1,), (2,), (3,), (6,)) @ _lengths(8, 2, 8, 1, 2),
        _features(7, (0,), (1,), (2,), (3,), (6,)) @ _lengths(2, 2, 8, 1, 2),
        (_features(7, (1, 3, 6), (1,), (0,), (2,), (3,)) - _features(7, (), (6,), (), (), ()))
        @ _lengths(1, 4, 8, 8, 2),
        _lengths(8, 2, 8, 1, 0.3, 0.5, 2),
    ),
)
# Prompts: queries and keys grow together, so their ratio is the axis. The first metric looks along the number of
# query rows of all heads, which fills the processors.
_PROMPT = Axes(
    _prompt_runs,
    _prompt,
    lambda fixed: (*_layout(fixed), 1.0, 1.0),  # and queries, and keys a query
    (1, 6, 7),
    (
        _features(8, (0, 1, 6), (6,), (0,), (2,), (3,), (7,)) @ _lengths(2, 2, 4, 8, 1, 2),
        _features(8, (0, 6), (1,), (2,), (3,), (6,), (7,)) @ _lengths(4, 2, 8, 1, 2, 2),
    ),
)
_MOE = Axes(_first_runs, _running_first, _first_then_fixed, (0,), (_lengths(3, 2, 2, 2, 2),))
_TWO = Axes(_first_runs, _running_first, _first_then_fixed, (0,), (_lengths(3, 3),))
