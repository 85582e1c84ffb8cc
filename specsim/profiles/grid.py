"""Interpolation between measured shapes: log-linear, axis by axis, clamped at the edge and saying so.

Measured shapes need not fill a regular grid. They are kept as a tree, one axis a level: at each level the two
nearest values that were measured bracket the query, each of them answers with its own branch, and the two answers are
mixed by the distance in log coordinates. On a full grid this is multilinear interpolation in log space.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """``exact``: a measured shape. ``inside``: every axis was bracketed; else the nearest edge answers."""

    value: float
    exact: bool
    inside: bool


class Surface:
    """Values at points of positive coordinates, [points, axes] and [points]; the last axis is the densest."""

    def __init__(self, coordinates: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        if len(coordinates) == 0:
            raise ValueError("a surface needs at least one point")
        self._tree = _branch(np.log(np.asarray(coordinates, dtype=np.float64)), np.asarray(values, dtype=np.float64))

    def at(self, coordinates: tuple[float, ...]) -> Estimate:
        """The value at a point (linear in the logarithm of every coordinate)."""
        return _descend(self._tree, [math.log(value) for value in coordinates], 0)


class _Node:
    """Sorted values of one axis and what lies under each."""

    __slots__ = ("children", "values")

    def __init__(self, values: list[float], children: list[_Node | float]) -> None:
        self.values = values
        self.children = children


_TOLERANCE = 1e-9  # log coordinates closer than this are the same shape


def _branch(coordinates: NDArray[np.float64], values: NDArray[np.float64]) -> _Node | float:
    if coordinates.shape[1] == 0:
        return float(values.mean())
    levels = np.unique(coordinates[:, 0])
    masks = (coordinates[:, 0] == level for level in levels)
    return _Node(levels.tolist(), [_branch(coordinates[mask, 1:], values[mask]) for mask in masks])


def _descend(node: _Node | float, point: list[float], axis: int) -> Estimate:
    if isinstance(node, float):
        return Estimate(node, exact=True, inside=True)
    where = point[axis]
    right = bisect_left(node.values, where - _TOLERANCE)
    if right < len(node.values) and abs(node.values[right] - where) <= _TOLERANCE:
        return _descend(node.children[right], point, axis + 1)
    if right in (0, len(node.values)):
        edge = _descend(node.children[min(right, len(node.values) - 1)], point, axis + 1)
        return Estimate(edge.value, exact=False, inside=False)
    low, high = (_descend(node.children[i], point, axis + 1) for i in (right - 1, right))
    share = (where - node.values[right - 1]) / (node.values[right] - node.values[right - 1])
    return Estimate(low.value + share * (high.value - low.value), exact=False, inside=low.inside and high.inside)
