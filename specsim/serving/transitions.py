"""What happens to a fleet at an event, compiled; either drive calls these in the order of time.

A request arrives and is sent to a replica, a step starts, is launched and ends, and, where prompts are computed by
replicas of their own, KV blocks arrive. A transfer occupies the sender's link and the receiver's whole: it begins when
both are free, first come first served.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, floats_at, integers_at, jit, mixed_record, record_at
from specsim.scheduling.accept import LAW
from specsim.scheduling.blocks import release
from specsim.scheduling.decide import decide
from specsim.scheduling.disaggregation import blocks_to_move, end_moving, start_moving
from specsim.scheduling.queue import leave_queue
from specsim.scheduling.records import (
    PREFILL,
    REPLICA,
    engine_at,
    log_at,
    replica_at,
    request_at,
)
from specsim.scheduling.rules import share_of, submit
from specsim.scheduling.step import begin, end, launch, note_finished, price
from specsim.serving.router import route
from specsim.speculation.compiled_uniform import key_of

ENDS, MOVES, ARRIVES, STARTS = range(4)
IDLES, LAUNCHES, ASKS = range(3)  # of a step that starts

EVENT = mixed_record(("kind", "order", "request", "slot"), ("time_s",))
"""What is ahead of a source, a replica or its link; infinitely far where nothing is. ``request``: that a source will
send. ``slot``: whose event it is, sources first, then replicas, then links."""

FLEET = mixed_record((
    "replicas", "num_replicas", "unfinished", "router", "router_seed", "sent",
    "events", "winners", "num_slots", "num_sources", "closed",
    "idle_sources", "idle_since", "first_idle", "num_idle", "taken",
    "row", "num_rows", "no_more_rows", "request_ids", "arrival_s", "think_s", "prompt_tokens", "output_tokens",
    "class_index", "priorities", "hash_starts", "hashes", "hash_block_tokens", "track", "levels",
    "seed", "spare_request", "asking", "log", "most_requests", "most_steps", "most_gaps", "most_in_step",
    "num_prefill", "decode_first", "handed_over", "ahead", "num_ahead", "moved_blocks", "num_moves",
), ("now_s", "request_s", "move_block_s", "move_latency_s"))  # fmt: skip
"""All there is to a run.

unfinished           requests at each replica, [num_replicas]
router, sent         how a request finds its replica, and how many have been sent
events, winners      EVENT of each slot; the tree over ``num_slots``, a power of two
idle_sources         sources that may take their next request, from the ``first_idle`` on
idle_since           when each source had its last answer
taken                requests that sources have taken
row, num_rows, ..    the requests of the part at hand from the next one on, as ``workload.request.Requests`` has them;
                     ``track``, ``levels``: addresses of theirs
