"""Which drafts of the whole batch are worth verifying: those most likely to survive, up to a budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.arrays import Floats
from specsim.jit import NONE, compiled, floats_at, jit, mixed_record, record_at
from specsim.speculation.policy.learning import (
    DRAFT_TOKENS,
    LACKS,
    LENGTHS,
    Learning,
    bounded,
    decider_at,
    price_address,
    round_of,
)
from specsim.speculation.policy.prices import KeptPrices

_ONE = np.uint64(1)  # an index without a sign is never taken to count from the end
SLACK = 1e-12  # values as near as this are equal, and the first is taken

BUDGET = mixed_record("k tokens max_batch max_num_seqs")
"""``tokens``: a fixed budget, 0 where it is the one of highest throughput; ``max_batch``: no drafting above it."""
budget_at = record_at(BUDGET)


def verify_budget(
    k: int, tokens: int | None, max_batch: int | None, max_num_seqs: int, prices: KeptPrices
) -> Learning:
    """``prices``: seconds of steps that verify 0, 1, .. drafts, by row k·(max_num_seqs + 1) + sequences."""
    state = np.zeros(1, BUDGET)
    state["k"], state["tokens"], state["max_num_seqs"] = k, tokens or 0, max_num_seqs
    state["max_batch"] = np.iinfo(np.int64).max if max_batch is None else max_batch
    return Learning(compiled(_verify_budget), state, uniform=False, needs_confidences=True, prices=prices)


def _verify_budget(operation: int, at: int) -> int:
    decider = decider_at(at)
    budget = budget_at(decider.state)
    if operation == DRAFT_TOKENS:
        return bounded(decider, budget.k if decider.batch <= budget.max_batch else 0)
    if operation == LENGTHS:
        return _lengths(decider, budget)
    return 0


@jit
def _lengths(decider: Any, budget: Any) -> int:
    k, sequences, prices = decider.draft_tokens, 0, NONE
    for index in range(decider.num_rounds):
        sequences += round_of(decider, index).goes_on
    if sequences and not budget.tokens:
        prices = price_address(decider, k * (budget.max_num_seqs + 1) + sequences)
        if prices == NONE:
            return LACKS
    survival = _survival(decider, sequences, k)
    likeliest = _sorted(survival, k)
    kept = min(budget.tokens, len(likeliest))
    if prices != NONE:
        kept = _best_count(likeliest, sequences, floats_at(prices))
    _propose(decider, survival, likeliest[kept - 1] if kept else np.inf, kept)
    return int(k)


@jit
def _survival(decider: Any, sequences: int, k: int) -> Floats:
    """Of each draft, one sequence's after another's: its confidence times those before it."""
    survival, draft = np.zeros(sequences * k), 0
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if one.goes_on:
            reached, confidences = 1.0, floats_at(one.confidences)
            for place in range(k):
                reached *= confidences[place]
                survival[draft] = reached
                draft += 1
    return survival


@jit
def _sorted(values: Floats, run: int) -> Floats:
    """From the largest on. Runs of ``run`` values are sorted so already: a merge sort begins there."""
    count, values, other = len(values), values.copy(), np.empty_like(values)
    while run < count:
        for start in range(0, count, 2 * run):
            middle, end = min(start + run, count), min(start + 2 * run, count)
            _merge(values, other, np.uint64(start), np.uint64(middle), np.uint64(end))
        values, other = other, values
        run *= 2
    return values


@jit
def _merge(values: Floats, other: Floats, start: Any, middle: Any, end: Any) -> None:
    """Two sorted runs of ``values`` to one of ``other``; without branches, since none of them could be foreseen."""
    one, two, place = start, middle, start
    while one < middle and two < end:
        first = np.uint64(values[one] >= values[two])
        other[place] = max(values[one], values[two])
        one, two, place = one + first, two + (_ONE - first), place + _ONE
    rest = one if one < middle else two
    while place < end:
        other[place] = values[rest]
        rest, place = rest + _ONE, place + _ONE


@jit
def _best_count(likeliest: Floats, sequences: int, seconds: Floats) -> int:
    """The number of drafts of highest throughput, the first within rounding of it."""
    values, expected = np.empty(len(likeliest) + 1), 0.0
    values[0] = sequences / seconds[0]
    for count in range(len(likeliest)):
        expected += likeliest[count]
        values[count + 1] = (sequences + expected) / seconds[count + 1]
    best, enough = 0, values.max() * (1.0 - SLACK)
    while values[best] < enough:
        best += 1
    return best


@jit
def _propose(decider: Any, survival: Floats, least: float, kept: int) -> None:
    """Keep ``kept`` drafts, those that survive as likely as ``least`` among them; of equals, an earlier one first."""
    k, draft, equals = decider.draft_tokens, 0, kept
    for one in survival:
        equals -= one > least
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if one.goes_on:
            one.proposed = 0
            for place in range(k):
                takes = survival[draft + place] > least
                if survival[draft + place] == least and equals > 0:
                    takes, equals = True, equals - 1
                one.proposed += takes
            draft += k
