"""Drafting that stops where the drafter itself is unsure."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import compiled, floats_at, jit, mixed_record, record_at
from specsim.speculation.policy.learning import (
    DRAFT_TOKENS,
    LENGTHS,
    OBSERVE,
    Learning,
    bounded,
    decider_at,
    round_of,
)

STOP = mixed_record("longest keep_last foreseen adapts", "threshold accepted_rate target step smoothing memory")
"""``accepted_rate``: its moving average, below 0 before the first round. The rest as ``policy.confidence``."""
stop_at = record_at(STOP)


def confidence(**rule: float) -> Learning:
    """``rule``: the fields of the state."""
    state = np.zeros(1, STOP)
    state["accepted_rate"] = -1.0
    for name, value in rule.items():
        state[name] = value
    return Learning(compiled(_confidence), state, uniform=False, needs_confidences=True)


def _confidence(operation: int, at: int) -> int:
    decider = decider_at(at)
    stop = stop_at(decider.state)
    if operation == OBSERVE and stop.adapts:
        _adapt(decider, stop)
    elif operation == DRAFT_TOKENS:
        return bounded(decider, stop.longest)
    elif operation == LENGTHS:
        return _lengths(decider, stop)
    return 0


@jit
def _adapt(decider: Any, stop: Any) -> None:
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if one.drafts:
            rate = one.accepted / one.drafts
            before = rate if stop.accepted_rate < 0.0 else stop.accepted_rate
            stop.accepted_rate = stop.memory * before + (1.0 - stop.memory) * rate
            moved = stop.threshold + (stop.step if stop.accepted_rate < stop.target else -stop.step)
            stop.threshold = min(1.0, max(0.0, stop.smoothing * stop.threshold + (1.0 - stop.smoothing) * moved))


@jit
def _lengths(decider: Any, stop: Any) -> int:
    """The drafter runs as long as one sequence of the batch goes on."""
    going, longest, k = 0, 0, decider.draft_tokens
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if not one.goes_on:
            continue
        sure, confidences = 0, floats_at(one.confidences)
        while sure < k and confidences[sure] >= stop.threshold:
            sure += 1
        computed = min(sure + 1, k)
        one.proposed = computed if stop.keep_last else sure
        longest = max(longest, one.proposed if stop.foreseen else computed)
        going += 1
    return int(longest if going else k)
