"""What happens to a fleet at an event; either drive calls this in the order of time.

A request arrives and is sent to a replica; a step starts, is launched and ends. Each is a function of the fleet's
address and of a number or another address, compiled apart. Where prompts are computed by replicas of their own there
are ``transfers`` besides.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, call_at, floats_at, integers_at, jit
from specsim.scheduling.accept import LAW
from specsim.scheduling.decide import decide
from specsim.scheduling.records import PREFILL, REPLICA, engine_at, log_at, replica_at, request_at
from specsim.scheduling.shares import share_of, submit
from specsim.scheduling.step import begin, end, launch, price
from specsim.serving.records import EVENT_BYTES, STARTS, event_at, fleet_at
from specsim.serving.router import route
from specsim.speculation.compiled_uniform import key_of

IDLES, LAUNCHES, ASKS = range(3)  # of a step that starts
GOES_ON, LOG_FULL = 1, 2  # of a step that ends: either or both
REPLICA_BYTES, LAW_BYTES = REPLICA.itemsize, LAW.itemsize


@jit
def replica_of(fleet: Any, number: int) -> Any:
    return replica_at(fleet.replicas + number * REPLICA_BYTES)


@jit
def bring_about(fleet: Any, slot: int, time_s: float, kind: int, order: int) -> None:
    event = event_at(fleet.ahead + fleet.num_ahead * EVENT_BYTES)
    event.slot, event.time_s, event.kind, event.order = slot, time_s, kind, order
    fleet.num_ahead += 1


@jit
def wake(fleet: Any, number: int) -> None:
    """There may be work for a replica."""
    bring_about(fleet, fleet.num_sources + number, fleet.now_s, STARTS, number)


@jit
def log_full(fleet: Any) -> bool:
    log, more = log_at(fleet.log), fleet.most_in_step
    full = log.num_steps >= fleet.most_steps or log.num_finished + more > fleet.most_finished
    return bool(full or log.num_gaps + more > fleet.most_gaps)


# -- requests -----------------------------------------------------------------------------------------------------


def take_request(at: int, source: int) -> int:
    """The next request becomes the source's, which will send it when its time comes; its address.

    NONE where there are too few spare records.
    """
    fleet = fleet_at(at)
    row, address = fleet.row, fleet.spare_request
    if address == NONE or (fleet.num_prefill and request_at(address).after == NONE):
        return NONE
    one = request_at(address)
    fleet.spare_request, fleet.row = one.after, row + 1
    time_s = floats_at(fleet.idle_since)[source]
    if not fleet.closed:
        time_s = floats_at(fleet.arrival_s)[row]
    elif fleet.taken >= fleet.num_sources:  # each client's first request comes at once
        time_s = max(fleet.now_s, time_s + floats_at(fleet.think_s)[row])
    clear(one)
    one.request_id, one.arrival_s = integers_at(fleet.request_ids)[row], time_s
    one.serial, one.client = fleet.taken, source
    fleet.taken += 1
    one.key = key_of(fleet.seed, one.request_id)
    one.prompt_tokens = integers_at(fleet.prompt_tokens)[row]
    one.output_tokens = integers_at(fleet.output_tokens)[row]
    one.request_class = integers_at(fleet.class_index)[row]
    one.priority = integers_at(fleet.priorities)[one.request_class]
    if fleet.hash_block_tokens:
        starts = integers_at(fleet.hash_starts)
        one.hashes, one.num_hashes = fleet.hashes + 8 * starts[row], starts[row + 1] - starts[row]
        one.hash_block_tokens = fleet.hash_block_tokens
    one.track = integers_at(fleet.track)[row]
    one.levels = integers_at(fleet.levels)[row]
    if fleet.num_prefill:
        call_at(fleet.split, at, address)
    return int(address)


@jit
def clear(one: Any) -> None:
    one.computed_tokens, one.emitted_tokens, one.draft_tokens, one.prefilling = 0, 0, 0, 0
    one.in_flight_tokens, one.awaited_tokens, one.stale_tokens, one.merged_tokens = 0, 0, 0, 0
    one.blocks, one.named_blocks, one.table, one.hashes, one.num_hashes, one.hash_block_tokens = 0, 0, NONE, NONE, 0, 0
    one.hit_tokens, one.lost_tokens, one.preemptions, one.memory = 0, 0, 0, 0
    one.track, one.levels, one.law = NONE, NONE, NONE
    one.rounds, one.drafted, one.accepted = 0, 0, 0
    one.first_token_s, one.last_token_s, one.other_half = 0.0, 0.0, NONE


def send_request(at: int, address: int) -> int:
    """A request arrives now and goes to a replica; 0 where that one's queue is full."""
    fleet, one = fleet_at(at), request_at(address)
    number = route(fleet, fleet.pool_begin, fleet.pool_end, fleet.sent)
    fleet.sent += 1
    replica = replica_of(fleet, number)
    if replica.num_waiting >= replica.max_queue:
        log_at(fleet.log).rejected += 1
        if one.other_half != NONE:
            leave(fleet, one.other_half)
        leave(fleet, address)
        return 0
    submit_to(fleet, number, one.other_half if fleet.num_prefill and not fleet.decode_first else address)
    return 1


