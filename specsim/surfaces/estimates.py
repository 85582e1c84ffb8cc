"""What a surface answers, and the words in which it says how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Reals

MEASURED, INTERPOLATED, EXTRAPOLATED = 0, 1, 2  # ranks of an answer's source, the best first
Z90 = 1.645  # half-width of a 90 % normal interval in standard deviations


@dataclass(frozen=True, slots=True)
class Estimates:
    """Times, floats or arrays of one shape.

    ``seconds``; ``rank``: MEASURED, INTERPOLATED or EXTRAPOLATED; ``error``: one standard deviation as a share of the
    seconds, such that 1.645 times it is the half-width of a 90 % interval.
    """

    seconds: Reals
    rank: int | NDArray[np.int64]
    error: Reals
