"""Which replica a request goes to.

Round robin takes turns. Least outstanding asks every replica how many of its requests are unfinished and takes the
fewest; power of two choices asks two at random (Mitzenmacher, IEEE TPDS 2001). Ties go to the replica asked first. The
random choices are a function of the seed and the request's number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from specsim.speculation.uniform import uniform

RouterName = Literal["round_robin", "least_outstanding", "power_of_two"]
ROUTER_STREAM = 202  # of the counter-based numbers; acceptance laws and classes have others


def candidates(name: RouterName, replicas: int, seed: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replicas to ask for each request in the order they arrive, [requests, asked].

    ``numbers`` count the requests from 0.
    """
    if name == "round_robin":
        return (numbers % replicas)[:, None]
    if name == "least_outstanding" or replicas <= 2:
        return np.broadcast_to(np.arange(replicas), (len(numbers), replicas))
    first = (uniform(seed, numbers, np.zeros_like(numbers), stream=ROUTER_STREAM) * replicas).astype(np.int64)
    other = (uniform(seed, numbers, np.ones_like(numbers), stream=ROUTER_STREAM) * (replicas - 1)).astype(np.int64)
    return np.stack((first, other + (other >= first)), axis=1)


def chosen(asked: Sequence[int], unfinished: Callable[[int], int]) -> int:
    """The replica with the fewest unfinished requests among those asked."""
    return min(asked, key=unfinished) if len(asked) > 1 else asked[0]
