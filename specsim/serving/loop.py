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

from specsim.jit import NONE, integers_at, jit
from specsim.scheduling.records import request_at
from specsim.serving.transitions import (
    ARRIVES,
    ASKS,
    ENDS,
    EVENT_BYTES,
    LAUNCHES,
    MOVES,
    STARTS,
    end_move,
    end_step,
    event_at,
    launch_step,
    log_full,
    send,
    set_idle,
    start_step,
    take_row,
)

DONE, ROWS_WANTED, RECORDS_WANTED, LOG_FULL, STEP_ASKS = range(5)


@jit
def serve(fleet: Any) -> int:
    """Go on until all is done, or until Python must do something: see the statuses above."""
    if fleet.asking >= 0:
        _launch(fleet, fleet.asking)
        fleet.asking = -1
    while True:
        status = _fill_sources(fleet)
        if status != DONE:
            return status
        slot = integers_at(fleet.winners)[1]
        event = _event_of(fleet, slot)
        if event.time_s == np.inf:
            return DONE
        if log_full(fleet):
            return LOG_FULL
        fleet.now_s = event.time_s
        if event.kind == ARRIVES:
            _arrive(fleet, slot, event)
        elif event.kind == ENDS:
            _end(fleet, slot)
        elif event.kind == MOVES:
            _plan(fleet, slot, np.inf, MOVES, 0)
            end_move(fleet, slot - fleet.num_sources - fleet.num_replicas)
        elif _start(fleet, slot):
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
def _fill_sources(fleet: Any) -> int:
    """Give each idle source the next request, if there is one."""
    while fleet.first_idle < fleet.num_idle:
        if fleet.row == fleet.num_rows and fleet.no_more_rows:
            break
        if fleet.row == fleet.num_rows:
            return ROWS_WANTED
        source = integers_at(fleet.idle_sources)[fleet.first_idle]
        address = take_row(fleet, source)
        if address == NONE:
            return RECORDS_WANTED
        fleet.first_idle += 1
        _event_of(fleet, source).request = address
        one = request_at(address)
        _plan(fleet, source, one.arrival_s + fleet.request_s, ARRIVES, one.serial)
    fleet.first_idle, fleet.num_idle = 0, 0
    return DONE


@jit
def _arrive(fleet: Any, source: int, event: Any) -> None:
    _plan(fleet, source, np.inf, ARRIVES, 0)
    if not send(fleet, event.request) or not fleet.closed:
        set_idle(fleet, source, fleet.now_s)


@jit
def _start(fleet: Any, slot: int) -> bool:
    """Whether Python must decide or price the step."""
    number = slot - fleet.num_sources
    started = start_step(fleet, number)
    if started == LAUNCHES:
        _launch(fleet, number)
    elif started == ASKS:
        fleet.asking = number
    else:
        _plan(fleet, slot, np.inf, STARTS, 0)
    return bool(started == ASKS)


@jit
def _launch(fleet: Any, number: int) -> None:
    _plan(fleet, fleet.num_sources + number, launch_step(fleet, number), ENDS, number)


@jit
def _end(fleet: Any, slot: int) -> None:
    number = slot - fleet.num_sources
    goes_on = end_step(fleet, number)
    _plan(fleet, slot, fleet.now_s if goes_on else np.inf, STARTS, number)
