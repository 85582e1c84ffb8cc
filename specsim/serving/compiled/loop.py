"""A replica's steps, one after the other, until something from outside could change them."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.serving.compiled.jit import jit
from specsim.serving.compiled.price import Floats, Integers, step_seconds
from specsim.serving.compiled.schedule import push_waiting, schedule
from specsim.serving.compiled.state import (
    ALL_STEPS,
    FINISHED,
    GAPS,
    NONE,
    REJECTED,
    STEPS,
    WORST_RANK,
    Log,
    Setting,
    State,
)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
DONE, LOG_FULL, ROWS_FULL = range(3)


@jit
def _mix(bits: Any) -> Any:
    """As ``speculation.uniform`` has it."""
    mixed = bits + _GOLDEN
    mixed = (mixed ^ (mixed >> _30)) * _FIRST
    mixed = (mixed ^ (mixed >> _27)) * _SECOND
    return mixed ^ (mixed >> _31)


@jit
def key_of(seed: Any, number: int) -> Any:
    """Of a request's uniform numbers under a seed, which is a uint64."""
    return _mix(seed + _mix(np.uint64(number)))


@jit
def uniform_of(key: Any, position: int) -> float:
    """The uniform number at an output position; ``speculation.uniform`` of stream 0."""
    bits = _mix(key + _GOLDEN * np.uint64(position + 1))
    return float(bits >> _11) * 2.0**-53


@jit
def _accept(one: Any, drafts: int, rates: Floats) -> int:
    for j in range(drafts):
        if uniform_of(one.key, one.emitted + j) >= one.level * rates[one.law, j]:
            return j
    return drafts


@jit
def _submit(
    state: State, r: int, seed: Any, number: int, arrival_s: float, prompt: int, output: int, law: int, level: float
) -> None:
    """Route a request that arrives no earlier than those before it to replica r; a row must be free."""
    replica = state.replicas[r]
    state.num_free[0] -= 1
    row = state.free[state.num_free[0]]
    one = state.requests[row]
    one.number, one.law, one.level, one.key = number, law, level, key_of(seed, number)
    one.arrival_s, one.first_s, one.last_s = arrival_s, 0.0, 0.0
    one.prompt, one.output = prompt, output
    one.computed, one.emitted, one.merged, one.drafts, one.blocks = 0, 0, 0, 0, 0
    one.rounds, one.drafted, one.accepted, one.preemptions = 0, 0, 0, 0
    one.following = NONE
    if replica.last_coming == NONE:
        replica.first_coming = row
    else:
        state.requests[replica.last_coming].following = row
    replica.last_coming = row
    replica.in_system += 1


@jit
def _leave(state: State, r: int, row: int) -> None:
    state.free[state.num_free[0]] = row
    state.num_free[0] += 1
    state.replicas[r].in_system -= 1


@jit
def _take_in(state: State, r: int, until_s: float, max_queue: int, log: Log) -> None:
    """Queue what has come by ``until_s``; a request that finds a full queue is turned away."""
    replica = state.replicas[r]
    row = replica.first_coming
    while row != NONE and state.requests[row].arrival_s <= until_s:
        after = state.requests[row].following
        if replica.waiting < max_queue:
            push_waiting(state, r, row)
        else:
            _leave(state, r, row)
            log.totals[REJECTED] += 1
        row = after
    replica.first_coming = row
    if row == NONE:
        replica.last_coming = NONE


@jit
def _price(state: State, setting: Setting, count: int, k: int) -> tuple[float, int]:
    """Draw what the step accepts, and price it."""
    groups, chunks, verifies = state.groups, state.chunks, setting.limits.verifies_drafts
    num_groups, num_chunks, emitting, drafting, kv_sum, single = 0, 0, 0, 0, 0, False
    for i in range(count):
        share = state.shares[i]
        one = state.requests[share.row]
        right = _accept(one, share.drafts, setting.rates)
        share.accepted = right
        kv = one.computed + share.tokens
        if share.prefill and share.tokens > 1:
            emitting += share.emits
            chunks[0, num_chunks], chunks[1, num_chunks] = share.tokens, kv
            num_chunks += 1
        elif share.prefill:
            single = True
        else:
            g = 0
            while g < num_groups and groups[1, g] != share.tokens:
                g += 1
            if g == num_groups:
                groups[0, g], groups[1, g], groups[2, g] = 0.0, share.tokens, 0.0
                num_groups += 1
            groups[0, g] += 1.0
            groups[2, g] += kv
        if share.emits and one.emitted + 1 + right < one.output:
            drafting += 1
            kv_sum += kv - share.extra + 1 + (right if verifies else 0)
    for g in range(num_groups):
        groups[2, g] /= groups[0, g]
    for i in range(count if single else 0):  # chunks of one token read the cache as decoding sequences do
        if state.shares[i].prefill and state.shares[i].tokens == 1:
            groups[0, num_groups], groups[1, num_groups] = 1.0, 1.0
            groups[2, num_groups] = state.requests[state.shares[i].row].computed + 1
            num_groups += 1
    drafting_kv = kv_sum / drafting if drafting else 0.0
    return step_seconds(
        setting.prices, num_groups, groups[0], groups[1], groups[2], num_chunks, chunks[0], chunks[1], emitting,
        drafting, k, drafting_kv,
    )  # fmt: skip


