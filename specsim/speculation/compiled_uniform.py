"""The numbers of ``uniform`` for compiled functions, one at a time."""

from __future__ import annotations

import numpy as np

from specsim.jit import jit
from specsim.speculation import uniform

_GOLDEN, _11 = uniform.GOLDEN, np.uint64(11)
_mix = jit(uniform.mix)


@jit
def key_of(seed: int, number: int) -> int:
    """Of a request's uniform numbers under the seed of a stream, 64 bits of any sign."""
    return int(np.int64(_mix(np.uint64(np.int64(seed)) + _mix(np.uint64(np.int64(number))))))


@jit
def uniform_of(key: int, position: int) -> float:
    """The uniform number at a position."""
    bits = _mix(np.uint64(np.int64(key)) + _GOLDEN * np.uint64(position + 1))
    return float(bits >> _11) * 2.0**-53
