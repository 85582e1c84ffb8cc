"""A smooth function of a few coordinates through noisy values: kriging whose scales are learned from the values.

The lengths, size and noise are those under which each value is best foretold by all the others (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, 5.4.2), held near what is expected of them, so that few values
do not pass their noise for shape.
"""

from __future__ import annotations

import math

import numpy as np

from specsim.arrays import Floats
from specsim.surfaces.kriging import Kriging, matern

LEARNING_ROWS = 150  # as many choose the scales; all rows then inform the values
# Of the lengths by axis (in e-folds), the size and the noise, as logarithms. A length is expected near a factor of 3
# in sequences and width, 7 in KV length; each within a factor of 2 (one standard deviation).
SCALE_BOUNDS = np.log([[0.2, 10.0]] * 3 + [[0.003, 1.0], [0.002, 0.5]])
EXPECTED_LENGTHS, EXPECTED_WITHIN = np.log([1.0, 1.0, 2.0]), np.log(2.0)


class Correction:
    """Smooth values about 0 over log coordinates."""

    def __init__(self, points: Floats, values: Floats, noise: float) -> None:
        """``points`` [n, 3], ``values`` [n]; ``noise``: one standard deviation of a value's own error, at least."""
        few = np.random.default_rng(0).permutation(len(values))[:LEARNING_ROWS]
        scales = np.exp(_learn_scales(points[few], values[few], noise))
        self._lengths, self._size, self._noise = scales[:3], float(scales[3]), float(scales[4])
        own = np.full(len(values), (self._noise / self._size) ** 2)
        self._kriging = Kriging(points / self._lengths, values, own, correlation=matern, neighbours=len(values))

    def at(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation (of a new measurement, its noise included) at [points, 3]."""
        mean, variance = self._kriging.at(points / self._lengths)
        return mean, np.sqrt(self._size**2 * variance + self._noise**2)


def _left_out_loss(squares: Floats, values: Floats, scales: Floats) -> float:
    """Mean negative log density of each value given all others (a normal law's; closed form).

    ``squares`` [axes, n, n]: squared distances along each axis; ``scales``: logarithms, as ``_learn_scales`` has them.
    """
    distances = np.sqrt(np.tensordot(np.exp(-2.0 * scales[:3]), squares, axes=1))
    covariance = np.exp(2.0 * scales[3]) * matern(distances)
    covariance[np.diag_indices_from(covariance)] += math.exp(2.0 * scales[4])
    inverse = np.linalg.inv(covariance)
    variance = 1.0 / np.diag(inverse)
    error = (inverse @ values) * variance
    return float(np.mean(np.log(variance) + error**2 / variance)) / 2.0


def _learn_scales(points: Floats, values: Floats, noise: float) -> Floats:
    """Logarithms of the three lengths, the size and the noise: coordinate descent, steps halved from a factor e."""
    spread = max(float(values.std()), 0.01)
    expected: Floats = np.clip([*EXPECTED_LENGTHS, math.log(spread), math.log(noise)], *SCALE_BOUNDS.T)
    if len(values) < 2 * len(expected):
        return expected  # too few rows to learn from
    squares: Floats = (points.T[:, :, None] - points.T[:, None, :]) ** 2

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
