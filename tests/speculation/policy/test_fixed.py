"""Draft lengths written out by hand, and the rules a batch -> k table must keep."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from specsim.errors import InvalidInput
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy, TablePolicy


def test_fixed_and_off_above() -> None:
    assert FixedPolicy(k=3).draft_tokens(999) == 3
    policy = OffAbovePolicy(k=4, max_batch=16)
    assert [policy.draft_tokens(b) for b in (1, 16, 17)] == [4, 4, 0]


def test_table_gaps_and_the_tail_keep_the_k_before() -> None:
    policy = TablePolicy(ranges=((1, 4, 5), (8, 16, 2), (17, 64, 0)))
    assert [policy.draft_tokens(b) for b in (1, 4, 6, 8, 16, 17, 500)] == [5, 5, 5, 2, 2, 0, 0]
    assert policy.longest == 5


@pytest.mark.parametrize(
    ("ranges", "rule"),
    [
        (((2, 4, 1),), "must start at batch 1"),
        (((1, 4, 1), (4, 8, 0)), "inside the one ending at 4"),
        (((1, 4, 1), (8, 5, 0)), "ends before it starts"),
        ((), "at least 1 item"),
    ],
)
def test_malformed_tables_name_their_rule(ranges: tuple[tuple[int, int, int], ...], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        TablePolicy(ranges=ranges)


@pytest.mark.parametrize(
    "policy",
    [FixedPolicy(k=3), OffAbovePolicy(k=4, max_batch=16), TablePolicy(ranges=((1, 4, 5), (8, 16, 2), (17, 64, 0)))],
)
def test_a_decider_does_what_the_policy_says_at_every_batch(policy: Any, machine: Any, setting: Any) -> None:
    decider = policy.start(setting(machine, max_num_seqs=100))
    table = decider.table()
    assert len(table) == 101
    for batch in range(1, 101):
        assert decider.draft_tokens(batch, 5.0) == table[batch] == policy.draft_tokens(batch)
    assert decider.draft_tokens(300, 5.0) == table[100]
    assert decider.uniform
    assert not decider.needs_confidences
    assert machine.asked == 0  # a rule written by hand needs no prices


def test_a_length_that_the_program_cannot_run_is_told(machine: Any, setting: Any) -> None:
    with pytest.raises(InvalidInput, match="drafts 5 tokens and the program can run 0, 4, 16"):
        FixedPolicy(k=5).start(setting(machine, choices=(0, 4, 16)))
