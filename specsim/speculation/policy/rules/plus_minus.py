"""Draft lengths that rise after a full accept and fall after anything else, for each request."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import compiled, jit, mixed_record, record_at
from specsim.speculation.policy.learning import (
    DRAFT_TOKENS,
    LENGTHS,
    OBSERVE,
    Learning,
    bounded,
    decider_at,
    round_of,
)

STEPS = mixed_record("initial rise fall shortest longest")
"""A request's memory is its length + 1. The fields are those of ``policy.rising``."""
steps_at = record_at(STEPS)


def plus_minus(*, remembered: int, **rule: int) -> Learning:
    """``rule``: the fields of the state."""
    state = np.zeros(1, STEPS)
    for name, value in rule.items():
        state[name] = value
    return Learning(compiled(_plus_minus), state, uniform=False, remembered=remembered)


def _plus_minus(operation: int, at: int) -> int:
    decider = decider_at(at)
    steps = steps_at(decider.state)
    if operation == OBSERVE:
        _observe(decider, steps)
    elif operation == DRAFT_TOKENS:
        return bounded(decider, steps.longest)
    elif operation == LENGTHS:
        return _lengths(decider, steps)
    return 0


@jit
def _length(one: Any, steps: Any) -> int:
    return int(one.memory - 1 if one.memory else min(steps.initial, steps.longest))


@jit
def _observe(decider: Any, steps: Any) -> None:
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if one.drafts:
            moved = _length(one, steps) + (steps.rise if one.accepted == one.drafts else -steps.fall)
            one.memory = max(min(moved, steps.longest), steps.shortest) + 1


@jit
def _lengths(decider: Any, steps: Any) -> int:
    """The drafter runs as long as the longest needs."""
    going, computed = 0, 0
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        if one.goes_on:
            one.proposed = min(_length(one, steps), decider.draft_tokens)
            computed = max(computed, one.proposed)
            going += 1
    return int(computed if going else decider.draft_tokens)
