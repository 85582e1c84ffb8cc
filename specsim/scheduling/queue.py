"""The waiting requests of a replica: a list linked through their records, ordered by who goes first.

Under ``fcfs`` that is the order of arrival, under ``priority`` the lower number, then arrival. A preempted request
takes the place that its rank gives it: under ``fcfs`` the head, since whoever was admitted came before all that wait.
Those that hold blocks, because their KV came from elsewhere, go before all others.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, jit
from specsim.scheduling.records import request_at


@jit
def goes_before(by_priority: int, address: int, other: int) -> bool:
    """Whether the first request goes before the second."""
    one, two = request_at(address), request_at(other)
    if by_priority and one.priority != two.priority:
        return bool(one.priority < two.priority)
    return bool(one.arrival < two.arrival)


@jit
def _stands_before(by_priority: int, address: int, other: int) -> bool:
    holds, other_holds = request_at(address).blocks > 0, request_at(other).blocks > 0
    return bool(holds) if holds != other_holds else goes_before(by_priority, address, other)


@jit
def enqueue(replica: Any, by_priority: int, address: int) -> None:
    """To the place of its rank, looked for from both ends at once."""
    before, after = replica.last_waiting, replica.first_waiting
    while True:
        if before == NONE or _stands_before(by_priority, before, address):
            after = replica.first_waiting if before == NONE else request_at(before).after
            break
        if _stands_before(by_priority, address, after):
            before = request_at(after).before
            break
        before, after = request_at(before).before, request_at(after).after
    one = request_at(address)
    one.before, one.after = before, after
    if before == NONE:
        replica.first_waiting = address
    else:
        request_at(before).after = address
    if after == NONE:
        replica.last_waiting = address
    else:
        request_at(after).before = address
    replica.num_waiting += 1


@jit
def leave_queue(replica: Any, address: int) -> None:
    """Out of the queue, from wherever it stands."""
    one = request_at(address)
    if one.before == NONE:
        replica.first_waiting = one.after
    else:
        request_at(one.before).after = one.after
    if one.after == NONE:
        replica.last_waiting = one.before
    else:
        request_at(one.after).before = one.before
    one.before, one.after = NONE, NONE
    replica.num_waiting -= 1
