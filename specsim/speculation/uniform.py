"""Uniform numbers that are a pure function of what they are for, never of the order in which they are asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(
    seed: int, request_ids: NDArray[np.int64], positions: NDArray[np.int64], *, stream: int = 0
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of the arguments (arrays broadcast against each other).

    Numbers of different streams are independent. Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood,
    OOPSLA 2014) over the keyed counter.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(stream_seed(seed, stream) % 2**64) + _mix(request_ids.astype(np.uint64)))
        bits = _mix(key + _GOLDEN * (positions.astype(np.uint64) + np.uint64(1)))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def stream_seed(seed: int, stream: int) -> int:
    """What keys the numbers of a stream, in 64 bits, as a number from -2^63 on."""
    return (seed + stream * 0xD1342543DE82EF95 + 2**63) % 2**64 - 2**63


def _mix(bits: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    mixed = np.atleast_1d(np.asarray(bits, dtype=np.uint64)) + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
