"""The oracle against every possible sequence of rounds, and against every policy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.policy import (
    FixedPolicy,
    OffAbovePolicy,
    PlusMinusPolicy,
    ProfiledPolicy,
    TablePolicy,
    ThroughputPolicy,
    Tier,
    TieredPolicy,
    follow,
    oracle,
)

RUNS = st.lists(st.integers(0, 5), min_size=1, max_size=6)
POLICIES = [
    FixedPolicy(k=0),
    FixedPolicy(k=2),
    OffAbovePolicy(k=3, max_batch=4),
    TablePolicy(ranges=((1, 4, 4), (5, 8, 0))),
    ProfiledPolicy(),
    ProfiledPolicy(contexts=(50.0, 200.0)),
    ProfiledPolicy(hold_steps=2, choices=(1, 4)),
    ThroughputPolicy(ema=0.5),
    ThroughputPolicy(explore=0.5, switch_cost_s=1.0, every=2),
    PlusMinusPolicy(initial=2),
    TieredPolicy(tiers=(Tier(first_batch=1, choices=(0, 1, 4), interval=1, warmup=0),)),
]


def test_the_worked_example() -> None:
    path = oracle((2, 1, 0), np.array([1.0, 1.1, 1.3]), (0, 1, 2))
    assert (path.seconds, path.draft_tokens) == (1.3, (2,))


@settings(max_examples=80)
@given(runs=RUNS, prices=st.lists(st.floats(0.1, 10), min_size=3, max_size=3), choices=st.just((0, 1, 3)))
def test_no_sequence_of_rounds_is_faster(runs: list[int], prices: list[float], choices: tuple[int, ...]) -> None:
    found = oracle(runs, np.array(prices), choices)
    fastest = float("inf")
    for lengths in product(range(3), repeat=len(runs)):
        here, seconds = 0, 0.0
        for index in lengths:
            if here >= len(runs):
                break
            seconds += prices[index]
            here += min(runs[here], choices[index]) + 1
        fastest = min(fastest, seconds)
    assert found.seconds == pytest.approx(fastest, rel=1e-12)
    here = 0
    for k in found.draft_tokens:  # and its own rounds lead through, at that price
        here += min(runs[here], k) + 1
    assert here >= len(runs)
    assert sum(prices[choices.index(k)] for k in found.draft_tokens) == pytest.approx(found.seconds)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.kind)
@settings(max_examples=25)
@given(
    runs=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    belief=st.floats(0, 1),
    base=st.floats(0.1, 10),
    token=st.floats(0, 2),
    draft=st.floats(0, 2),
    pair=st.sampled_from([0.0, 0.001]),
)
def test_no_policy_beats_it(
    make_machine: Any,
    setting: Any,
    policy: Any,
    runs: list[int],
    belief: float,
    base: float,
    token: float,
    draft: float,
    pair: float,
) -> None:
    """Rounds priced by draft length and output position, as the KV length grows."""
    machine, choices = make_machine(base, token, draft, pair), tuple(range(5))
    prices = np.array([[machine.decode_round(1, k, 100.0 + i).seconds for k in choices] for i in range(len(runs))])
    decider = policy.start(setting(machine, ConstantAcceptance(rate=belief), longest=4))
    path = follow(decider, runs, prices, choices, context=100.0)
    best = oracle(runs, prices, choices)
    assert path.seconds >= best.seconds * (1 - 1e-12)


def test_an_oracle_that_must_not_choose_is_the_fixed_policy(machine: Any, setting: Any) -> None:
    runs, prices = (0, 3, 1, 0, 2, 5, 1, 1, 0, 4), np.array([1.0, 1.2, 1.5])
    decider = FixedPolicy(k=2).start(setting(machine))
    alone = oracle(runs, prices[2:], (2,))
    assert follow(decider, runs, prices, (0, 1, 2), context=1.0) == alone
    assert oracle(runs, prices, (0, 1, 2)).seconds < alone.seconds


def test_prices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="give one a length"):
        oracle((1, 2), np.ones(3), (0, 1))
