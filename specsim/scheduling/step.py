"""One step of a replica with a clock: schedule -> accept -> decide -> price -> book.

``begin`` schedules, and draws what the step's rounds accept: a draw is a pure function of the seed, and who drafts
next, and so what the step costs, depends on it. Then the policy says how much is drafted and the step is priced, here
from tables or by Python. ``end`` books what came out, when the step ends.

Drafts go to the sequences that emitted and go on. Those accepted beyond a request's last token count as accepted, as
vLLM counts them: h[d][j] stays unbiased.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import NONE, call_at, floats_at, integers_at, jit
from specsim.scheduling.accept import accepted, proposed, put_confidences
from specsim.scheduling.decide import tabled_length
from specsim.scheduling.records import (
    FINISHED,
    GAP,
    PREFILL,
    STEP,
    engine_at,
    finished_at,
    gap_at,
    log_at,
    replica_at,
    request_at,
    step_at,
)
from specsim.scheduling.shares import beyond_known, book, schedule, share_of
from specsim.step_prices.price import prices_at
from specsim.step_prices.records import GROUP_BYTES, group_at, work_at

FINISHED_BYTES, STEP_BYTES, GAP_BYTES = FINISHED.itemsize, STEP.itemsize, GAP.itemsize


@jit
def begin(address: int, now_s: float) -> None:
    """Schedule a replica's step that starts now, draw what it accepts, and sum up what it computes."""
    replica = replica_at(address)
    engine = engine_at(replica.engine)
    verifies, longest = engine.verifies_drafts, engine.max_draft_tokens
    work, kv_drafting, kv_all = work_at(replica.work), 0, 0
    replica.seen_s = _seen_until(replica, now_s)
    replica.start_s = now_s
    count = schedule(address)
    if count == 0 and replica.num_preempted:  # who was in the way is gone
        count = schedule(address)
    work.draft_tokens = tabled_length(replica)
    work.num_groups, work.num_chunks, work.num_emitting, work.num_drafting, work.stage = 0, 0, 0, 0, 0
    work.prefill_tokens, work.verify_tokens, work.drafts, work.accepted = 0, 0, 0, 0
    singles = 0
    for index in range(count):
        share = share_of(replica, index)
        one = request_at(share.request)
        right = accepted(share.request, share.drafts)
        kv_tokens, position = one.computed_tokens + share.tokens, one.emitted_tokens + 1 + right
        share.kv_tokens = kv_tokens
        kv_all += kv_tokens
        share.accepted, share.proposed, share.memory = right, work.draft_tokens, one.memory
        share.goes_on = share.emits and position < one.output_tokens
        if share.goes_on:
            if one.levels != NONE:
                share.confidences = work.confidences + 8 * index * longest
                put_confidences(one, position, longest, floats_at(share.confidences))
            work.num_drafting += 1
            kv_drafting += kv_tokens - beyond_known(share, verifies) + 1 + (right if verifies else 0)
        work.drafts += share.drafts
        work.accepted += right
        singles += _add_to_groups(work, share)
    work.num_widths = work.num_groups
    for g in range(work.num_groups):
        group = group_at(work.groups + g * GROUP_BYTES)
        group.kv_tokens /= group.sequences
    if singles:
        _add_singles(replica, work)
    work.drafting_kv_tokens = kv_drafting / work.num_drafting if work.num_drafting else 0.0
    work.context_tokens = work.drafting_kv_tokens if work.num_drafting else kv_all / max(1, count)


@jit
def _seen_until(replica: Any, now_s: float) -> float:
    """An asynchronous engine chose this step's work when the step before it began, unless nothing was left to run."""
    chosen_before = replica.num_running > 0 and replica.now_s == now_s
    return float(replica.start_s if engine_at(replica.engine).async_scheduling and chosen_before else np.inf)


@jit
def _add_to_groups(work: Any, share: Any) -> int:
    """1 for a chunk of one token, which is left out."""
    if not share.prefill:
        work.verify_tokens += share.tokens
        _add_decode(work, share.tokens, share.kv_tokens)
        return 0
    work.prefill_tokens += share.tokens
    if share.tokens == 1:
        return 1
    _put(work.chunks, work.num_chunks, share.tokens, share.kv_tokens, share.emits)
    work.num_chunks += 1
    work.num_emitting += share.emits
    return 0


