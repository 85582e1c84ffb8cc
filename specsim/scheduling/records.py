"""What a step works on: records of whole numbers behind addresses, as numba and NumPy both read them.

A request, a block or a replica is known by the address of its record, 0 meaning none; lists link such addresses. So
records may lie in any array, and more room never moves what is there. Whoever made the arrays keeps them alive.
"""

from __future__ import annotations

from specsim.jit import mixed_record, record_at
from specsim.speculation.policy.learning import ROUND_FIELDS

ENGINE = mixed_record(
    """
    max_num_seqs max_num_batched_tokens block_size num_blocks watermark_blocks
    grows window_blocks window_span state_blocks full_groups
    scheduler_reserve_full_isl chunked_prefill long_prefill_token_threshold
    long_prefill_token_threshold_adaptive max_model_len prefix_caching by_priority async_scheduling
    recompute_last_hit max_draft_tokens lookahead_tokens draft_slots pads_new_decodes verifies_drafts
    sglang mixed_chunks num_reserved_decode_tokens role
    """,
)
"""Limits of an engine and needs of its drafter, under the names of ``EngineLimits`` and ``Scheduler``. ``num_blocks``
can be held, the null block is not among them; ``grows`` to ``full_groups``: how many of them a sequence takes, see
``cost.cache.CacheLayout``, of ``block_size`` tokens; ``max_model_len`` is huge where there is no limit; ``role``:
BOTH, PREFILL or DECODE."""
BOTH, PREFILL, DECODE = range(3)

REQUEST = mixed_record(
    """
    request_id prompt_tokens output_tokens priority arrival computed_tokens emitted_tokens
    draft_tokens prefilling in_flight_tokens awaited_tokens stale_tokens merged_tokens blocks
    named_blocks table hashes num_hashes hash_block_tokens hit_tokens lost_tokens preemptions
    before after serial request_class law key track levels memory client rounds
    drafted accepted replica other_half
    """,
    "arrival_s submitted_s first_token_s last_token_s kv_s",
)
"""A request on its replica.

Its known tokens are the prompt and what was emitted; ``computed_tokens`` of them are in the KV cache, as far as steps
have completed. While decoding that is all but the last. ``draft_tokens`` wait to be verified.

priority, arrival    lower goes first, where the engine looks at it; rank among all requests
prefilling           its last step left prompt (or recomputed) tokens to compute
in_flight_tokens     positions of steps that have not completed
awaited_tokens       of these, positions beyond the known ones: the token to come and the drafts before it
stale_tokens         positions that were in flight when it was preempted
merged_tokens        emitted tokens without a position of their own
blocks, named_blocks KV blocks that it holds; the first of them that have a name are in its ``table``
hashes, num_hashes   name the prompt's beginning in blocks of ``hash_block_tokens``: equal numbers in two requests mean
                     equal prompts up to the end of that block. What no hash names, and all that was emitted, is
                     shared with nobody
hit_tokens           found in the prefix cache, over all admissions
lost_tokens          computed and thrown away by preemptions
before, after        its neighbours in the queue

What a step with a clock knows besides: its ``serial`` number in the run (-1 where the record is spare), its class, the
LAW of its acceptance, the key of its uniform numbers, its ``track`` or the ``levels`` of its drafts (see ``accept``),
what its policy keeps in ``memory`` for it, the client that waits for it, its replica's number, and what RequestRecord
tells of it. Under disaggregation a request has two records, on a prefill and on a decode replica, each the
``other_half`` of the other until the KV has moved, which it has at ``kv_s``.
"""

SHARE = mixed_record((*ROUND_FIELDS, "request", "tokens", "padding", "emits", "prefill", "emitted", "kv_tokens"))
"""One request's part of a step, ``tokens`` new positions; it begins as the ROUND that its policy sees.

The last ``padding`` of them are computed for nothing; before them stand ``drafts`` drafted ones (none, where drafts
are not verified: they take no position then). ``emits``: all known tokens are computed after this step, so at least
one new token comes out. ``prefill``: computes prompt (or recomputed) tokens, not a plain decode. ``accepted`` and
``emitted`` are known when the step has completed. ``kv_tokens`` are in the cache then. ``goes_on``: it emits and is
not finished then, so drafts follow.
"""

