"""What happens to a fleet whose prompts are computed by replicas of their own; beside ``transitions``.

A request has two halves, on a prefill and on a decode replica. By vLLM's rules the prefill replica has its half first,
and when the prompt is computed a decode replica gets the other; by SGLang's it is the other way round, see
``scheduling.disaggregation``. A transfer occupies the sender's link and the receiver's whole: it begins when both are
free, first come first served.
"""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, integers_at, jit
from specsim.scheduling.blocks import release
from specsim.scheduling.disaggregation import blocks_to_move, end_moving, start_moving
from specsim.scheduling.queue import leave_queue
from specsim.scheduling.records import request_at
from specsim.scheduling.step import note_finished
from specsim.serving.records import MOVES, fleet_at
from specsim.serving.router import route
from specsim.serving.transitions import (
    LOG_FULL,
    bring_about,
    clear,
    finish,
    leave,
    log_full,
    replica_of,
    submit_to,
    wake,
)


def split(at: int, address: int) -> int:
    """A request gets its other half, which computes the prompt alone."""
    fleet = fleet_at(at)
    one, other = request_at(address), request_at(fleet.spare_request)
    one.other_half = fleet.spare_request
    fleet.spare_request = other.after
    clear(other)
    other.request_id, other.arrival_s, other.prompt_tokens = one.request_id, one.arrival_s, one.prompt_tokens
    other.request_class, other.priority, other.output_tokens = one.request_class, one.priority, 1
    other.hashes, other.num_hashes, other.hash_block_tokens = one.hashes, one.num_hashes, one.hash_block_tokens
    other.other_half = address
    return 0


def ask_for_kv(at: int, number: int) -> int:
    """What a decode replica reserved blocks for will come: it is on its way, or its prompt may be computed now."""
    fleet = fleet_at(at)
    replica = replica_of(fleet, number)
    for index in range(replica.num_reserved):
        address = integers_at(replica.reserved)[index]
        if fleet.decode_first:
            _submit_other(fleet, address, 0, fleet.num_prefill)
        else:
            _move(fleet, address)
    replica.num_reserved = 0
    return 0


def hand_over(at: int, address: int) -> int:
    """A prefill replica has computed a request's prompt."""
    fleet, one = fleet_at(at), request_at(address)
    integers_at(fleet.unfinished)[one.replica] -= 1
    if fleet.decode_first:
        _move(fleet, one.other_half)
    else:
        _submit_other(fleet, address, fleet.num_prefill, fleet.num_replicas)
    return 0


def end_move(at: int, number: int) -> int:
    """KV has come to a decode replica, and the prefill replica forgets it; LOG_FULL where the log must be emptied."""
    fleet = fleet_at(at)
    replica = replica_of(fleet, number)
    one = request_at(replica.first_moving)
    other = request_at(one.other_half)
    release(replica_of(fleet, other.replica), other)
    one.preemptions += other.preemptions
    one.hit_tokens += other.hit_tokens
    leave(fleet, one.other_half)
    wake(fleet, other.replica)
    address = end_moving(replica)
    if replica.first_moving != NONE:
        _bring_move_about(fleet, request_at(replica.first_moving))
    if one.emitted_tokens >= one.output_tokens:  # the only token came with the KV
        leave_queue(replica, address)
        release(replica, one)
        replica.num_pending -= 1
        one.first_token_s = one.last_token_s = fleet.now_s + replica.response_s
        note_finished(replica, one)
        finish(fleet, address)
    wake(fleet, number)
    return int(LOG_FULL * log_full(fleet))


@jit
def _submit_other(fleet: Any, address: int, first: int, last: int) -> None:
    """A request's other half goes to a replica of the pool that has not seen the request."""
    number = route(fleet, first, last, fleet.handed_over)
    fleet.handed_over += 1
    submit_to(fleet, number, request_at(address).other_half)


@jit
def _move(fleet: Any, address: int) -> None:
    """The KV of a request, which has blocks for it, is on its way from now on."""
    one = request_at(address)
    sender, receiver = replica_of(fleet, request_at(one.other_half).replica), replica_of(fleet, one.replica)
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
    bring_about(fleet, slot, one.kv_s, MOVES, one.replica)
