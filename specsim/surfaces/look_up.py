"""Tables that are linear between their nodes along every dimension, and keep their edge's value beyond it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from specsim.arrays import Floats, Integers

SAME = 1e-9  # places closer than this along a dimension are the same


def bracket(knots: Any, count: int, x: float) -> tuple[int, float]:
    """(i, share): x lies ``share`` of the way from knot i to the next, below 0 or above 1 beyond the ends.

    ``count`` knots, at least two, ascending: a list, or what compiled functions index.
    """
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= x:
            low = middle
        else:
            high = middle
    return low, (x - knots[low]) / (knots[low + 1] - knots[low])


class LookUp:
    """Tables over the same nodes.

    ``nodes``: along each dimension, ascending. ``tables``: [product of the nodes] each, the last dimension fastest.
    ``lengths``: one a dimension, in which distances beyond the nodes are told; 1 where not given.

    An answer holds each table's value, how far the place is beyond the nodes (over all dimensions; 0 inside), and the
    index of the node that the place is, -1 if it is none.
    """

    def __init__(
        self, nodes: Sequence[Floats], tables: Sequence[Floats], lengths: Sequence[float] | None = None
    ) -> None:
        self._nodes = list(nodes)
        self._tables = list(tables)
        self._strides = [math.prod(len(axis) for axis in nodes[i + 1 :]) for i in range(len(nodes))]
        self._lengths = [1.0] * len(nodes) if lengths is None else list(lengths)
        self._node_lists = [axis.tolist() for axis in nodes]
        self._table_lists = [table.tolist() for table in tables]

    def one(self, place: Sequence[float]) -> tuple[list[float], float, int]:
        """The answer at one place, in microseconds."""
        corners, beyond = [(0, 1.0)], 0.0
        for x, nodes, stride, length in zip(place, self._node_lists, self._strides, self._lengths, strict=True):
            last = len(nodes) - 1
            if x <= nodes[0] + SAME:
                beyond += max(0.0, nodes[0] - SAME - x) / length
                continue
            if x >= nodes[last] - SAME:
                beyond += max(0.0, x - nodes[last] - SAME) / length
                corners = [(corner + last * stride, weight) for corner, weight in corners]
                continue
            i, share = bracket(nodes, last + 1, x)
            if x - nodes[i] <= SAME:
                corners = [(corner + i * stride, weight) for corner, weight in corners]
            elif nodes[i + 1] - x <= SAME:
                corners = [(corner + (i + 1) * stride, weight) for corner, weight in corners]
            else:
                ends = ((i * stride, 1.0 - share), ((i + 1) * stride, share))
                corners = [(corner + end, weight * part) for corner, weight in corners for end, part in ends]
        values = []
        for table in self._table_lists:
            value = 0.0
            for corner, weight in corners:
                value += weight * table[corner]
            values.append(value)
        return values, beyond, corners[0][0] if len(corners) == 1 else -1

    def many(self, place: Sequence[Any]) -> tuple[list[Floats], Floats, Integers]:
        """The same at many places: arrays that broadcast."""
        corners: list[tuple[Any, Any]] = [(0, 1.0)]
        beyond: Any = 0.0
        node: Any = 0
        for x, nodes, stride, length in zip(place, self._nodes, self._strides, self._lengths, strict=True):
            beyond = beyond + np.maximum(0.0, np.maximum(nodes[0] - SAME - x, x - nodes[-1] - SAME)) / length
            if len(nodes) == 1:
                continue
            right = np.minimum(np.maximum(np.searchsorted(nodes, x - SAME), 1), len(nodes) - 1)
            low, high = nodes[right - 1], nodes[right]
            share = np.minimum(np.maximum((x - low) / (high - low), 0.0), 1.0)
            share = np.where(np.abs(x - low) <= SAME, 0.0, np.where(np.abs(high - x) <= SAME, 1.0, share))
            start, end = (right - 1) * stride, right * stride
            node = np.where((node < 0) | ((share > 0.0) & (share < 1.0)), -1, node + np.where(share > 0.0, end, start))
            parts = ((start, 1.0 - share), (end, share))
            corners = [(corner + end, weight * part) for corner, weight in corners for end, part in parts]
        values = [np.asarray(sum(weight * table[corner] for corner, weight in corners)) for table in self._tables]
        return values, np.asarray(beyond), np.asarray(node)


def grid(nodes: Sequence[Floats]) -> Floats:
    """Every node of a table [product of the nodes, dimensions], in the order of its values."""
    return np.array(list(itertools.product(*nodes)))