BLOCK = mixed_record("private hash index references before after younger listed")
"""A full KV block whose tokens are known by name: (whether only its request can know it, the request's id or the
workload's hash, index of the block) names all tokens from a sequence's first to the block's end. Free while nobody
refers to it, but found until it is reused. ``before``, ``after``: its neighbours among the free ones; ``younger``: the
next one of its bucket, if it is ``listed`` there: a private one is once its request is preempted, since nobody else
will ask for it."""

REPLICA = mixed_record(
    """
    engine running num_running first_waiting last_waiting num_waiting arrivals
    free_plain free_named first_free last_free spare_block fresh_block buckets num_buckets
    spare_tables num_spare_tables shares num_shares preempted num_preempted
    reserved num_reserved num_pending first_moving last_moving
    number max_queue work laws prices draft_lengths last_draft_length decider log
    rules ran refused
    """,
    "start_s now_s out_s seen_s response_s link_free_s new_token_ratio",
)
"""One replica.

engine               its ENGINE
running              addresses of the running requests, in order of admission
waiting              queue of requests, the next one first
arrivals             requests that ever came
free_plain, _named   free blocks without a name; with one, the next to be reused first
spare_block          BLOCK records that were in use, linked by ``after``; from fresh_block on they never were
buckets              the oldest BLOCK of each bucket of names; their number is a power of two
spare_tables         addresses of block tables that no running request uses
shares, num_shares   of the step scheduled last, SHARE records
preempted            requests preempted by the step scheduled last
reserved             requests that were given blocks for KV to come, see ``disaggregation``; who moves it empties this
num_pending          requests that hold such blocks and do not run yet
moving               queue of those whose KV is on the way, linked by ``after``

rules                what chooses its step's work, as the engine does, compiled apart
ran, refused         under SGLang's rules: how many ran after the last step, whether none may be admitted;
                     new_token_ratio is the share of their output that running requests are expected to write yet

A step with a clock knows besides:

number, max_queue    of the replica in its fleet; requests that may wait
work                 its step's WORK
laws                 LAW records of the request classes
prices               PRICES; none where Python prices each step
draft_lengths        k by the number of sequences in a step, up to ``last_draft_length``
decider              DECIDER; none where the draft lengths are those
log                  LOG
start_s, now_s       when the step began; when it ends, so that the next may begin
out_s                when its tokens are with the client, ``response_s`` after the engine has them
seen_s               requests that were submitted from then on are not seen by the step's schedule yet
link_free_s          when its link has moved all KV that it was asked to
"""

FINISHED = mixed_record(
    """
    request_id request_class prompt_tokens output_tokens rounds drafted accepted preemptions
    replica cached_tokens
    """,
    "arrival_s first_token_s finish_s",
)
"""A finished request, as ``results.RequestRecord`` has it; its class by number."""

STEP = mixed_record(
    "sequences prefill_tokens verify_tokens draft_tokens accepted kv_blocks waiting replica",
    "start_s duration_s lag_s",
)
"""A step, as ``results.StepRecord`` has it."""

GAP = mixed_record("request_id", "seconds")
"""The time between two chunks of a request's output."""

LOG = mixed_record(
    """
    finished num_finished steps num_steps gaps num_gaps
    acceptance longest_draft worst_rank rejected
    """,
)
"""What happened since Python last looked: FINISHED, STEP and GAP records; ``acceptance`` counts h[d][j] of the whole
run."""

engine_at = record_at(ENGINE)
request_at = record_at(REQUEST)
share_at = record_at(SHARE)
block_at = record_at(BLOCK)
replica_at = record_at(REPLICA)
log_at = record_at(LOG)
finished_at = record_at(FINISHED)
step_at = record_at(STEP)
gap_at = record_at(GAP)
