"""How sure an error figure is: bootstrap intervals over rows and over the repeats they were measured in.

Rows (cells of a map, loads of a served case) are drawn with replacement, which asks what another choice of cells would
have given. Repeats are drawn with replacement too, one draw for all rows: a repeat visits every row within minutes, so
that what the machine did in it is common to them (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8, hierarchical data).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from specsim.arrays import Floats

Statistic = Callable[[Floats], Floats]  # [..., rows] signed errors -> [...]

DRAWS, SEED = 2000, 20260101
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Range:
    """A 90 % interval."""

    low: float
    high: float


def mean_absolute(errors: Floats) -> Floats:
    """Mean |error| over the last axis."""
    return np.asarray(np.abs(errors).mean(axis=-1))


def percentile_absolute(percent: float) -> Statistic:
    """The percentile of |error| over the last axis."""
    return lambda errors: np.asarray(np.percentile(np.abs(errors), percent, axis=-1))


def error_range(predicted: Floats, measured: Floats, statistic: Statistic = mean_absolute) -> Range:
    """The 90 % percentile interval of a statistic of errors, predicted / median of repeats - 1.

    ``predicted`` is [rows], ``measured`` [rows, repeats] with NaN where a repeat is missing; every row holds at least
    one. A row that a draw of repeats leaves without any keeps all of its own.
    """
    generator = np.random.default_rng(SEED)
    rows, repeats = measured.shape
    taken = np.sort(generator.integers(0, repeats, (DRAWS, repeats)), axis=1)
    kinds, kind = np.unique(taken, axis=0, return_inverse=True)  # few repeats can be drawn in few ways
    chosen = measured[:, kinds].transpose(1, 0, 2)  # [kinds, rows, repeats]
    empty = np.asarray(np.isnan(chosen).all(axis=-1))
    chosen = np.where(empty[..., None], measured[None], chosen)
    errors = (predicted / np.nanmedian(chosen, axis=-1) - 1.0)[kind.reshape(-1)]
    picked = generator.integers(0, rows, (DRAWS, rows))
    return _percentiles(statistic(np.take_along_axis(errors, picked, axis=-1)))


def difference_range(one: Floats, other: Floats) -> Range:
    """The 90 % interval of mean |one| - mean |other| [rows]: both errors of one row are drawn together."""
    differences = np.abs(one) - np.abs(other)
    picked = np.random.default_rng(SEED).integers(0, differences.size, (DRAWS, differences.size))
    return _percentiles(differences[picked].mean(axis=-1))


def _percentiles(values: Floats) -> Range:
    low, high = np.percentile(values, [50 - 50 * LEVEL, 50 + 50 * LEVEL]).tolist()
    return Range(low, high)


def spread(repeats: Floats) -> float | None:
    """(Largest - smallest) / median of a row's repeats; None of a single one."""
    return float(np.ptp(repeats) / np.median(repeats)) if repeats.size > 1 else None


def noise(repeats: Floats) -> float | None:
    """How far the mean of the repeats may be from the truth, as a share of it: half of its 90 % interval (Student).

    Unlike the spread it falls with more repeats. None of a single one. For 0.9, 1.0, 1.1: t_2 = 2.920, s = 0.1, so
    2.920 * 0.1 / sqrt(3) = 16.9 %.
    """
    if repeats.size < 2:
        return None

    quantile = float(stdtrit(repeats.size - 1, 0.5 + LEVEL / 2))
    return quantile * float(repeats.std(ddof=1)) / float(np.sqrt(repeats.size) * repeats.mean())