spare_request        REQUEST records in no use, linked by ``after``
asking               the replica whose step waits for a price from Python, or -1
most_..              rows of the log, and sequences in a step
ahead, num_ahead     events that this one brings about: a drive plans each unless its slot waits for one already
num_prefill          replicas that compute prompts, the first ones; 0 where every replica does all
decode_first         whether a decode replica gets a request before a prefill replica, as under SGLang's rules
request_s            from a client to the scheduler
handed_over          requests that the other pool's router has seen
move_block_s, .._latency_s   of the link between the pools: seconds a KV block and a transfer
moved_blocks, num_moves      so far
"""
fleet_at, event_at = record_at(FLEET), record_at(EVENT)
EVENT_BYTES, REPLICA_BYTES, LAW_BYTES = EVENT.itemsize, REPLICA.itemsize, LAW.itemsize


@jit
def _replica_of(fleet: Any, number: int) -> Any:
    return replica_at(fleet.replicas + number * REPLICA_BYTES)


@jit
def _bring_about(fleet: Any, slot: int, time_s: float, kind: int, order: int) -> None:
    event = event_at(fleet.ahead + fleet.num_ahead * EVENT_BYTES)
    event.slot, event.time_s, event.kind, event.order = slot, time_s, kind, order
    fleet.num_ahead += 1


@jit
def _wake(fleet: Any, number: int) -> None:
    """There may be work for a replica."""
    _bring_about(fleet, fleet.num_sources + number, fleet.now_s, STARTS, number)


@jit
def log_full(fleet: Any) -> bool:
    log, more = log_at(fleet.log), fleet.most_in_step
    full = log.num_steps >= fleet.most_steps or log.num_requests + more > fleet.most_requests
    return bool(full or log.num_gaps + more > fleet.most_gaps)


# -- requests -----------------------------------------------------------------------------------------------------


@jit
def take_row(fleet: Any, source: int) -> int:
    """The next request becomes the source's, which will send it when its time comes; its address.

    NONE where there are too few spare records.
    """
    row, address = fleet.row, fleet.spare_request
    if address == NONE or (fleet.num_prefill and request_at(address).after == NONE):
        return NONE
    one = request_at(address)
    fleet.spare_request, fleet.row = one.after, row + 1
    time_s = floats_at(fleet.idle_since, fleet.num_sources)[source]
    if not fleet.closed:
        time_s = floats_at(fleet.arrival_s, fleet.num_rows)[row]
    elif fleet.taken >= fleet.num_sources:  # each client's first request comes at once
        time_s = max(fleet.now_s, time_s + floats_at(fleet.think_s, fleet.num_rows)[row])
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
    one.track = integers_at(fleet.track, fleet.num_rows)[row]
    one.levels = integers_at(fleet.levels, fleet.num_rows)[row]
    if fleet.num_prefill:
        _split(fleet, address)
    return int(address)


@jit
def _split(fleet: Any, address: int) -> None:
    """The request gets its other half, which computes the prompt alone."""
    one, other = request_at(address), request_at(fleet.spare_request)
    one.other_half = fleet.spare_request
    fleet.spare_request = other.after
    _clear(other)
    other.request_id, other.arrival_s, other.prompt_tokens = one.request_id, one.arrival_s, one.prompt_tokens
    other.request_class, other.priority, other.output_tokens = one.request_class, one.priority, 1
    other.hashes, other.num_hashes, other.hash_block_tokens = one.hashes, one.num_hashes, one.hash_block_tokens
    other.other_half = address


@jit
def _clear(one: Any) -> None:
    one.computed_tokens, one.emitted_tokens, one.draft_tokens, one.prefilling = 0, 0, 0, 0
    one.in_flight_tokens, one.awaited_tokens, one.stale_tokens, one.merged_tokens = 0, 0, 0, 0
    one.blocks, one.named_blocks, one.table, one.hashes, one.num_hashes, one.hash_block_tokens = 0, 0, NONE, NONE, 0, 0
    one.hit_tokens, one.lost_tokens, one.preemptions, one.memory = 0, 0, 0, 0
    one.track, one.levels, one.law = NONE, NONE, NONE
    one.rounds, one.drafted, one.accepted = 0, 0, 0
    one.first_token_s, one.last_token_s, one.other_half = 0.0, 0.0, NONE


@jit
def send(fleet: Any, address: int) -> bool:
    """A request arrives now and goes to a replica; False where that one's queue is full."""
    one, begin_, end_ = request_at(address), 0, fleet.num_replicas
    if fleet.decode_first:
        begin_ = fleet.num_prefill
    elif fleet.num_prefill:
        end_ = fleet.num_prefill
    number = route(fleet, begin_, end_, fleet.sent)
    fleet.sent += 1
    replica = _replica_of(fleet, number)
    if replica.num_waiting >= replica.max_queue:
        log_at(fleet.log).rejected += 1
        if one.other_half != NONE:
            _leave(fleet, one.other_half)
        _leave(fleet, address)
        return False
    half = one.other_half if fleet.num_prefill and not fleet.decode_first else address
    _submit(fleet, number, half)
    return True


@jit
def _submit(fleet: Any, number: int, address: int) -> None:
    replica, one = _replica_of(fleet, number), request_at(address)
    if replica.laws != NONE:
        one.law = replica.laws + one.request_class * LAW_BYTES
    one.replica, one.submitted_s = number, fleet.now_s
    integers_at(fleet.unfinished, fleet.num_replicas)[number] += 1
    submit(replica, address)
    _wake(fleet, number)


@jit
def _hand_over(fleet: Any, address: int, begin_: int, end_: int) -> None:
    """A half goes to a replica of the pool that has not seen the request."""
    number = route(fleet, begin_, end_, fleet.handed_over)
    fleet.handed_over += 1
    _submit(fleet, number, address)


@jit
def set_idle(fleet: Any, source: int, since_s: float) -> None:
    """The source has its answer, and may take its next request."""
    floats_at(fleet.idle_since, fleet.num_sources)[source] = since_s
    integers_at(fleet.idle_sources, fleet.num_idle + 1)[fleet.num_idle] = source
    fleet.num_idle += 1


@jit
def _leave(fleet: Any, address: int) -> None:
    """The request is no longer in the system, and its record is spare."""
    one = request_at(address)
    one.serial, one.after = -1, fleet.spare_request
    fleet.spare_request = address


