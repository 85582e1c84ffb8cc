"""Draft-length policies, and the rules a batch -> k table must keep."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

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
