"""A fleet's events in the order of time, compiled: arrivals, clients, routing, transfers, the steps of every replica.

What happens at one instant happens in this order, as in ``events``: steps end, then KV arrives, then requests do, then
steps start; among steps and transfers the replica with the lower number goes first, among requests the earlier one.

A source sends one request after another: an open loop's only source at the times of the workload, a closed loop's
clients each when it has its answer and has thought. Every source, every replica and every replica's link has at most
one event ahead of it, in a slot of its own; a tree of winners over the slots gives the next one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import NONE, call_at, integers_at, jit
from specsim.scheduling.records import request_at
from specsim.serving.records import ARRIVES, ENDS, EVENT_BYTES, MOVES, STARTS, event_at, fleet_at
from specsim.serving.transitions import ASKS, GOES_ON, LAUNCHES, log_full, replica_of, set_idle

DONE, ROWS_WANTED, RECORDS_WANTED, LOG_IS_FULL, STEP_ASKS = range(5)


def serve(at: int, _: int) -> int:
    """Go on until all is done, or until Python must do something: see the statuses above."""
    fleet = fleet_at(at)
    if fleet.asking >= 0:
        call_at(fleet.launch_step, at, fleet.asking)
        _plan_end(fleet, fleet.asking)
        fleet.asking = -1
    while True:
        status = _fill_sources(fleet, at)
        if status != DONE:
            return status
        slot = integers_at(fleet.winners)[1]
        event = _event_of(fleet, slot)
        if event.time_s == np.inf:
            return DONE
        if log_full(fleet):
            return LOG_IS_FULL
        fleet.now_s = event.time_s
        if event.kind == ARRIVES:
            _arrive(fleet, at, slot)
        elif event.kind == ENDS:
            _end(fleet, at, slot)
        elif event.kind == MOVES:
            _plan(fleet, slot, np.inf, MOVES, 0)
            call_at(fleet.end_move, at, slot - fleet.num_sources - fleet.num_replicas)
        elif _start(fleet, at, slot):
            _plan_ahead(fleet)
            return STEP_ASKS
        if fleet.num_ahead:
            _plan_ahead(fleet)


@jit
def _event_of(fleet: Any, slot: int) -> Any:
    return event_at(fleet.events + slot * EVENT_BYTES)


# -- the order of events ------------------------------------------------------------------------------------------


@jit
def _plan(fleet: Any, slot: int, time_s: float, kind: int, order: int) -> None:
    """What is ahead of a slot, in place of what was."""
    event = _event_of(fleet, slot)
    event.time_s, event.kind, event.order = time_s, kind, order
    _compete(fleet, slot)


@jit
def _compete(fleet: Any, slot: int) -> None:
    """Let a slot's event win against others as far as it is the earlier one."""
    size = fleet.num_slots
    winners, node = integers_at(fleet.winners), (slot + size) // 2
    while node > 0:
        left, right = 2 * node, 2 * node + 1
        one = left - size if left >= size else winners[left]
        other = right - size if right >= size else winners[right]
        winners[node] = one if _is_before(_event_of(fleet, one), _event_of(fleet, other)) else other
        node //= 2


@jit
def _is_before(one: Any, other: Any) -> bool:
    if one.time_s != other.time_s:
        return bool(one.time_s < other.time_s)
    if one.kind != other.kind:
        return bool(one.kind < other.kind)
    return bool(one.order <= other.order)


@jit
def _plan_ahead(fleet: Any) -> None:
    """What the event brings about, unless its slot waits for something already."""
    for index in range(fleet.num_ahead):
        event = event_at(fleet.ahead + index * EVENT_BYTES)
        if _event_of(fleet, event.slot).time_s == np.inf:
            _plan(fleet, event.slot, event.time_s, event.kind, event.order)
    fleet.num_ahead = 0


# -- what happens -------------------------------------------------------------------------------------------------


@jit
def _fill_sources(fleet: Any, at: int) -> int:
    """Give each idle source the next request, if there is one."""
    while fleet.first_idle < fleet.num_idle:
        if fleet.row == fleet.num_rows and fleet.no_more_rows:
            break
        if fleet.row == fleet.num_rows:
            return ROWS_WANTED
        source = integers_at(fleet.idle_sources)[fleet.first_idle]
        address = call_at(fleet.take_request, at, source)
        if address == NONE:
            return RECORDS_WANTED
        fleet.first_idle += 1
        _event_of(fleet, source).request = address
        one = request_at(address)
        _plan(fleet, source, one.arrival_s + fleet.request_s, ARRIVES, one.serial)
    fleet.first_idle, fleet.num_idle = 0, 0
    return DONE


@jit
def _arrive(fleet: Any, at: int, source: int) -> None:
    _plan(fleet, source, np.inf, ARRIVES, 0)
    if not call_at(fleet.send_request, at, _event_of(fleet, source).request) or not fleet.closed:
        set_idle(fleet, source, fleet.now_s)


@jit
def _start(fleet: Any, at: int, slot: int) -> bool:
    """Whether Python must decide or price the step."""
    number = slot - fleet.num_sources
    started = call_at(fleet.start_step, at, number)
    if started == LAUNCHES:
        _plan_end(fleet, number)
    elif started == ASKS:
        fleet.asking = number
    else:
        _plan(fleet, slot, np.inf, STARTS, 0)
    return bool(started == ASKS)


@jit
def _plan_end(fleet: Any, number: int) -> None:
    """Of a step that was launched."""
    _plan(fleet, fleet.num_sources + number, replica_of(fleet, number).now_s, ENDS, number)


@jit
def _end(fleet: Any, at: int, slot: int) -> None:
    number = slot - fleet.num_sources
    goes_on = call_at(fleet.end_step, at, number) & GOES_ON
    _plan(fleet, slot, fleet.now_s if goes_on else np.inf, STARTS, number)
