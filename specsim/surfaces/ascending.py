"""Tables whose values never fall along any dimension: more work never takes less time.

Measured times do fall here and there: a library picks a worse kernel for 256 rows than for 512, and rows carry noise,
as does what is told between and beyond them. Where they do, all that contradict one another become their weighted mean
(isotonic regression: Barlow, Bartholomew, Bremner and Brunk, 1972), along each dimension in turn; what is left after a
few turns is lifted to the largest value below it.
"""

from __future__ import annotations

import numpy as np

from specsim.arrays import Floats

_TURNS = 4


def ascending(values: Floats, weights: Floats) -> Floats:
    """``values`` [any dimensions] moved as little as their ``weights`` say, so that none is below one before it.

    Worked: 1, 3, 2 with equal weights are 1, 2.5, 2.5.
    """
    from scipy.optimize import isotonic_regression  # a slow import that answers from kept tables do without

    result = np.array(values, dtype=np.float64)
    for _ in range(_TURNS if result.ndim > 1 else 1):
        for axis in range(result.ndim):
            lines, shares = (np.moveaxis(array, axis, -1) for array in (result, weights))
            for index in map(tuple, np.argwhere((np.diff(lines) < 0.0).any(axis=-1))):
                lines[index] = isotonic_regression(lines[index], weights=shares[index]).x
    for axis in range(result.ndim):
        result = np.maximum.accumulate(result, axis=axis)
    return result
