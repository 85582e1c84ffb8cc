"""A fleet's events in the order of time, compiled: arrivals, clients, routing, and the steps of every replica.

What happens at one instant happens in this order, as in ``clock``: steps end, then requests arrive, then steps start;
among steps the replica with the lower number goes first, among requests the earlier one.

A source sends one request after another: an open loop's only source at the times of the workload, a closed loop's
clients each when it has its answer and has thought. Every source and every replica has at most one event ahead of it,
in a slot of its own; a tree of winners over the slots gives the next one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import floats_at, integers_at, jit, record_at
from specsim.scheduling.accept import LAW, key_of
from specsim.scheduling.records import (
    NONE,
    REPLICA,
    log_at,
    mixed_record,
    replica_at,
    request_at,
)
from specsim.scheduling.rules import share_of, submit
from specsim.scheduling.step import begin, end, launch, price
from specsim.serving.router import route

ENDS, ARRIVES, STARTS = range(3)
DONE, ROWS_WANTED, RECORDS_WANTED, LOG_FULL, ASKS = range(5)

EVENT = mixed_record(("kind", "order", "request"), ("time_s",))
"""What is ahead of a source or replica; infinitely far where nothing is. ``request``: that a source will send."""

FLEET = mixed_record((
    "replicas", "num_replicas", "unfinished", "router", "router_seed", "sent",
    "events", "winners", "num_slots", "num_sources", "closed", "idle_sources", "first_idle", "num_idle", "taken",
    "row", "num_rows", "no_more_rows", "request_ids", "arrival_s", "think_s", "prompt_tokens", "output_tokens",
    "class_index", "priorities", "hash_starts", "hashes", "hash_block_tokens", "tracks",
    "seed", "spare_request", "asking", "log", "most_requests", "most_steps", "most_gaps", "most_in_step",
), ("now_s",))  # fmt: skip
"""All there is to a run.

unfinished           requests at each replica, [num_replicas]
router, sent         how a request finds its replica, and how many have been sent
events, winners      EVENT of each source and then of each replica; the tree over ``num_slots``, a power of two
idle_sources         sources that may take their next request, from the ``first_idle`` on
taken                requests that sources have taken
row, num_rows, ..    the requests of the part at hand from the next one on, as ``workload.request.Requests`` has them;
                     ``tracks``: addresses of their tracks
spare_request        REQUEST records in no use, linked by ``after``
asking               the replica whose step waits for Python to decide or price, or -1
most_..              rows of the log, and sequences in a step
"""
fleet_at, event_at = record_at(FLEET), record_at(EVENT)
EVENT_BYTES, REPLICA_BYTES, LAW_BYTES = EVENT.itemsize, REPLICA.itemsize, LAW.itemsize


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
        slot = integers_at(fleet.winners, 2)[1]
        event = _event_of(fleet, slot)
        if event.time_s == np.inf:
            return DONE
        if log_full(fleet):
            return LOG_FULL
        fleet.now_s = event.time_s
        if event.kind == ARRIVES:
            _arrive(fleet, slot, event)
        elif event.kind == ENDS:
            _end(fleet, slot - fleet.num_sources)
        elif start_step(fleet, slot - fleet.num_sources):
            fleet.asking = slot - fleet.num_sources
            return ASKS
        else:
            _launch(fleet, slot - fleet.num_sources)


@jit
def _event_of(fleet: Any, slot: int) -> Any:
    return event_at(fleet.events + slot * EVENT_BYTES)


@jit
def _replica_of(fleet: Any, number: int) -> Any:
    return replica_at(fleet.replicas + number * REPLICA_BYTES)


@jit
def log_full(fleet: Any) -> bool:
    log, more = log_at(fleet.log), fleet.most_in_step
    full = log.num_steps >= fleet.most_steps or log.num_requests + more > fleet.most_requests
    return bool(full or log.num_gaps + more > fleet.most_gaps)


# -- the order of events ------------------------------------------------------------------------------------------


@jit
def _plan(fleet: Any, slot: int, time_s: float, kind: int, order: int) -> None:
    """What is ahead of a slot, in place of what was."""
    event = _event_of(fleet, slot)
    event.time_s, event.kind, event.order = time_s, kind, order
    size = fleet.num_slots
    winners, node = integers_at(fleet.winners, size), (slot + size) // 2
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


# -- requests on their way ----------------------------------------------------------------------------------------


@jit
def _fill_sources(fleet: Any) -> int:
    """Give each idle source the next request, if there is one."""
    while fleet.first_idle < fleet.num_idle:
        if fleet.row == fleet.num_rows and fleet.no_more_rows:
            break
        if fleet.row == fleet.num_rows:
            return ROWS_WANTED
        if fleet.spare_request == NONE:
            return RECORDS_WANTED
        source = integers_at(fleet.idle_sources, fleet.num_idle)[fleet.first_idle]
        fleet.first_idle += 1
        one = request_at(take_row(fleet, source))
        _plan(fleet, source, one.arrival_s, ARRIVES, one.serial)
    fleet.first_idle, fleet.num_idle = 0, 0
    return DONE


@jit
def take_row(fleet: Any, source: int) -> int:
    """The next request becomes the source's, which will send it when its time comes; its address."""
    row, address = fleet.row, fleet.spare_request
    one = request_at(address)
    fleet.spare_request, fleet.row = one.after, row + 1
    time_s = fleet.now_s
    if not fleet.closed:
        time_s = floats_at(fleet.arrival_s, fleet.num_rows)[row]
    elif fleet.taken >= fleet.num_sources:  # each client's first request comes at once
        time_s += floats_at(fleet.think_s, fleet.num_rows)[row]
    _clear(one)
    one.request_id, one.arrival_s = integers_at(fleet.request_ids, fleet.num_rows)[row], time_s
    one.serial, one.client = fleet.taken, source
    fleet.taken += 1
    one.key = key_of(fleet.seed, one.request_id)
    one.prompt_tokens = integers_at(fleet.prompt_tokens, fleet.num_rows)[row]
    one.output_tokens = integers_at(fleet.output_tokens, fleet.num_rows)[row]
    one.request_class = integers_at(fleet.class_index, fleet.num_rows)[row]
    one.priority = integers_at(fleet.priorities, one.request_class + 1)[one.request_class]
    if fleet.hash_block_tokens:
        starts = integers_at(fleet.hash_starts, row + 2)
        one.hashes, one.num_hashes = fleet.hashes + 8 * starts[row], starts[row + 1] - starts[row]
        one.hash_block_tokens = fleet.hash_block_tokens
    if fleet.tracks != NONE:
        one.track = integers_at(fleet.tracks, fleet.num_rows)[row]
    _event_of(fleet, source).request = address
    return int(address)


