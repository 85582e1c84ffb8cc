"""A fitted number and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from specsim.arrays import Floats

DEFAULT_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """``low`` to ``high`` is the interval at the level that the fit was asked for."""

    value: float
    standard_error: float
    low: float
    high: float


def normal_quantile(level: float) -> float:
    """Two-sided: 1.96 at 0.95."""
    return float(ndtri(0.5 + level / 2))


def normal(value: float, standard_error: float, level: float) -> Estimate:
    """Symmetric interval of a normal estimate."""
    half = normal_quantile(level) * standard_error
    return Estimate(value, standard_error, value - half, value + half)


def proportion(share: float, standard_error: float, trials: float, level: float) -> Estimate:
    """Wilson's interval, with the trials that a binomial of this standard error would have had.

    Correlated trials count as fewer. Where the standard error is 0, as at shares 0 and 1, ``trials`` stand.
    """
    effective = share * (1 - share) / standard_error**2 if standard_error > 0 else trials
    z2 = normal_quantile(level) ** 2
    middle = (share + z2 / (2 * effective)) / (1 + z2 / effective)
    half = math.sqrt(z2 * (share * (1 - share) / effective + z2 / (4 * effective**2))) / (1 + z2 / effective)
    return Estimate(share, standard_error, max(0.0, middle - half), min(1.0, middle + half))


def transformed(value: float, standard_error: float, back: Callable[[float], float], level: float) -> Estimate:
    """The estimate of back(x) from x, whose error is normal; ``back`` rises and carries x's interval over."""
    half = normal_quantile(level) * standard_error
    step = max(1e-6, 1e-6 * abs(value))
    slope = float(back(value + step) - back(value - step)) / (2 * step)
    with np.errstate(over="ignore"):  # an upper end may be infinite
        ends = [float(back(x)) for x in (value, value - half, value + half)]
    return Estimate(ends[0], abs(slope) * standard_error, ends[1], ends[2])


def covariance(loss: Callable[[Floats], float], at: Floats) -> Floats:
    """Inverse of the observed information: the Hessian of a negative log-likelihood by central differences.

    NaN in all entries where the Hessian is not positive definite, as at a flat or bounded optimum.
    """
    count, step = len(at), 1e-3 * np.maximum(1.0, np.abs(at))
    hessian = np.zeros((count, count))
    for i in range(count):
        for j in range(i, count):
            corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            values = []
            for first, second in corners:
                moved = at.copy()
                moved[i] += first * step[i]
                moved[j] += second * step[j]
                values.append(first * second * loss(moved))
            hessian[i, j] = hessian[j, i] = sum(values) / (4 * step[i] * step[j])
    if not np.all(np.isfinite(hessian)) or np.linalg.eigvalsh(hessian).min() <= 0:
        return np.full((count, count), np.nan)
    return np.asarray(np.linalg.inv(hessian), dtype=np.float64)


def clustered_covariance(losses: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Covariance at an optimum of a sum of ``losses`` [requests], rounds of one being alike.

    H⁻¹·(Σ g·gᵀ)·H⁻¹, g the slopes of each request's loss and H the Hessian of their sum (White 1982).
    """
    step = 1e-4 * np.maximum(1.0, np.abs(at))
    moves = np.diag(step)
    slopes = np.stack(
        [(losses(at + move) - losses(at - move)) / (2 * size) for move, size in zip(moves, step, strict=True)], axis=1
    )
    inverse = covariance(lambda x: float(losses(x).sum()), at)
    count = len(slopes)
    return np.asarray(inverse @ (slopes.T @ slopes) @ inverse * count / max(count - 1, 1), dtype=np.float64)
