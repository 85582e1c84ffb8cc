"""The profiled table against closed forms, brute force, and every fixed length; and what limits any choice of k."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import ConstantAcceptance, PowerLawAcceptance, RecallAcceptance
from specsim.speculation.policy import FixedPolicy, ProfiledPolicy, ThroughputPolicy
from specsim.speculation.tree import RecallTable

RATES = st.floats(0.0, 0.99)
SECONDS = st.floats(0.001, 5.0)


@settings(max_examples=60)
@given(rate=RATES, base=SECONDS, token=SECONDS, draft=SECONDS, batch=st.integers(1, 40))
def test_no_fixed_length_beats_the_table_at_any_batch(
    make_machine: Any, setting: Any, rate: float, base: float, token: float, draft: float, batch: int
) -> None:
    machine, law = make_machine(base, token, draft), ConstantAcceptance(rate=rate)
    table = ProfiledPolicy().start(setting(machine, law, longest=6, max_num_seqs=40)).table()
    mine = machine.throughput(law, batch, table[batch])
    assert all(mine >= machine.throughput(law, batch, k) * (1 - 1e-9) for k in range(7))


def test_the_founding_model_s_integer_optimum(machine: Any, setting: Any) -> None:
    """(A·s + β)/(c·s^γ + 1) by hand: A = batch·0.1 + 1, β = 10 + 0.1·batch."""
    table = ProfiledPolicy().start(setting(machine, PowerLawAcceptance(c=0.9, gamma=0.7), longest=8)).table()
    for batch in (1, 4, 16, 64):
        seconds = [((0.1 * batch + 1) * s + 10 + 0.1 * batch) / (0.9 * s**0.7 + 1 if s else 1.0) for s in range(9)]
        assert table[batch] == int(np.argmin(seconds))
    assert table[1] > table[64]


def test_off_where_nothing_pays_and_the_shorter_of_equals(make_machine: Any, setting: Any) -> None:
    assert ProfiledPolicy().start(setting(make_machine(), ConstantAcceptance(rate=0.0))).table()[1] == 0
    free = make_machine(base_s=1.0, token_s=0.0, draft_s=0.0)
    never_right_twice = RecallAcceptance(table=RecallTable(recall=((0.5,),)))
    assert ProfiledPolicy().start(setting(free, never_right_twice, longest=1)).table()[1] == 1
    assert ProfiledPolicy().start(setting(free, ConstantAcceptance(rate=0.0))).table()[1] == 0


def test_its_own_belief_replaces_the_scenario_s(machine: Any, setting: Any) -> None:
    given_law = setting(machine, ConstantAcceptance(rate=0.95))
    doubting = ProfiledPolicy(acceptance=ConstantAcceptance(rate=0.1)).start(given_law)
    assert (doubting.table()[1], ProfiledPolicy().start(given_law).table()[1] > 2) == (0, True)


def test_a_tree_s_best_node_count(make_machine: Any, setting: Any) -> None:
    """k counts nodes: each choice's optimal tree, priced at k + 1 tokens."""
    law = RecallAcceptance(table=RecallTable(recall=((0.6, 0.2, 0.1),) * 4), tree="optimal")
    machine, choices = make_machine(10.0, 0.2, 0.0), (0, 2, 8, 16, 32)
    table = ProfiledPolicy().start(setting(machine, law, choices=choices)).table()
    for batch in (1, 3, 10, 60):
        assert table[batch] == max(choices, key=lambda k: machine.throughput(law, batch, k))
    assert table[1] > table[60]


def test_a_context_axis_finds_what_pays_at_each_length(make_machine: Any, setting: Any) -> None:
    """With keys to read for every token, long contexts make verification dear; each look-up takes the nearest."""
    machine, law = make_machine(10.0, 0.0, 0.01, pair_s=0.0005), ConstantAcceptance(rate=0.8)
    decider = ProfiledPolicy(contexts=(10_000.0, 100.0)).start(setting(machine, law))
    assert decider.table() is None
    best = {c: max(range(9), key=lambda k: machine.throughput(law, 8, k, c)) for c in (100.0, 10_000.0)}
    assert decider.draft_tokens(8, 150.0) == best[100.0] > best[10_000.0] == decider.draft_tokens(8, 9_000.0)


def test_choices_round_down_and_always_hold_zero(machine: Any, setting: Any) -> None:
    policy = ProfiledPolicy(choices=(6, 2))
    assert (policy.choices, policy.longest) == ((0, 2, 6), 6)
    law = ConstantAcceptance(rate=0.9)
    table = policy.start(setting(machine, law)).table()
    for batch in range(1, 65):
        assert table[batch] == max((0, 2, 6), key=lambda k: machine.throughput(law, batch, k))
    with pytest.raises(InvalidInput, match="drafts 6 tokens and the program can run 0 to 3"):
        policy.start(setting(machine, longest=3))


def test_staying_captured_never_exceeds_the_largest_graph(machine: Any, setting: Any) -> None:
    free = ProfiledPolicy(stay_captured=True).start(
        setting(machine, ConstantAcceptance(rate=0.99), graph_sizes=(1, 8, 32), max_num_seqs=64)
    )
    unlimited = ProfiledPolicy().start(setting(machine, ConstantAcceptance(rate=0.99), max_num_seqs=64))
    for batch, (k, wanted) in enumerate(zip(free.table()[1:], unlimited.table()[1:], strict=True), start=1):
        assert k == max(0, min(wanted, 32 // batch - 1))
    assert 0 in free.table()[17:]


def test_held_lengths_change_no_sooner_than_they_may(machine: Any, setting: Any) -> None:
    """A batch that jumps across a boundary every step makes k jump; held, it changes every third step at most."""
    policy = ProfiledPolicy(hold_steps=3)
    law = ConstantAcceptance(rate=0.8)
    table = ProfiledPolicy().start(setting(machine, law)).table()
    assert table[1] != table[64]
    decider = policy.start(setting(machine, law))
    assert decider.table() is None
    seen = [decider.draft_tokens(1 if step % 2 else 64, 100.0) for step in range(24)]
    changes = [i for i in range(1, 24) if seen[i] != seen[i - 1]]
    assert changes
    assert min(b - a for a, b in pairwise(changes)) >= 3
    constant = policy.start(setting(machine, law))
    assert len({constant.draft_tokens(8, 100.0) for _ in range(20)}) == 1


def test_k_zero_is_always_a_choice(machine: Any, setting: Any) -> None:
    """Whatever may be chosen, a drafter that is never right is switched off."""
    useless = ConstantAcceptance(rate=0.0)
    for policy in (ProfiledPolicy(choices=(5,)), ThroughputPolicy(choices=(5,)), ProfiledPolicy()):
        assert policy.start(setting(machine, useless)).draft_tokens(4, 100.0) == 0
    assert FixedPolicy(k=0).start(setting(machine, useless)).table()[1] == 0