@jit
def _put(groups: int, index: int, tokens: int, kv_tokens: int, logit_rows: int) -> None:
    group = group_at(groups + index * GROUP_BYTES)
    group.sequences, group.query_tokens, group.kv_tokens, group.logit_rows = 1.0, tokens, kv_tokens, logit_rows


@jit
def _add_decode(work: Any, tokens: int, kv_tokens: int) -> None:
    for g in range(work.num_groups):
        group = group_at(work.groups + g * GROUP_BYTES)
        if group.query_tokens == tokens:
            group.sequences += 1.0
            group.kv_tokens += kv_tokens
            return
    _put(work.groups, work.num_groups, tokens, kv_tokens, tokens)
    work.num_groups += 1


@jit
def _add_singles(replica: Any, work: Any) -> None:
    for index in range(replica.num_shares):
        share = share_of(replica, index)
        if share.prefill and share.tokens == 1:
            _put(work.groups, work.num_groups, share.tokens, share.kv_tokens, share.emits)
            work.num_groups += 1


@jit
def price(replica: Any) -> None:
    """What the step takes, from tables."""
    call_at(prices_at(replica.prices).put_together, replica.prices, replica.work)


@jit
def launch(replica: Any) -> float:
    """Everything about the step is known: note it down, and return when it ends."""
    work, log, engine = work_at(replica.work), log_at(replica.log), engine_at(replica.engine)
    replica.now_s = replica.start_s + work.seconds
    replica.out_s = replica.now_s + work.lag_s + replica.response_s
    log.worst_rank = max(log.worst_rank, work.rank)
    step = step_at(log.steps + log.num_steps * STEP_BYTES)
    log.num_steps += 1
    step.start_s, step.duration_s, step.lag_s = replica.start_s, work.seconds, work.lag_s
    step.sequences, step.waiting, step.replica = replica.num_shares, replica.num_waiting, replica.number
    step.prefill_tokens, step.verify_tokens = work.prefill_tokens, work.verify_tokens
    step.draft_tokens, step.accepted = work.drafts, work.accepted
    step.kv_blocks = engine.num_blocks - replica.free_plain - replica.free_named
    return float(replica.now_s)


@jit
def end(replica: Any) -> None:
    """The step ends: book it, note what finished, and propose the next drafts."""
    book(replica)
    log = log_at(replica.log)
    for index in range(replica.num_shares):
        share = share_of(replica, index)
        if not share.emitted:
            continue
        one = request_at(share.request)
        if one.emitted_tokens == share.emitted:
            one.first_token_s = replica.out_s
        else:
            gap = gap_at(log.gaps + log.num_gaps * GAP_BYTES)
            gap.request_id, gap.seconds = one.request_id, replica.out_s - one.last_token_s
            log.num_gaps += 1
        one.last_token_s = replica.out_s
        if not share.prefill:
            one.rounds += 1
            one.drafted += share.drafts
            one.accepted += share.accepted
            cell = share.drafts * (log.longest_draft + 1) + share.accepted
            integers_at(log.acceptance)[cell] += 1
        if one.emitted_tokens >= one.output_tokens:
            if engine_at(replica.engine).role != PREFILL:
                note_finished(replica, one)
        elif share.proposed:
            one.draft_tokens = proposed(share.request, share.proposed)


@jit
def note_finished(replica: Any, one: Any) -> None:
    """To the log."""
    log = log_at(replica.log)
    finished = finished_at(log.finished + log.num_finished * FINISHED_BYTES)
    log.num_finished += 1
    finished.request_id, finished.request_class, finished.replica = one.request_id, one.request_class, replica.number
    finished.prompt_tokens, finished.output_tokens = one.prompt_tokens, one.output_tokens
    finished.rounds, finished.drafted, finished.accepted = one.rounds, one.drafted, one.accepted
    finished.preemptions, finished.cached_tokens = one.preemptions, min(one.hit_tokens, one.prompt_tokens)
    finished.arrival_s, finished.first_token_s = one.arrival_s, one.first_token_s
    finished.finish_s = one.last_token_s
