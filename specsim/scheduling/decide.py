"""How much is drafted next: by batch size from a table, or by a policy's rule, which learns."""

from __future__ import annotations

from typing import Any

from specsim.jit import NONE, call_at, integers_at, jit
from specsim.scheduling.records import SHARE, request_at
from specsim.scheduling.shares import share_of
from specsim.speculation.policy.learning import DRAFT_TOKENS, LACKS, LENGTHS, OBSERVE, decider_at
from specsim.step_prices.records import work_at

NOT_YET, TOLD, LENGTH_CHOSEN, DECIDED = range(4)
SHARE_BYTES = SHARE.itemsize


@jit
def tabled_length(replica: Any) -> int:
    """k by the number of sequences in the step; 0 for now where a rule decides.

    As in vLLM these are all the requests scheduled in the step, prefills included.
    """
    if replica.decider != NONE:
        return 0
    last = replica.last_draft_length
    return int(integers_at(replica.draft_lengths)[min(replica.num_shares, last)])


@jit
def decide(replica: Any) -> bool:
    """Let a rule set what each share proposes; False where it lacks a price, to be asked again when that is there."""
    work = work_at(replica.work)
    if replica.decider == NONE or work.stage == DECIDED:
        return True
    decider = decider_at(replica.decider)
    if work.stage == NOT_YET:
        decider.rounds, decider.round_bytes, decider.num_rounds = replica.shares, SHARE_BYTES, replica.num_shares
        decider.batch, decider.context_tokens = replica.num_shares, work.context_tokens
        call_at(decider.rule, OBSERVE, replica.decider)
        for index in range(replica.num_shares):
            share = share_of(replica, index)
            request_at(share.request).memory = share.memory
        work.stage = TOLD
    if work.stage == TOLD:
        k = call_at(decider.rule, DRAFT_TOKENS, replica.decider)
        if k == LACKS:
            return False
        uniform = decider.uniform or k == 0 or work.num_drafting == 0
        for index in range(replica.num_shares):
            share_of(replica, index).proposed = k if uniform else 0
        work.draft_tokens, decider.draft_tokens = k, k
        work.stage = DECIDED if uniform else LENGTH_CHOSEN
    if work.stage == LENGTH_CHOSEN:
        computed = call_at(decider.rule, LENGTHS, replica.decider)
        if computed == LACKS:
            return False
        work.draft_tokens = computed
        work.stage = DECIDED
    return True