@jit
def _clear(one: Any) -> None:
    one.computed_tokens, one.emitted_tokens, one.draft_tokens, one.prefilling = 0, 0, 0, 0
    one.in_flight_tokens, one.awaited_tokens, one.stale_tokens, one.merged_tokens = 0, 0, 0, 0
    one.blocks, one.named_blocks, one.table, one.hashes, one.num_hashes, one.hash_block_tokens = 0, 0, NONE, NONE, 0, 0
    one.hit_tokens, one.lost_tokens, one.preemptions, one.track, one.law = 0, 0, 0, NONE, NONE
    one.rounds, one.drafted, one.accepted = 0, 0, 0
    one.first_token_s, one.last_token_s = 0.0, 0.0


@jit
def _set_idle(fleet: Any, source: int) -> None:
    """The source may take its next request."""
    integers_at(fleet.idle_sources, fleet.num_idle + 1)[fleet.num_idle] = source
    fleet.num_idle += 1


@jit
def _arrive(fleet: Any, source: int, event: Any) -> None:
    _plan(fleet, source, np.inf, ARRIVES, 0)
    number = send(fleet, event.request)
    if number >= 0 and _event_of(fleet, fleet.num_sources + number).time_s == np.inf:
        _plan(fleet, fleet.num_sources + number, fleet.now_s, STARTS, number)
    if number < 0 or not fleet.closed:
        _set_idle(fleet, source)


@jit
def send(fleet: Any, address: int) -> int:
    """A request arrives now and goes to a replica: its number, or -1 where that one's queue is full."""
    number, one = route(fleet), request_at(address)
    fleet.sent += 1
    replica = _replica_of(fleet, number)
    if replica.num_waiting >= replica.max_queue:
        log_at(fleet.log).rejected += 1
        _leave(fleet, address)
        return -1
    if replica.laws != NONE:
        one.law = replica.laws + one.request_class * LAW_BYTES
    integers_at(fleet.unfinished, fleet.num_replicas)[number] += 1
    submit(replica, address)
    return number


@jit
def _leave(fleet: Any, address: int) -> None:
    """The request is no longer in the system, and its record is spare."""
    one = request_at(address)
    one.serial, one.after = -1, fleet.spare_request
    fleet.spare_request = address


# -- steps --------------------------------------------------------------------------------------------------------


@jit
def start_step(fleet: Any, number: int) -> bool:
    """A replica starts its next step; whether Python must decide or price it before it is launched."""
    replica = _replica_of(fleet, number)
    begin(replica, fleet.now_s)
    return bool(replica.draft_lengths == NONE or replica.prices == NONE)


@jit
def launch_step(fleet: Any, number: int) -> float:
    """The step is decided and, where Python prices it, priced; returns when it ends."""
    replica = _replica_of(fleet, number)
    if replica.prices != NONE:
        price(replica)
    return launch(replica)


@jit
def end_step(fleet: Any, number: int) -> bool:
    """A replica's step ends; whether there is work for another."""
    replica, log = _replica_of(fleet, number), log_at(fleet.log)
    before = log.num_requests
    end(replica)
    for index in range(replica.num_shares if log.num_requests > before else 0):
        address = share_of(replica, index).request
        one = request_at(address)
        if one.emitted_tokens >= one.output_tokens:
            integers_at(fleet.unfinished, fleet.num_replicas)[number] -= 1
            if fleet.closed:
                _set_idle(fleet, one.client)
            _leave(fleet, address)
    return bool(replica.num_running > 0 or replica.num_waiting > 0)


@jit
def _launch(fleet: Any, number: int) -> None:
    _plan(fleet, fleet.num_sources + number, launch_step(fleet, number), ENDS, number)


@jit
def _end(fleet: Any, number: int) -> None:
    goes_on = end_step(fleet, number)
    _plan(fleet, fleet.num_sources + number, fleet.now_s if goes_on else np.inf, STARTS, number)
