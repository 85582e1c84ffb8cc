"""Uniform numbers that are a pure function of what they are for, never of the order in which they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def uniform(
    seed: int, request_ids: NDArray[np.int64], positions: NDArray[np.int64], *, stream: int = 0
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of the arguments (arrays broadcast against each other).

    Numbers of different streams are independent. Two rounds of the SplitMix64 finaliser (Steele, Lea, Flood,
    OOPSLA 2014) over the keyed counter.
    """
    with np.errstate(over="ignore"):
        key = mix(np.uint64(stream_seed(seed, stream) % 2**64) + mix(request_ids.astype(np.uint64)))
        bits = mix(key + GOLDEN * (positions.astype(np.uint64) + np.uint64(1)))
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def stream_seed(seed: int, stream: int) -> int:
    """What keys the numbers of a stream, in 64 bits, as a number from -2^63 on."""
    return (seed + stream * 0xD1342543DE82EF95 + 2**63) % 2**64 - 2**63


def mix(bits: Any) -> Any:
    """The finaliser; 64-bit whole numbers without a sign, which wrap round."""
    mixed = bits + GOLDEN
    mixed ^= mixed >> _30
    mixed *= _FIRST
    mixed ^= mixed >> _27
    mixed *= _SECOND
    mixed ^= mixed >> _31
    return mixed
