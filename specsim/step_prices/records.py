"""What tables are asked about and made of, as records behind addresses."""

from __future__ import annotations

from specsim.jit import mixed_record, record_at

GROUP = mixed_record((), "sequences query_tokens kv_tokens logit_rows")
"""Sequences of equal width in a step, as ``cost.forward.Group``; ``kv_tokens`` is their mean."""

WORK = mixed_record(
    """
    groups num_groups num_widths chunks num_chunks num_emitting num_drafting rank
    prefill_tokens verify_tokens drafts accepted draft_tokens stage confidences
    """,
    "drafting_kv_tokens context_tokens seconds lag_s",
)
"""A step as its price and its policy see it, and its price.

groups               GROUP records: those of decoding sequences, one for each of ``num_widths`` widths, then each chunk
                     of one token, which reads the cache as a decoding sequence does
chunks               GROUP records of the other prompt chunks, ``num_emitting`` of which yield a token
num_drafting         sequences that emit and go on; the mean of their KV lengths after the step
context_tokens       the same; where nobody goes on, the mean KV length in the step
prefill_tokens, ..   what StepRecord tells of it
draft_tokens         most tokens that the drafter computes a sequence after this step
stage                how far its policy has decided
confidences          of the drafts to come, [sequences, most drafts]; none where no policy looks at them
seconds, lag_s       its price, as ``cost.step_time.StepTime`` has it
rank                 how good the source of it is, an index into ``cost.forward.SOURCES``
"""

RUN = mixed_record(
    """
    tokens_s last_token rows_s last_row attention_s num_places prompts_s widths shares
    times of_target overlapped own_place
    """,
    """
    prompt_tokens emitting_tokens emitting_rows own_tokens own_rows own_keys own_more_keys
    captured captured_busy_s captured_idle_s eager_busy_s eager_group_busy_s eager_idle_s
    """,
)
"""One run.

tokens_s, rows_s     [tokens, sources], [rows of logits, sources] by the rank of the source; none where the run has
                     nothing of the kind
attention_s          [2, place, sequences, KV] of groups of sequences: seconds, and the ranks of their sources
prompts_s            [2, chunks, tokens of one, tokens before it] of prompts: the same
widths               what a sequence of the step is in the run, [width, WIDTH_FIELDS]
shares, times        by all decoding sequences: how many of one run, how often it runs
of_target            it is the target's; overlapped: it runs beside the target
own_..               the same of a sequence that drafts, whatever the step computed of it
prompt_tokens        its tokens for one of a prompt; emitting_..: and for each chunk that yields a token
captured             tokens up to which a graph runs; busy: seconds of the host to launch it, idle: of the device
"""
WIDTH_FIELDS = ("tokens", "rows", "place", "keys", "more_keys")  # keys in view: keys · KV length + more_keys

group_at, work_at, run_at = record_at(GROUP), record_at(WORK), record_at(RUN)
GROUP_BYTES, RUN_BYTES = GROUP.itemsize, RUN.itemsize