@jit
def _note(state: State, r: int, num_blocks: int, count: int, start_s: float, seconds: float, log: Log) -> None:
    """The step's record, before it is booked."""
    i, replica = log.used[STEPS], state.replicas[r]
    log.used[STEPS] = i + 1
    prefill, verify, drafts, accepted = 0, 0, 0, 0
    for s in range(count):
        share = state.shares[s]
        if share.prefill:
            prefill += share.tokens
        else:
            verify += share.tokens
        drafts += share.drafts
        accepted += share.accepted
    out = log.steps[i]
    out[0], out[1], out[2], out[3], out[4] = count, prefill, verify, drafts, accepted
    out[5], out[6], out[7] = num_blocks - replica.free_blocks, replica.waiting, r
    log.steps_s[i, 0], log.steps_s[i, 1] = start_s, seconds


@jit
def _finish(state: State, r: int, row: int, log: Log) -> None:
    one, replica, i = state.requests[row], state.replicas[r], log.used[FINISHED]
    out, times = log.finished[i], log.finished_s[i]
    out[0], out[1], out[2], out[3], out[4] = one.number, one.law, one.prompt, one.output, one.rounds
    out[5], out[6], out[7], out[8] = one.drafted, one.accepted, one.preemptions, r
    times[0], times[1], times[2] = one.arrival_s, one.first_s, one.last_s
    log.used[FINISHED] = i + 1
    replica.free_blocks += one.blocks
    one.blocks = 0
    replica.just_finished += 1
    _leave(state, r, row)


@jit
def _book(state: State, r: int, verifies: int, count: int, k: int, log: Log) -> None:
    """Book a step that ends now and propose the next drafts."""
    replica = state.replicas[r]
    now = replica.clock_s
    replica.just_finished = 0
    for i in range(count):
        share = state.shares[i]
        one, drafts, right = state.requests[share.row], share.drafts, share.accepted
        one.computed += share.tokens - share.extra + (right if verifies else 0)
        one.drafts = 0
        if not share.emits:
            continue
        fresh = min(1 + right, one.output - one.emitted)
        if one.emitted == 0:
            one.first_s = now
        else:
            log.gaps_s[log.used[GAPS]] = now - one.last_s
            log.gap_request[log.used[GAPS]] = one.number
            log.used[GAPS] += 1
        one.emitted += fresh
        one.last_s = now
        if not verifies:
            one.merged += fresh - 1
        if not share.prefill:
            one.rounds += 1
            one.drafted += drafts
            one.accepted += right
            log.acceptance[drafts, right] += 1
        if one.emitted < one.output:
            one.drafts = k
        else:
            _finish(state, r, share.row, log)
    if replica.just_finished:
        kept = 0
        for i in range(replica.running):
            row = state.running[r, i]
            if state.requests[row].emitted < state.requests[row].output:
                state.running[r, kept] = row
                kept += 1
        replica.running = kept


@jit
def advance(state: State, r: int, setting: Setting, horizon_s: float, log: Log) -> int:
    """Run replica r's steps that start before ``horizon_s``, by when all its arrivals before that are known.

    Returns LOG_FULL where the log must be emptied first, else DONE.
    """
    limits, replica = setting.limits, state.replicas[r]
    seqs, last_k = limits.max_num_seqs, len(setting.k_table) - 1
    while True:
        if replica.running == 0 and replica.waiting == 0:
            if replica.first_coming == NONE:
                return DONE
            replica.clock_s = max(replica.clock_s, state.requests[replica.first_coming].arrival_s)
        start_s = replica.clock_s
        if start_s >= horizon_s:
            return DONE
        if (
            log.used[STEPS] >= len(log.steps)
            or log.used[FINISHED] + seqs > len(log.finished)
            or log.used[GAPS] + seqs > len(log.gaps_s)
        ):
            return LOG_FULL
        _take_in(state, r, start_s, limits.max_queue, log)
        count = schedule(state, r, limits)
        k = setting.k_table[min(count, last_k)]
        seconds, rank = _price(state, setting, count, k)
        replica.clock_s = start_s + seconds
        log.totals[ALL_STEPS] += 1
        log.totals[WORST_RANK] = max(log.totals[WORST_RANK], rank)
        _note(state, r, limits.num_blocks, count, start_s, seconds, log)
        _book(state, r, limits.verifies_drafts, count, k, log)


@jit
def serve(
    state: State,
    settings: tuple[Setting, ...],
    seed: Any,
    first: int,
    first_number: int,
    arrival_s: Floats,
    prompt: Integers,
    output: Integers,
    law: Integers,
    level: Floats,
    asked: Integers,
    horizon_s: float,
    log: Log,
) -> tuple[int, int]:
    """Route requests ``first``.. of a part, in order, then run all replicas up to ``horizon_s``.

    Of the replicas ``asked[i]`` request i goes to the one with the fewest unfinished requests, the first on a tie.
    Returns (status, next request to route): where the log or the rows are full it must be called again.
    """
    for i in range(first, len(arrival_s)):
        if state.num_free[0] == 0:
            return ROWS_FULL, i
        now, chosen, fewest = arrival_s[i], asked[i, 0], -1
        for j in range(asked.shape[1] if asked.shape[1] > 1 else 0):
            r = asked[i, j]
            setting = settings[state.replicas[r].group]
            if advance(state, r, setting, now, log) == LOG_FULL:
                return LOG_FULL, i
            _take_in(state, r, now, setting.limits.max_queue, log)
            unfinished = state.replicas[r].in_system
            if state.replicas[r].clock_s > now:  # a step under way: what ends with it has not finished yet
                unfinished += state.replicas[r].just_finished
            if fewest < 0 or unfinished < fewest:
                chosen, fewest = r, unfinished
        _submit(state, chosen, seed, first_number + i, now, prompt[i], output[i], law[i], level[i])
    for r in range(len(state.replicas)):
        if advance(state, r, settings[state.replicas[r].group], horizon_s, log) == LOG_FULL:
            return LOG_FULL, len(arrival_s)
    return DONE, len(arrival_s)
