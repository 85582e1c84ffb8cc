"""What a step works on: records of whole numbers behind addresses, as numba and NumPy both read them.

A request, a block or a replica is known by the address of its record, 0 meaning none; lists link such addresses. So
records may lie in any array, and more room never moves what is there. Whoever made the arrays keeps them alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.scheduling.jit import record_at

NONE = 0  # the address of nothing


def _whole_numbers(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


ENGINE = _whole_numbers(
    "max_num_seqs", "max_num_batched_tokens", "block_size", "num_blocks", "watermark_blocks",
    "scheduler_reserve_full_isl", "chunked_prefill", "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive", "max_model_len", "prefix_caching", "by_priority", "async_scheduling",
    "recompute_last_hit", "max_draft_tokens", "lookahead_tokens", "draft_slots", "pads_new_decodes", "verifies_drafts",
)  # fmt: skip
"""Limits of an engine and needs of its drafter, under the names of ``EngineLimits`` and ``Scheduler``. ``num_blocks``
can be held, the null block is not among them; ``max_model_len`` is huge where there is no limit."""

REQUEST = _whole_numbers(
    "request_id", "prompt_tokens", "output_tokens", "priority", "arrival", "computed_tokens", "emitted_tokens",
    "draft_tokens", "prefilling", "in_flight_tokens", "awaited_tokens", "stale_tokens", "merged_tokens", "blocks",
    "named_blocks", "table", "hashes", "num_hashes", "hash_block_tokens", "hit_tokens", "lost_tokens", "preemptions",
    "before", "after",
)  # fmt: skip
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
"""

SHARE = _whole_numbers("request", "tokens", "drafts", "padding", "emits", "prefill", "accepted", "emitted")
"""One request's part of a step: ``tokens`` new positions.

The last ``padding`` of them are computed for nothing; before them stand ``drafts`` drafted ones (none, where drafts
are not verified: they take no position then). ``emits``: all known tokens are computed after this step, so at least
one new token comes out. ``prefill``: computes prompt (or recomputed) tokens, not a plain decode. ``accepted`` and
``emitted`` are known when the step has completed.
"""

BLOCK = _whole_numbers("private", "hash", "index", "references", "before", "after", "younger")
"""A full KV block whose tokens are known by name: (whether only its request can know it, the request's id or the
workload's hash, index of the block) names all tokens from a sequence's first to the block's end. Free while nobody
refers to it, but found until it is reused. ``before``, ``after``: its neighbours among the free ones; ``younger``: the
next one of its bucket."""

REPLICA = _whole_numbers(
    "engine", "running", "num_running", "first_waiting", "last_waiting", "num_waiting", "arrivals",
    "free_plain", "free_named", "first_free", "last_free", "spare_block", "fresh_block", "buckets", "num_buckets",
    "spare_tables", "num_spare_tables", "shares", "num_shares", "preempted", "num_preempted",
)  # fmt: skip
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
"""

engine_at = record_at(ENGINE)
request_at = record_at(REQUEST)
share_at = record_at(SHARE)
block_at = record_at(BLOCK)
replica_at = record_at(REPLICA)
