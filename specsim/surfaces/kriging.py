"""Interpolation between measured shapes: a trend over all of them, and kriging of what it leaves over.

Measured shapes need not fill a grid. A linear trend in the given coordinates is fitted to all values; the rest is
interpolated from the nearest measured points with weights that follow from an exponential correlation (universal
kriging: Cressie, Statistics for Spatial Data, 1993, section 3.4). Coordinates may be left out of the trend: they say
how alike two points are, and no more. Points without noise answer exactly; of noisy ones
the value without its noise is predicted, their noise standing on the diagonal of the covariance alone (section 3.2.1:
a nugget that is measurement error). A linear law is reproduced exactly either way, and the kriging variance says how
far from a measurement an answer is: 0 on one without noise, about 1 or more where no neighbour tells anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from specsim.arrays import Floats

NEIGHBOURS = 24
_JITTER = 1e-9  # keeps nearly coincident points solvable
# Precision of a local slope known beforehand: it is 0, give or take 3 deviations a correlation length. Without it the
# variance explodes where all neighbours share a coordinate, as on a grid that is much finer along one axis.
_SLOPE_PRECISION = 0.1
_BATCH = 2000  # queries solved at a time: 24 x 24 systems of 2,000 queries are 9 MB


class Kriging:
    """Values at points: ``points`` [n, axes] in units of their correlation length, ``values`` [n].

    ``noise`` [n]: variance of each value's own error, in squares of the values' unit; None: there is none. It is
    weighed against the variance of what the trend leaves over. Points that coincide are averaged, so that two of noise
    0.2 are one of 0.1. ``trend``: how many of the coordinates, from the first on, the trend is linear in; None: all.
    """

    def __init__(self, points: Floats, values: Floats, noise: Floats | None = None, trend: int | None = None) -> None:
        if len(points) == 0:
            raise ValueError("a surface needs at least one point")
        unique, index = np.unique(np.round(points, 12), axis=0, return_inverse=True)
        index = index.ravel()
        counts = np.bincount(index)
        mean = np.bincount(index, weights=values) / counts
        self._axes = unique.shape[1] if trend is None else trend
        self._centre = unique[:, : self._axes].mean(axis=0)
        design = np.column_stack([np.ones(len(unique)), unique[:, : self._axes] - self._centre])
        own = np.zeros(len(unique)) if noise is None else np.bincount(index, weights=noise) / counts**2
        self._trend, self._noise = _fitted(design, mean, own)
        self._points = unique
        self._residual = mean - design @ self._trend
        self._tree: Any = cKDTree(unique)

    def at(self, points: Floats, leave_out: bool = False) -> tuple[Floats, Floats]:
        """Means and variances [m] at ``points`` [m, axes].

        ``leave_out``: the nearest point, the query itself when it was measured, takes no part.
        """
        batches = [self._solve(points[i : i + _BATCH], leave_out) for i in range(0, len(points), _BATCH)]
        if not batches:
            return np.empty(0), np.empty(0)
        return np.concatenate([mean for mean, _ in batches]), np.concatenate([spread for _, spread in batches])

    def _solve(self, points: Floats, leave_out: bool) -> tuple[Floats, Floats]:
        trend = self._trend[0] + (points[:, : self._axes] - self._centre) @ self._trend[1:]
        skip = int(leave_out)
        count = min(NEIGHBOURS, len(self._points) - skip)
        if count == 0:
            return trend, np.ones(len(points))
        distance, index = self._tree.query(points, k=list(range(1 + skip, 1 + skip + count)))
        gaps = self._points[index] - points[:, None, :]
        covariance = np.exp(-_distances(gaps))
        covariance[:, np.arange(count), np.arange(count)] = 1.0 + _JITTER + self._noise[index]
        to_query = np.exp(-distance)
        # The weights also reproduce a constant, and a local slope as far as the neighbours show one.
        drift = np.concatenate([np.ones((len(points), count, 1)), gaps[:, :, : self._axes]], axis=2)
        solved = np.linalg.solve(covariance, np.concatenate([to_query[:, :, None], drift], axis=2))
        by_query, by_drift = solved[:, :, 0], solved[:, :, 1:]
        known = np.einsum("qip,qir->qpr", drift, by_drift)
        slopes = np.arange(1, known.shape[1])
        known[:, slopes, slopes] += _SLOPE_PRECISION
        missing = -np.einsum("qip,qi->qp", drift, by_query)  # what the plain weights lack to reproduce the drift
        missing[:, 0] += 1.0
        shares = np.linalg.solve(known, missing[:, :, None])[:, :, 0]
        weights = by_query + np.einsum("qip,qp->qi", by_drift, shares)
        variance = 1.0 - np.einsum("qi,qi->q", to_query, by_query) + np.einsum("qp,qp->q", missing, shares)
        return trend + np.einsum("qi,qi->q", weights, self._residual[index]), np.maximum(variance, 0.0)


def _distances(gaps: Floats) -> Floats:
    """Distances [queries, n, n] of n neighbours from each other, from their gaps to the query [queries, n, axes]."""
    products = gaps @ gaps.transpose(0, 2, 1)
    squares = np.einsum("qii->qi", products)
    return np.asarray(np.sqrt(np.maximum(squares[:, :, None] + squares[:, None, :] - 2.0 * products, 0.0)))


def _fitted(design: Floats, values: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """The linear trend, and ``noise`` in units of the variance that it leaves over; noisy values weigh less."""
    trend: Floats = np.asarray(np.linalg.lstsq(design, values, rcond=1e-9)[0], dtype=np.float64)
    if not noise.any():
        return trend, noise
    relative = noise / (float(np.var(values - design @ trend)) or 1.0)
    root = 1.0 / np.sqrt(1.0 + relative)
    weighted = np.linalg.lstsq(design * root[:, None], values * root, rcond=1e-9)[0]
    return np.asarray(weighted, dtype=np.float64), relative
