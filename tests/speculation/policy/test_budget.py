"""A verify budget over the batch equals the best of all prefixes, enumerated."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.specs.engine import pad_to_graph
from specsim.speculation.policy import VerifyBudgetPolicy

CONFIDENCES = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=n, max_size=n)
)


class Staircase:
    """Tokens are padded to 4, 8 or 12; above that a step is dear."""

    def step(self, groups: Any, *, drafting: Any, draft_tokens: int, drafting_kv_tokens: Any) -> StepTime:
        tokens = np.asarray(sum((g.tokens for g in groups), 0.0))
        padded, captured = pad_to_graph(np.atleast_1d(tokens), (4, 8, 12))
        seconds = (3.0 + 0.5 * padded + np.where(captured, 0.0, 20.0) + 0.3 * draft_tokens).reshape(tokens.shape)
        return StepTime(seconds, {}, "roofline", seconds, seconds)

    def decode_round(self, batch: Any, draft_tokens: int, context_tokens: Any) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


def kept_survival(confidences: np.ndarray, lengths: Any) -> float:
    survival = np.cumprod(confidences, axis=1)
    return float(sum(survival[row, :length].sum() for row, length in enumerate(lengths)))


@settings(max_examples=60)
@given(rows=CONFIDENCES)
def test_the_best_budget_by_enumeration(setting: Any, rows: list[list[float]]) -> None:
    confidences, cost = np.array(rows), Staircase()
    count = len(rows)

    def value(lengths: Any) -> float:
        seconds = 3.0 + 0.5 * float(pad_to_graph(np.array([count + sum(lengths)]), (4, 8, 12))[0][0]) + 0.9
        return (count + kept_survival(confidences, lengths)) / seconds

    decider = VerifyBudgetPolicy(k=3).start(setting(cost, longest=3))
    drafts = decider.lengths(np.arange(count), decider.draft_tokens(count, 50.0), confidences)
    best = max(value(lengths) for lengths in product(range(4), repeat=count))
    assert value(drafts.lengths.tolist()) == pytest.approx(best, rel=1e-9)
    assert drafts.computed == 3


@settings(max_examples=60)
@given(rows=CONFIDENCES, tokens=st.integers(1, 9))
def test_a_fixed_capacity_keeps_the_most_survival(
    make_machine: Any, setting: Any, rows: list[list[float]], tokens: int
) -> None:
    confidences = np.array(rows)
    decider = VerifyBudgetPolicy(k=3, tokens=tokens).start(setting(make_machine(), longest=3))
    lengths = decider.lengths(np.arange(len(rows)), 3, confidences).lengths
    every = product(range(4), repeat=len(rows))
    best = max(kept_survival(confidences, option) for option in every if sum(option) <= tokens)
    assert lengths.sum() == min(tokens, 3 * len(rows))
    assert kept_survival(confidences, lengths) == pytest.approx(best, rel=1e-12)


def test_of_equals_a_draft_s_earlier_token_comes_first(machine: Any, setting: Any) -> None:
    decider = VerifyBudgetPolicy(k=4, tokens=5).start(setting(machine))
    lengths = decider.lengths(np.arange(2), 4, np.ones((2, 4))).lengths
    assert lengths.tolist() == [4, 1]
    many = VerifyBudgetPolicy(k=4, tokens=82).start(setting(machine))
    assert many.lengths(np.arange(40), 4, np.ones((40, 4))).lengths.tolist() == [4] * 20 + [2] + [0] * 19


def test_a_step_is_never_taken_to_get_cheaper_with_more_to_verify(setting: Any) -> None:
    """A width that was measured too fast (here 2 tokens in no time, 3 again dear) draws no drafts in."""

    class Glitch(Staircase):
        def step(self, groups: Any, *, drafting: Any, draft_tokens: int, drafting_kv_tokens: Any) -> StepTime:
            tokens = sum(g.tokens for g in groups)
            seconds = np.asarray({1: 10.0, 2: 1.0, 3: 20.0}[int(tokens)])
            return StepTime(seconds, {}, "roofline", seconds, seconds)

    decider = VerifyBudgetPolicy(k=2).start(setting(Glitch(), longest=2))
    confidences = np.array([[0.0, 0.9]])
    assert decider.lengths(np.arange(1), 2, confidences).lengths.tolist() == [0]


def test_certain_drafts_are_all_kept_and_hopeless_ones_none(make_machine: Any, setting: Any) -> None:
    decider = VerifyBudgetPolicy(k=4).start(setting(make_machine(10.0, 0.1, 0.1)))
    sure, hopeless = np.ones((3, 4)), np.full((3, 4), 0.001)
    assert decider.lengths(np.arange(3), 4, sure).lengths.tolist() == [4, 4, 4]
    assert decider.lengths(np.arange(3), 4, hopeless).lengths.tolist() == [0, 0, 0]


def test_no_drafting_above_the_largest_batch(machine: Any, setting: Any) -> None:
    decider = VerifyBudgetPolicy(k=4, max_batch=16).start(setting(machine))
    assert [decider.draft_tokens(batch, 9.0) for batch in (1, 16, 17)] == [4, 4, 0]
