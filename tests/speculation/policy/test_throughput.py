"""The arg-max that learns: its averages by hand, what it converges to, and that it does not swing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.jit import array_at
from specsim.speculation.acceptance import AcceptanceDraws, ConditionalAcceptance, ConstantAcceptance
from specsim.speculation.policy import Rounds, ThroughputPolicy
from specsim.speculation.policy.rules.throughput import BELIEF


def rounds(*pairs: tuple[int, int], batch: int = 8) -> Rounds:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Rounds(np.arange(len(table)), table[:, 0], table[:, 1], batch)


def rates_of(decider: Any) -> list[float]:
    belief = array_at(int(decider.record["state"][0]), 1, BELIEF)
    rates = array_at(int(belief["rates"][0]), int(belief["num_rates"][0]), np.dtype(np.float64))
    return [float(rate) for rate in rates]


def believing(machine: Any, setting: Any, rates: tuple[float, ...], ema: float) -> Any:
    law = ConditionalAcceptance(rates=rates)
    return ThroughputPolicy(ema=ema).start(setting(machine, law, longest=len(rates)))


def test_rates_by_hand(machine: Any, setting: Any) -> None:
    """Position 1: two of four right; position 2: seen twice, right once; position 3 never reached with a draft."""
    decider = believing(machine, setting, (0.8, 0.8, 0.8), 0.5)
    decider.observe(rounds((2, 0), (2, 1), (1, 0), (2, 2)))
    kept = 0.5**4, 0.5**2
    expected = [kept[0] * 0.8 + (1 - kept[0]) * 0.5, kept[1] * 0.8 + (1 - kept[1]) * 0.5, 0.8]
    assert rates_of(decider) == pytest.approx(expected)


def test_nothing_seen_changes_nothing(machine: Any, setting: Any) -> None:
    decider = believing(machine, setting, (0.3, 0.6), 0.9)
    decider.observe(rounds())
    assert rates_of(decider) == pytest.approx([0.3, 0.6], rel=1e-12)


def test_rates_find_the_law_that_draws(machine: Any, setting: Any) -> None:
    true = (0.9, 0.5, 0.7)
    draws = AcceptanceDraws(ConditionalAcceptance(rates=true), 4)
    decider = believing(machine, setting, (0.1, 0.1, 0.1), 0.001)
    ids, three = np.arange(64), np.full(64, 3)
    for step in range(400):
        decider.observe(Rounds(ids, three, draws.accepted(ids, np.full(64, 4 * step), three), 64))
    assert rates_of(decider) == pytest.approx(true, abs=0.03)


@pytest.mark.parametrize(("believed", "true"), [(0.2, 0.9), (0.95, 0.3), (0.7, 0.7)])
def test_it_learns_the_best_k_for_what_the_run_draws(machine: Any, setting: Any, believed: float, true: float) -> None:
    decider = ThroughputPolicy(explore=0.2, ema=0.005).start(
        setting(machine, ConstantAcceptance(rate=believed), longest=5, seed=1)
    )
    law, ids = ConstantAcceptance(rate=true), np.arange(8)
    draws, seen, position = AcceptanceDraws(law, 2), [], 1
    for _ in range(3000):
        k = decider.draft_tokens(8, 100.0)
        seen.append(k)
        drafted = np.full(8, k)
        accepted = draws.accepted(ids, np.full(8, position), drafted)
        decider.observe(Rounds(ids, drafted, accepted, 8) if k else rounds())
        position += 6
    values = [machine.throughput(law, 8, k) for k in range(6)]
    settled = max(set(seen[-500:]), key=seen[-500:].count)
    assert values[settled] >= 0.995 * max(values)


@settings(max_examples=50)
@given(
    run=st.integers(0, 6),
    belief=st.floats(0.0, 1.0),
    base=st.floats(0.1, 20),
    token=st.floats(0.0, 2.0),
    draft=st.floats(0.0, 5.0),
    margin=st.sampled_from([0.0, 0.05]),
)
def test_k_settles_under_constant_input(
    make_machine: Any, setting: Any, run: int, belief: float, base: float, token: float, draft: float, margin: float
) -> None:
    """Every round would accept ``run`` drafts: after enough of them k never changes again."""
    policy = ThroughputPolicy(margin=margin, ema=0.2)
    decider = policy.start(setting(make_machine(base, token, draft), ConstantAcceptance(rate=belief), longest=6))
    seen = []
    for _ in range(300):
        k = decider.draft_tokens(4, 100.0)
        seen.append(k)
        decider.observe(rounds(*[(k, min(k, run))] * 4) if k else rounds())
    assert len(set(seen[-100:])) == 1
    without_news = policy.start(setting(make_machine(base, token, draft), ConstantAcceptance(rate=belief), longest=6))
    assert len({without_news.draft_tokens(4, 100.0) for _ in range(50)}) == 1


def test_a_margin_must_be_earned(machine: Any, setting: Any) -> None:
    """Going from batch 1 to 64, another k is better by some share; it is taken for a smaller margin only."""
    law = ConstantAcceptance(rate=0.8)

    def after_the_jump(margin: float) -> tuple[int, int]:
        decider = ThroughputPolicy(margin=margin).start(setting(machine, law))
        return decider.draft_tokens(1, 100.0), decider.draft_tokens(64, 100.0)

    first, best = after_the_jump(0.0)
    gain = machine.throughput(law, 64, best) / machine.throughput(law, 64, first) - 1
    assert best != first
    assert after_the_jump(gain * 0.9) == (first, best)
    assert after_the_jump(gain * 1.1) == (first, first)


def test_a_bonus_for_off(make_machine: Any, setting: Any) -> None:
    """k = 1 at rate 0.5 and (10 + 2·0.1 + 3.5)/1.5 = 9.13 s a token beats off, 10.1 s, by 10.6 %."""
    machine = make_machine(10.0, 0.1, 3.5)
    made = setting(machine, ConstantAcceptance(rate=0.5), longest=1)
    assert ThroughputPolicy(off_bonus=0.10).start(made).draft_tokens(1, 100.0) == 1
    assert ThroughputPolicy(off_bonus=0.11).start(made).draft_tokens(1, 100.0) == 0


def test_exploration_is_a_seeded_share_of_the_decisions(machine: Any, setting: Any) -> None:
    law = ConstantAcceptance(rate=0.8)

    def run(explore: float, seed: int) -> list[int]:
        decider = ThroughputPolicy(explore=explore).start(setting(machine, law, longest=3, seed=seed))
        return [decider.draft_tokens(8, 100.0) for _ in range(2000)]

    best = run(0.0, 0)[0]
    assert set(run(0.0, 0)) == {best}
    assert run(0.3, 5) == run(0.3, 5) != run(0.3, 6)
    off_best = sum(k != best for k in run(0.3, 5)) / 2000
    assert off_best == pytest.approx(0.3 * 3 / 4, abs=0.04)
    assert set(run(1.0, 0)) == {0, 1, 2, 3}


def test_only_exploration_brings_speculation_back(machine: Any, setting: Any) -> None:
    """Believed useless and in truth always right: without a try nothing shows it."""

    def last(explore: float) -> int:
        decider = ThroughputPolicy(explore=explore, ema=0.2).start(setting(machine, ConstantAcceptance(rate=0.0)))
        seen = []
        for _ in range(400):
            k = decider.draft_tokens(8, 100.0)
            seen.append(k)
            decider.observe(rounds(*[(k, k)] * 8) if k else rounds())
        return max(set(seen[-100:]), key=seen[-100:].count)

    assert last(0.0) == 0
    assert last(0.2) == 8


def test_decisions_only_every_few_steps(machine: Any, setting: Any) -> None:
    decider = ThroughputPolicy(every=5).start(setting(machine, ConstantAcceptance(rate=0.8)))
    seen = [decider.draft_tokens(1 if step < 7 else 64, 100.0) for step in range(20)]
    assert len(set(seen[:10])) == 1  # the batch changed at step 7, and step 10 is the next to decide
    assert len(set(seen[10:])) == 1
    assert seen[9] != seen[10]


def test_coming_back_must_pay_for_the_drafter_s_lost_time(machine: Any, setting: Any) -> None:
    law = ConstantAcceptance(rate=0.8)
    useless_at = 2000  # where the token price makes off the best

    def back(cost_s: float) -> tuple[int, int, int]:
        decider = ThroughputPolicy(switch_cost_s=cost_s).start(setting(machine, law, max_num_seqs=useless_at))
        ks = [decider.draft_tokens(batch, 100.0) for batch in (1, useless_at, 1)]
        return ks[0], ks[1], ks[2]

    on, off, again = back(0.0)
    assert on == again > 0 == off
    assert back(1e6) == (on, 0, 0)  # and it costs nothing to stay on
