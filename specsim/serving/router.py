"""Which replica a request goes to.

Round robin takes turns. Least outstanding asks every replica how many of its requests are unfinished and takes the
fewest; power of two choices asks two at random (Mitzenmacher, IEEE TPDS 2001). Ties go to the replica asked first. The
random choices are a function of the seed and of how many requests were sent before.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from specsim.jit import integers_at, jit
from specsim.scheduling.accept import key_of, uniform_of
from specsim.speculation.uniform import stream_seed

RouterName = Literal["round_robin", "least_outstanding", "power_of_two"]
ROUTERS: tuple[RouterName, ...] = get_args(RouterName)
ROUND_ROBIN, LEAST_OUTSTANDING = 0, 1
ROUTER_STREAM = 202  # of the counter-based numbers; acceptance laws and classes have others


def router_seed(seed: int) -> int:
    """Of the random choices of a run."""
    return stream_seed(seed, ROUTER_STREAM)


@jit
def route(fleet: Any) -> int:
    """The replica that the next request goes to; ``fleet``: a loop.FLEET record."""
    count, unfinished = fleet.num_replicas, integers_at(fleet.unfinished, fleet.num_replicas)
    if fleet.router == ROUND_ROBIN:
        return int(fleet.sent % count)
    if fleet.router == LEAST_OUTSTANDING or count <= 2:
        chosen = 0
        for number in range(1, count):
            if unfinished[number] < unfinished[chosen]:
                chosen = number
        return chosen
    key = key_of(fleet.router_seed, fleet.sent)
    first, other = int(uniform_of(key, 0) * count), int(uniform_of(key, 1) * (count - 1))
    other += other >= first
    return other if unfinished[other] < unfinished[first] else first