@jit
def _finish(fleet: Any, address: int) -> None:
    """The request has all its tokens."""
    one = request_at(address)
    integers_at(fleet.unfinished, fleet.num_replicas)[one.replica] -= 1
    if fleet.closed:
        set_idle(fleet, one.client, one.last_token_s)
    _leave(fleet, address)


# -- steps --------------------------------------------------------------------------------------------------------


@jit
def start_step(fleet: Any, number: int) -> int:
    """A replica starts its next step: IDLES where there is none, ASKS where Python must price it, or something for its
    policy, before it is launched.
    """
    replica = _replica_of(fleet, number)
    begin(replica, fleet.now_s)
    for address in integers_at(replica.reserved, replica.num_reserved):
        if fleet.decode_first:
            _hand_over(fleet, request_at(address).other_half, 0, fleet.num_prefill)
        else:
            _move(fleet, address)
    replica.num_reserved = 0
    if replica.num_shares == 0:
        return IDLES
    return LAUNCHES if decide(replica) and replica.prices != NONE else ASKS


@jit
def decide_step(fleet: Any, number: int) -> bool:
    """Whether a replica's policy has all it needs to decide, and has done so."""
    return decide(_replica_of(fleet, number))


@jit
def launch_step(fleet: Any, number: int) -> float:
    """The step is decided and, where Python prices it, priced; returns when it ends."""
    replica = _replica_of(fleet, number)
    if replica.prices != NONE:
        price(replica)
    return launch(replica)


@jit
def end_step(fleet: Any, number: int) -> bool:
    """A replica's step ends; whether there may be work for another."""
    replica, log = _replica_of(fleet, number), log_at(fleet.log)
    before, prefills = log.num_requests, engine_at(replica.engine).role == PREFILL
    end(replica)
    for index in range(replica.num_shares if prefills or log.num_requests > before else 0):
        address = share_of(replica, index).request
        one = request_at(address)
        if one.emitted_tokens < one.output_tokens:
            continue
        if not prefills:
            _finish(fleet, address)
            continue
        integers_at(fleet.unfinished, fleet.num_replicas)[number] -= 1
        if fleet.decode_first:
            _move(fleet, one.other_half)
        else:
            _hand_over(fleet, one.other_half, fleet.num_prefill, fleet.num_replicas)
    return bool(replica.num_running > 0 or replica.num_waiting > 0)


# -- KV that moves ------------------------------------------------------------------------------------------------


@jit
def _move(fleet: Any, address: int) -> None:
    """The KV of a request, which has blocks for it, is on its way from now on."""
    one = request_at(address)
    sender, receiver = _replica_of(fleet, request_at(one.other_half).replica), _replica_of(fleet, one.replica)
    blocks = blocks_to_move(receiver, one)
    start_s = max(fleet.now_s, sender.link_free_s, receiver.link_free_s)
    free_s = start_s + blocks * fleet.move_block_s
    sender.link_free_s, receiver.link_free_s = free_s, free_s
    one.kv_s = free_s + fleet.move_latency_s
    fleet.moved_blocks += blocks
    fleet.num_moves += 1
    if receiver.first_moving == NONE:
        _bring_move_about(fleet, one)
    start_moving(receiver, address)


@jit
def _bring_move_about(fleet: Any, one: Any) -> None:
    slot = fleet.num_sources + fleet.num_replicas + one.replica
    _bring_about(fleet, slot, one.kv_s, MOVES, one.replica)


@jit
def end_move(fleet: Any, number: int) -> None:
    """KV has come to a decode replica, and the prefill replica forgets it."""
    replica = _replica_of(fleet, number)
    other = request_at(replica.first_moving).other_half
    sender = request_at(other).replica
    release(_replica_of(fleet, sender), request_at(other))
    one = request_at(replica.first_moving)
    one.preemptions += request_at(other).preemptions
    one.hit_tokens += request_at(other).hit_tokens
    _leave(fleet, other)
    _wake(fleet, sender)
    address = end_moving(replica)
    if replica.first_moving != NONE:
        _bring_move_about(fleet, request_at(replica.first_moving))
    if one.emitted_tokens >= one.output_tokens:  # the only token came with the KV
        leave_queue(replica, address)
        release(replica, one)
        replica.num_pending -= 1
        one.first_token_s = one.last_token_s = fleet.now_s + replica.response_s
        note_finished(replica, one)
        _finish(fleet, address)
    _wake(fleet, number)
