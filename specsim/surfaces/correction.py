"""A smooth function of a few coordinates through noisy values: a Gaussian process.

Matérn 3/2 covariance (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, 4.2.1). Its lengths, size
and noise are those under which each value is best foretold by all the others (5.4.2), held near what is expected of
them, so that few values do not pass their noise for shape.
"""

from __future__ import annotations

import math

import numpy as np

from specsim.arrays import Floats

LEARNING_ROWS = 150  # as many choose the scales; all rows then inform the values
# Of the lengths by axis (in e-folds), the size and the noise, as logarithms. A length is expected near a factor of 3
# in sequences and width, 7 in KV length; each within a factor of 2 (one standard deviation).
SCALE_BOUNDS = np.log([[0.2, 10.0]] * 3 + [[0.003, 1.0], [0.002, 0.5]])
EXPECTED_LENGTHS, EXPECTED_WITHIN = np.log([1.0, 1.0, 2.0]), np.log(2.0)


class Correction:
    """A Gaussian process of mean 0 over log coordinates."""

    def __init__(self, points: Floats, values: Floats, noise: float) -> None:
        few = np.random.default_rng(0).permutation(len(values))[:LEARNING_ROWS]
        self._scales = _learn_scales(points[few], values[few], noise)
        self._points = points
        self._factor = np.linalg.cholesky(_covariance(_squares(points, points), self._scales))
        self._weights = self._solve(self._solve(values[:, None]), transposed=True)[:, 0]

    def at(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (of a new measurement, its noise included) at [points, 3]."""
        size, noise = np.exp(self._scales[3:])
        across = _kernel(_squares(points, self._points), self._scales)
        explained = (self._solve(across.T) ** 2).sum(axis=0)
        return across @ self._weights, np.sqrt(np.maximum(size**2 - explained, 0.0) + noise**2)

    def _solve(self, right: Floats, *, transposed: bool = False) -> Floats:
        solution: Floats = np.linalg.solve(self._factor.T if transposed else self._factor, right)
        return solution


def _squares(left: Floats, right: Floats) -> Floats:
    """Squared distances along each axis: [axes, left, right]."""
    squares: Floats = (left.T[:, :, None] - right.T[:, None, :]) ** 2
    return squares


def _kernel(squares: Floats, scales: Floats) -> Floats:
    """Matérn 3/2: size² (1 + d) e^-d, d = √3 × distance in units of each axis's length."""
    distance = np.sqrt(np.tensordot(3.0 * np.exp(-2.0 * scales[:3]), squares, axes=1))
    covariance: Floats = np.exp(2.0 * scales[3]) * (1.0 + distance) * np.exp(-distance)
    return covariance


def _covariance(squares: Floats, scales: Floats) -> Floats:
    covariance = _kernel(squares, scales)
    covariance[np.diag_indices_from(covariance)] += math.exp(2.0 * scales[4])
    return covariance


def _left_out_loss(squares: Floats, values: Floats, scales: Floats) -> float:
    """Mean negative log density of each value given all others (a normal law's; closed form)."""
    inverse = np.linalg.inv(_covariance(squares, scales))
    variance = 1.0 / np.diag(inverse)
    error = (inverse @ values) * variance
    return float(np.mean(np.log(variance) + error**2 / variance)) / 2.0


def _learn_scales(points: Floats, values: Floats, noise: float) -> Floats:
    """Logarithms of the three lengths, the size and the noise: coordinate descent, steps halved from a factor e."""
    spread = max(float(values.std()), 0.01)
    expected: Floats = np.clip([*EXPECTED_LENGTHS, math.log(spread), math.log(noise)], *SCALE_BOUNDS.T)
    if len(values) < 2 * len(expected):
        return expected  # too few rows to learn from
    squares = _squares(points, points)

    def loss(scales: Floats) -> float:
        unexpected = float((((scales - expected) / EXPECTED_WITHIN) ** 2).sum()) / 2.0
        return _left_out_loss(squares, values, scales) + unexpected / len(values)

    bounds = SCALE_BOUNDS.copy()
    bounds[-1, 0] = expected[-1]
    scales: Floats = expected
    best, steps = loss(expected), np.ones(len(expected))
    while steps.max() > 0.2:
        for axis in range(len(scales)):
            for step in (steps[axis], -steps[axis]):
                trial = scales.copy()
                trial[axis] = np.clip(trial[axis] + step, *bounds[axis])
                found = loss(trial)
                if found < best - 1e-6:
                    best, scales = found, trial
                    break
            else:
                steps[axis] /= 2
    return scales
