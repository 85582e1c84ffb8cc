"""Compiled rules decide as plain Python does, over random streams of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.cost.forward import Group
from specsim.speculation.acceptance import ConditionalAcceptance, ConfidenceAcceptance
from specsim.speculation.policy import (
    ConfidencePolicy,
    Decider,
    PlusMinusPolicy,
    Rounds,
    ThresholdAdaptation,
    ThroughputPolicy,
    Tier,
    TieredPolicy,
    VerifyBudgetPolicy,
)
from tests.speculation.policy import plain_rules as plain

K = 4
RATES = (0.9, 0.6, 0.7, 0.3)
LAW = ConfidenceAcceptance.model_validate({"kind": "confidence", "levels": [{"confidence": 0.5, "weight": 1}]})


def decide(decider: Decider, seen: plain.Seen, step: plain.Step) -> tuple[list[int], int]:
    columns = np.array(seen, dtype=np.int64).reshape(-1, 3).T
    decider.observe(Rounds(*columns, step.batch))
    k = decider.draft_tokens(step.batch, step.context)
    if decider.uniform or not k:
        return plain.alike(step, k)
    confidences = np.array(step.confidences).reshape(-1, K)
    drafts = decider.lengths(np.array(step.going, dtype=np.int64), k, confidences)
    return drafts.lengths.tolist(), drafts.computed


def seconds_of(machine: Any) -> Any:
    def seconds(batch: int, k: int, context: float) -> float:
        return float(machine.decode_round(float(batch), k, context).seconds)

    return seconds


def verifying(machine: Any) -> Any:
    def seconds(sequences: int, drafts: int, context: float) -> float:
        """``drafts`` spread evenly."""
        each, more = divmod(drafts, sequences)
        widths = [(sequences - more, each + 1), (more, each + 2)]
        groups = [Group(n, width, context + width - 1, width) for n, width in widths if n]
        return float(machine.step(groups, drafting=sequences, draft_tokens=K, drafting_kv_tokens=context).seconds)

    return seconds


def pairs(machine: Any, setting: Any) -> dict[str, tuple[Decider, Any]]:
    chain, confident = (
        setting(machine, ConditionalAcceptance(rates=RATES), longest=K),
        setting(machine, LAW, longest=K),
    )
    tiers = [(1, [0, 1, 3]), (5, [1, 2, 4])]
    choices = [Tier(first_batch=first, choices=tuple(ks), interval=2, warmup=3) for first, ks in tiers]
    price = seconds_of(machine)
    return {
        "throughput": (
            ThroughputPolicy(ema=0.1, margin=0.02, off_bonus=0.05).start(chain),
            plain.Throughput(list(RATES), price, range(K + 1), 0.1, 0.02, 0.05),
        ),
        "choices": (
            ThroughputPolicy(ema=0.3, choices=(1, 4)).start(chain),
            plain.Throughput(list(RATES), price, (0, 1, 4), 0.3, 0.0, 0.0),
        ),
        "tiers": (TieredPolicy(tiers=tuple(choices)).start(chain), plain.Tiers(tiers, 2, 3)),
        "plus_minus": (PlusMinusPolicy(initial=3).start(chain), plain.PlusMinus(K)),
        "stop": (
            ConfidencePolicy(threshold=0.5, adapt=ThresholdAdaptation()).start(confident),
            plain.Confidence(K, 0.5, False),
        ),
        "keeping": (
            ConfidencePolicy(threshold=0.4, keep_last=True, adapt=ThresholdAdaptation()).start(confident),
            plain.Confidence(K, 0.4, True),
        ),
        "capacity": (VerifyBudgetPolicy(k=K, tokens=7).start(confident), plain.Budget(K, 7, None)),
        "best": (VerifyBudgetPolicy(k=K).start(confident), plain.Budget(K, None, verifying(machine))),
    }


NAMES = ("throughput", "choices", "tiers", "plus_minus", "stop", "keeping", "capacity", "best")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(data=st.data())
def test_decision_for_decision(make_machine: Any, setting: Any, name: str, data: st.DataObject) -> None:
    base, token, draft = (data.draw(st.floats(low, high)) for low, high in ((0.5, 20), (0.01, 2), (0.01, 3)))
    compiled, expected = pairs(make_machine(base, token, draft, 1e-4), setting)[name]
    luck = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    drafted: dict[int, int] = {}
    for _ in range(40):
        seen = [(request, d, int(luck.integers(d + 1))) for request, d in drafted.items() if d]
        going = luck.permutation(12)[: luck.integers(0, 9)].tolist()
        sure = luck.choice([0.2, 0.4937, 0.8, 0.97], (len(going), K)).tolist()
        step = plain.Step(max(len(going), 1) + int(luck.integers(3)), float(luck.uniform(1, 3000)), going, sure)
        found = decide(compiled, seen, step)
        assert found == expected.decide(seen, step)
        drafted = dict(zip(going, found[0], strict=True))


def test_all_that_learn_are_here(machine: Any, setting: Any) -> None:
    assert set(NAMES) == set(pairs(machine, setting))
