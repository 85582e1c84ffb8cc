"""SGLang's tiers: the automaton by hand, and which tier a batch belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from specsim.errors import InvalidInput
from specsim.speculation.policy import Rounds, Tier, TieredPolicy

IDS = np.arange(4)
NOTHING = IDS[:0]
AT_ONCE: dict[str, Any] = {"ema": 1.0, "interval": 1, "warmup": 0}


def step(decider: Any, accepted: float, batch: int = 4) -> int:
    k = decider.draft_tokens(batch, 9.0)
    right = np.minimum(np.full(4, round(accepted)), k)
    shown = Rounds(IDS, np.full(4, k), right, batch) if k else Rounds(NOTHING, NOTHING, NOTHING, batch)
    decider.observe(shown)
    return int(k)


def test_it_rises_where_all_is_accepted_and_falls_where_nothing_is(machine: Any, setting: Any) -> None:
    """Choices 1, 3, 7 from the middle, average 2 at first, decisions after each step with ema 1: the average is the
    last step's. 3 accepted > 2.5 goes up to 7, where 7 > 6.5 stays; 0 accepted is at most 0.5 - 0.25, down to 1.
    """
    policy = TieredPolicy(tiers=(Tier(first_batch=1, choices=(7, 1, 3), **AT_ONCE),))
    decider = policy.start(setting(machine))
    assert [step(decider, accepted) for accepted in (9, 9, 9, 0, 0, 1, 9, 9)] == [3, 7, 7, 7, 1, 1, 3, 7]


def test_the_drop_needs_its_margin(machine: Any, setting: Any) -> None:
    """From 3 to 1 at an average of at most 1 - 0.5 - 0.25: 0.3 stays with that margin, and goes without it."""
    for fall, expected in ((-0.25, 3), (0.0, 1)):
        policy = TieredPolicy(tiers=(Tier(first_batch=1, choices=(1, 3), fall=fall, **AT_ONCE | {"ema": 0.85}),))
        decider = policy.start(setting(machine))
        assert step(decider, 0) == 3  # average 2 · 0.15 = 0.3
        assert decider.draft_tokens(4, 9.0) == expected


def test_warm_up_and_interval_hold_it(machine: Any, setting: Any) -> None:
    policy = TieredPolicy(tiers=(Tier(first_batch=1, choices=(1, 3), ema=1.0),))
    decider = policy.start(setting(machine))
    seen = [step(decider, 0) for _ in range(20)]
    assert seen == [3] * 15 + [1] * 5


def test_off_is_left_again_to_try(machine: Any, setting: Any) -> None:
    policy = TieredPolicy(tiers=(Tier(first_batch=1, choices=(0, 2), fall=0.0, **AT_ONCE | {"interval": 2}),))
    decider = policy.start(setting(machine))
    assert [step(decider, 0) for _ in range(10)] == [2, 2, 0, 0, 2, 2, 0, 0, 2, 2]


def test_it_starts_where_it_is_told_to_if_the_tier_has_it(machine: Any, setting: Any) -> None:
    tiers = (Tier(first_batch=1, choices=(1, 3, 5)), Tier(first_batch=8, choices=(0, 1, 2)))
    decider = TieredPolicy(tiers=tiers, initial=5).start(setting(machine))
    assert (decider.draft_tokens(4, 9.0), decider.draft_tokens(8, 9.0)) == (5, 1)


def test_each_batch_size_has_its_tier(machine: Any, setting: Any) -> None:
    policy = TieredPolicy(
        tiers=(
            Tier(first_batch=1, choices=(5,)),
            Tier(first_batch=8, choices=(3,)),
            Tier(first_batch=64, choices=(0,)),
        )
    )
    decider = policy.start(setting(machine))
    assert [decider.draft_tokens(batch, 9.0) for batch in (1, 7, 8, 63, 64, 900)] == [5, 5, 3, 3, 0, 0]
    assert policy.longest == 5


def test_what_one_tier_saw_does_not_move_another(machine: Any, setting: Any) -> None:
    tiers = (Tier(first_batch=1, choices=(1, 3), **AT_ONCE), Tier(first_batch=8, choices=(1, 3), **AT_ONCE))
    decider = TieredPolicy(tiers=tiers).start(setting(machine))
    step(decider, 0, batch=4)
    assert (decider.draft_tokens(4, 9.0), decider.draft_tokens(8, 9.0)) == (1, 3)


def test_malformed_tiers_name_their_rule(machine: Any, setting: Any) -> None:
    with pytest.raises(ValidationError, match="tiers must start at batch 1"):
        TieredPolicy(tiers=(Tier(first_batch=2, choices=(1,)),))
    with pytest.raises(ValidationError, match="from batch 4 follows one from 8; sort them"):
        TieredPolicy(tiers=tuple(Tier(first_batch=b, choices=(1,)) for b in (1, 8, 4)))
    with pytest.raises(InvalidInput, match="the program can run 0 to 2"):
        TieredPolicy(tiers=(Tier(first_batch=1, choices=(1, 3)),)).start(setting(machine, longest=2))
