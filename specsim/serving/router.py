"""Which replica a request goes to.

Round robin takes turns. Least outstanding asks every replica how many of its requests are unfinished and takes the
fewest; power of two choices asks two at random (Mitzenmacher, IEEE TPDS 2001). Ties go to the replica asked first. The
random choices are a function of the seed and of how many requests were sent before. Where prefill and decode replicas
are pools of their own, each pool has such a router.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from specsim.jit import integers_at, jit
from specsim.speculation.compiled_uniform import key_of, uniform_of
from specsim.speculation.uniform import stream_seed

RouterName = Literal["round_robin", "least_outstanding", "power_of_two"]
ROUTERS: tuple[RouterName, ...] = get_args(RouterName)
ROUND_ROBIN, LEAST_OUTSTANDING = 0, 1
ROUTER_STREAM = 202  # of the counter-based numbers; acceptance laws and classes have others


def router_seed(seed: int) -> int:
    """Of the random choices of a run."""
    return stream_seed(seed, ROUTER_STREAM)


@jit
def route(fleet: Any, begin: int, end: int, sent: int) -> int:
    """The replica, from ``begin`` to before ``end``, that a request goes to after ``sent`` others.

    ``fleet``: a loop.FLEET record.
    """
    count, unfinished = end - begin, integers_at(fleet.unfinished)
    if fleet.router == ROUND_ROBIN:
        return int(begin + sent % count)
    if fleet.router == LEAST_OUTSTANDING or count <= 2:
        chosen = begin
        for number in range(begin + 1, end):
            if unfinished[number] < unfinished[chosen]:
                chosen = number
        return int(chosen)
    key = key_of(fleet.router_seed + begin, sent)
    first, other = int(uniform_of(key, 0) * count), int(uniform_of(key, 1) * (count - 1))
    other += other >= first
    return int(begin + (other if unfinished[begin + other] < unfinished[begin + first] else first))
