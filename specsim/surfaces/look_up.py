"""A small table that answers like the surface it was filled from, in microseconds."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats
from specsim.surfaces.estimates import EXTRAPOLATED, INTERPOLATED, MEASURED

SAME = 1e-9  # log values closer than this are the same


class LookUp:
    """Values and errors over the running dimensions of one matrix or head layout, linear between their nodes.

    ``nodes``: logs along each dimension, ascending; ``values``, ``errors``, ``exact`` (measured there) [product of the
    nodes], the last dimension fastest. Beyond the nodes the nearest value is kept and the error grows, by once itself
    a correlation length (``lengths``, one a dimension). ``outside``: the fixed ones are beyond those measured.
    """

    def __init__(
        self, nodes: list[Floats], values: Floats, errors: Floats, exact: NDArray[np.bool_], *, outside: bool,
        lengths: list[float],
    ) -> None:  # fmt: skip
        self._nodes = nodes
        self._node_lists = [axis.tolist() for axis in nodes]
        self._arrays = (values, errors, exact)
        self._lists = (values.tolist(), errors.tolist(), exact.tolist())
        self._strides = [math.prod(len(axis) for axis in nodes[i + 1 :]) for i in range(len(nodes))]
        self._outside = outside
        self._lengths = lengths

    def one(self, logs: list[float]) -> tuple[float, float, int]:
        """Value, error and rank at one place, given by its logs."""
        corners = [(0, 1.0)]
        beyond = 0.0
        for x, nodes, stride, length in zip(logs, self._node_lists, self._strides, self._lengths, strict=True):
            last = len(nodes) - 1
            if x <= nodes[0] + SAME:
                beyond += max(0.0, nodes[0] - SAME - x) / length
            elif x >= nodes[last] - SAME:
                beyond += max(0.0, x - nodes[last] - SAME) / length
                corners = [(i + last * stride, w) for i, w in corners]
            else:
                right = bisect_left(nodes, x - SAME)
                if abs(nodes[right] - x) <= SAME:
                    corners = [(i + right * stride, w) for i, w in corners]
                else:
                    low = nodes[right - 1]
                    share = (x - low) / (nodes[right] - low)
                    ends = (((right - 1) * stride, 1 - share), (right * stride, share))
                    corners = [(i + end, w * part) for i, w in corners for end, part in ends]
        values, errors, exact = self._lists
        value = error = 0.0
        for i, weight in corners:
            value += weight * values[i]
            error += weight * errors[i]
        if beyond or self._outside:
            return value, error * (1.0 + beyond), EXTRAPOLATED
        return value, error, MEASURED if len(corners) == 1 and exact[corners[0][0]] else INTERPOLATED

    def many(self, logs: list[Floats]) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """The same at many: arrays of logs that broadcast."""
        corners: list[tuple[Any, Any]] = [(0, 1.0)]
        beyond: Any = 0.0
        on_node: Any = True
        for x, nodes, stride, length in zip(logs, self._nodes, self._strides, self._lengths, strict=True):
            beyond = beyond + np.maximum(0.0, np.maximum(nodes[0] - SAME - x, x - nodes[-1] - SAME)) / length
            if len(nodes) == 1:
                continue
            right = np.clip(np.searchsorted(nodes, x - SAME), 1, len(nodes) - 1)
            low, high = nodes[right - 1], nodes[right]
            share = np.clip((x - low) / (high - low), 0.0, 1.0)
            share = np.where(np.abs(x - low) <= SAME, 0.0, np.where(np.abs(high - x) <= SAME, 1.0, share))
            on_node = on_node & ((share == 0.0) | (share == 1.0))
            start = (right - 1) * stride
            corners = [
                pair for i, w in corners for pair in ((i + start, w * (1.0 - share)), (i + start + stride, w * share))
            ]
        values, errors, exact = self._arrays
        value, error, measured = 0.0, 0.0, 0.0
        for i, weight in corners:
            value = value + weight * values[i]
            error = error + weight * errors[i]
            measured = measured + weight * exact[i]
        rank = np.where(on_node & (np.asarray(measured) > 0.5), MEASURED, INTERPOLATED)
        rank = np.where((np.asarray(beyond) > 0) | self._outside, EXTRAPOLATED, rank)
        return np.asarray(value), np.asarray(error * (1.0 + beyond)), rank