@jit
def submit_to(fleet: Any, number: int, address: int) -> None:
    replica, one = replica_of(fleet, number), request_at(address)
    if replica.laws != NONE:
        one.law = replica.laws + one.request_class * LAW_BYTES
    one.replica, one.submitted_s = number, fleet.now_s
    integers_at(fleet.unfinished)[number] += 1
    submit(replica, address)
    wake(fleet, number)


@jit
def set_idle(fleet: Any, source: int, since_s: float) -> None:
    """The source has its answer, and may take its next request."""
    floats_at(fleet.idle_since)[source] = since_s
    integers_at(fleet.idle_sources)[fleet.num_idle] = source
    fleet.num_idle += 1


@jit
def leave(fleet: Any, address: int) -> None:
    """The request is no longer in the system, and its record is spare."""
    one = request_at(address)
    one.serial, one.after = -1, fleet.spare_request
    fleet.spare_request = address


@jit
def finish(fleet: Any, address: int) -> None:
    """The request has all its tokens."""
    one = request_at(address)
    integers_at(fleet.unfinished)[one.replica] -= 1
    if fleet.closed:
        set_idle(fleet, one.client, one.last_token_s)
    leave(fleet, address)


# -- steps --------------------------------------------------------------------------------------------------------


def start_step(at: int, number: int) -> int:
    """A replica starts its next step: IDLES where there is none, ASKS where Python must price it, or something for its
    policy, before it is launched; else it LAUNCHES.
    """
    fleet = fleet_at(at)
    replica = replica_of(fleet, number)
    begin(fleet.replicas + number * REPLICA_BYTES, fleet.now_s)
    if replica.num_reserved:
        call_at(fleet.ask_for_kv, at, number)
    if replica.num_shares == 0:
        return IDLES
    if not decide(replica) or replica.prices == NONE:
        return ASKS
    call_at(fleet.launch_step, at, number)
    return LAUNCHES


def decide_step(at: int, number: int) -> int:
    """Whether a replica's policy has all it needs to decide, and has done so."""
    return int(decide(replica_of(fleet_at(at), number)))


def launch_step(at: int, number: int) -> int:
    """The step is decided and, where Python prices it, priced: now it is known when it ends."""
    replica = replica_of(fleet_at(at), number)
    if replica.prices != NONE:
        price(replica)
    launch(replica)
    return 0


def end_step(at: int, number: int) -> int:
    """A replica's step ends: GOES_ON where there may be work for another, LOG_FULL where the log must be emptied."""
    fleet = fleet_at(at)
    replica, log = replica_of(fleet, number), log_at(fleet.log)
    before, prefills = log.num_finished, engine_at(replica.engine).role == PREFILL
    end(replica)
    for index in range(replica.num_shares if prefills or log.num_finished > before else 0):
        address = share_of(replica, index).request
        one = request_at(address)
        if one.emitted_tokens < one.output_tokens:
            continue
        if prefills:
            call_at(fleet.hand_over, at, address)
        else:
            finish(fleet, address)
    goes_on = replica.num_running > 0 or replica.num_waiting > 0
    return int(GOES_ON * goes_on + LOG_FULL * log_full(fleet))
