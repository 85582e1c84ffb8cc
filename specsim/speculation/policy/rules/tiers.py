"""Tiers of draft lengths by batch size, the accepted length choosing within a tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specsim.jit import address_of, compiled, integers_at, jit, mixed_record, record_at
from specsim.speculation.policy.learning import DRAFT_TOKENS, OBSERVE, Learning, decider_at, round_of

TIER = mixed_record("first_batch choices num_choices place steps interval warmup", "average ema rise fall")
"""``place``: of the present k among the choices; ``steps`` that counted so far; the rest as ``policy.tiers``."""
tier_at = record_at(TIER)
TIER_BYTES = TIER.itemsize


def tiers(given: Sequence[Mapping[str, Any]], initial: int | None) -> Learning:
    """``given``: fields of Tier, in order of their batch sizes."""
    state, needs = np.zeros(len(given), TIER), []
    for record, tier in zip(state, given, strict=True):
        choices = np.array(tier["choices"], dtype=np.int64)
        needs.append(choices)
        for name in ("first_batch", "interval", "warmup", "ema", "rise", "fall"):
            record[name] = tier[name]
        record["choices"], record["num_choices"] = address_of(choices), len(choices)
        record["place"] = tier["choices"].index(initial) if initial in tier["choices"] else len(choices) // 2
        record["average"] = choices[record["place"]] - 1
    return Learning(compiled(_tiers), state, *needs)


def _tiers(operation: int, at: int) -> int:
    decider = decider_at(at)
    tier = _tier_of(decider)
    if operation == DRAFT_TOKENS:
        return _choice(tier, tier.place)
    if operation == OBSERVE:
        _observe(decider, tier)
    return 0


@jit
def _tier_of(decider: Any) -> Any:
    index = decider.num_states - 1
    while index > 0 and tier_at(decider.state + index * TIER_BYTES).first_batch > decider.batch:
        index -= 1
    return tier_at(decider.state + index * TIER_BYTES)


@jit
def _choice(tier: Any, place: int) -> int:
    return int(integers_at(tier.choices)[place])


@jit
def _observe(decider: Any, tier: Any) -> None:
    drafted, accepted = 0, 0
    for index in range(decider.num_rounds):
        one = round_of(decider, index)
        drafted += one.drafts > 0
        accepted += one.accepted if one.drafts > 0 else 0
    if _choice(tier, tier.place) > 0:
        if drafted == 0:
            return
        tier.average += tier.ema * (accepted / drafted - tier.average)
    tier.steps += 1
    beyond = tier.steps - tier.warmup
    if beyond > 0 and beyond % tier.interval == 0:
        _move(tier)


@jit
def _move(tier: Any) -> None:
    last, start = tier.num_choices - 1, tier.place
    if _choice(tier, start) == 0:
        tier.place = min(1, last)
        if tier.average < 0.0:  # nothing was ever drafted here
            tier.average = float(_choice(tier, tier.place) - 1)
        return
    while tier.place > 0 and tier.average <= _drop_at(_choice(tier, tier.place - 1)) + tier.fall:
        tier.place -= 1
    if tier.place < start:
        return
    while tier.place < last and tier.average > _choice(tier, tier.place) - 0.5 + tier.rise:
        tier.place += 1


@jit
def _drop_at(lower: int) -> float:
    """Average accepted drafts at which a lower choice is as good."""
    return 0.5 if lower == 0 else lower - 0.5
