"""Kriging: values between measured points, and how far from a measurement an answer is.

An answer is a weighted mean of the points around it, with the weights of least variance where values are alike as
their distance says (Cressie, Statistics for Spatial Data, 1993, section 3.2; a Gaussian process by another name).
Points need not fill a grid and those without noise answer exactly; of noisy ones the value without its noise is
predicted, their noise standing on the diagonal of the covariance alone (section 3.2.1: a nugget that is measurement
error). The kriging variance is 0 on a point without noise, about 1 or more where no neighbour tells anything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from specsim.arrays import Floats, Indices

NEIGHBOURS = 24
_JITTER = 1e-9  # keeps nearly coincident points solvable
# Precision of a local slope known beforehand: it is 0, give or take 3 deviations a correlation length. Without it the
# variance explodes where all neighbours share a coordinate, as on a grid that is much finer along one axis.
_SLOPE_PRECISION = 0.1
_BATCH = 200  # queries solved at a time: 24 x 24 systems of 200 queries, 1 MB, stay in a core's cache


def exponential(distances: Floats) -> Floats:
    """Correlation of values that are rough at any scale: e^-d."""
    return np.exp(-distances)


def matern(distances: Floats) -> Floats:
    """Correlation of smooth values, Matérn 3/2: (1 + √3·d) e^-√3·d (Rasmussen and Williams, 2006, 4.2.1)."""
    scaled = np.sqrt(3.0) * distances
    return np.asarray((1.0 + scaled) * np.exp(-scaled))


class Kriging:
    """``values`` [n] at ``points`` [n, axes] in units of their correlation length.

    ``noise`` [n]: variance of each value's own error, as a share of the values' own variance. ``neighbours``: of the
    points, how many nearest inform an answer. ``drift``: how many coordinates, from the first on, values may drift
    along beside a constant, as their neighbours show (universal kriging, section 3.4); None: they vary about 0.
    """

    def __init__(
        self,
        points: Floats,
        values: Floats,
        noise: Floats,
        *,
        correlation: Callable[[Floats], Floats],
        neighbours: int,
        drift: int | None = None,
    ) -> None:
        self._points, self._values, self._noise = points, values, noise
        self._correlation = correlation
        self._neighbours = neighbours
        self._drift = drift

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree  # a slow import that answers from kept tables do without

        return cKDTree(self._points)

    def at(self, points: Floats, leave_out: bool = False) -> tuple[Floats, Floats]:
        """Means and variances [m] at ``points`` [m, axes].

        ``leave_out``: the nearest point, the query itself when it was measured, takes no part.
        """
        skip = int(leave_out)
        count = min(self._neighbours, len(self._points) - skip)
        if count == 0 or len(points) == 0:
            return np.zeros(len(points)), np.ones(len(points))
        if count == len(self._points):  # all queries have the same neighbours
            from scipy.spatial.distance import cdist

            distances = cdist(self._points, points)
            means, variances = self._solve(np.arange(count)[None], points[None], distances[None])
            return means[0], variances[0]
        found = []
        for start in range(0, len(points), _BATCH):
            queries = points[start : start + _BATCH]
            distances, nearest = self._tree.query(queries, k=list(range(1 + skip, 1 + skip + count)))
            found.append(self._solve(nearest, queries[:, None], distances[:, :, None]))
        return np.concatenate([mean[:, 0] for mean, _ in found]), np.concatenate([spread[:, 0] for _, spread in found])

    def _solve(self, neighbours: Indices, queries: Floats, distances: Floats) -> tuple[Floats, Floats]:
        """Means and variances [h, m] of ``queries`` [h, m, axes], each m of which share ``neighbours`` [h, n].

        ``distances`` [h, n, m]: between them.
        """
        origin = queries[:, :1]
        gaps, away = self._points[neighbours] - origin, queries - origin
        covariance = self._correlation(_distances(gaps))
        diagonal = np.arange(neighbours.shape[1])
        covariance[:, diagonal, diagonal] += self._noise[neighbours]
        to_query = self._correlation(distances)
        drift, wanted = self._drifts(gaps), self._drifts(away)
        solved = np.linalg.solve(covariance, np.concatenate([to_query, drift], axis=2))
        by_query, by_drift = np.split(solved, [queries.shape[1]], axis=2)
        known = drift.transpose(0, 2, 1) @ by_drift
        slopes = np.arange(1, known.shape[1])
        known[:, slopes, slopes] += _SLOPE_PRECISION
        # What the plain weights lack to reproduce a constant, and a local slope as far as the neighbours show one.
        missing = wanted.transpose(0, 2, 1) - drift.transpose(0, 2, 1) @ by_query
        shares = np.linalg.solve(known, missing)
        weights = by_query + by_drift @ shares
        variance = 1.0 - (to_query * by_query).sum(axis=1) + (missing * shares).sum(axis=1)
        means = (weights * self._values[neighbours][:, :, None]).sum(axis=1)
        return means, np.maximum(variance, 0.0)

    def _drifts(self, gaps: Floats) -> Floats:
        """What values drift with [h, n, none, or 1 + drift]: a constant, and coordinates."""
        if self._drift is None:
            return gaps[:, :, :0]
        return np.concatenate([np.ones((*gaps.shape[:2], 1)), gaps[:, :, : self._drift]], axis=2)


class RegressionKriging:
    """A linear trend over all values, and kriging of what it leaves over: a linear law is reproduced exactly.

    ``points`` [n, axes] in units of their correlation length, ``values`` [n]. ``noise`` [n]: variance of each value's
    own error, in squares of the values' unit; None: there is none. It is weighed against the variance of what the
    trend leaves over. Points that coincide are averaged, so that two of noise 0.2 are one of 0.1. ``trend``: how many
    of the coordinates, from the first on, the trend is linear in; None: all. The others say how alike two points are.
    """

    def __init__(self, points: Floats, values: Floats, noise: Floats | None = None, trend: int | None = None) -> None:
        if len(points) == 0:
            raise ValueError("a surface needs at least one point")
        unique, index = np.unique(np.round(points, 12), axis=0, return_inverse=True)
        index = index.ravel()
        counts = np.bincount(index)
        mean = np.bincount(index, weights=values) / counts
        axes = unique.shape[1] if trend is None else trend
        self._centre = unique[:, :axes].mean(axis=0)
        design = np.column_stack([np.ones(len(unique)), unique[:, :axes] - self._centre])
        own = np.zeros(len(unique)) if noise is None else np.bincount(index, weights=noise) / counts**2
        self._trend, relative = _fitted(design, mean, own)
        self._rest = Kriging(
            unique,
            mean - design @ self._trend,
            relative + _JITTER,
            correlation=exponential,
            neighbours=NEIGHBOURS,
            drift=axes,
        )

    def at(self, points: Floats, leave_out: bool = False) -> tuple[Floats, Floats]:
        """Means and variances [m] at ``points`` [m, axes]; ``leave_out`` as ``Kriging.at`` has it."""
        trend = self._trend[0] + (points[:, : len(self._centre)] - self._centre) @ self._trend[1:]
        rest, variances = self._rest.at(points, leave_out)
        return trend + rest, variances


def _distances(gaps: Floats) -> Floats:
    """Distances [h, n, n] of n neighbours from each other, from their gaps to a query [h, n, axes]."""
    products = gaps @ gaps.transpose(0, 2, 1)
    squares = np.einsum("hii->hi", products)
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
