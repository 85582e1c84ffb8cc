"""Dynamic trees against the optimal fixed tree, and against enumeration of all contexts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.speculation.dynamic_tree import ContextRecall, ExpandedTree
from specsim.speculation.tree import RecallTable, optimal_tree

EASY = RecallTable(recall=((0.9, 0.05), (0.85, 0.1)))
HARD = RecallTable(recall=((0.4, 0.3), (0.35, 0.3)))
MIXED = ContextRecall(tables=(EASY, HARD), weights=(2.0, 1.0))


@given(st.lists(st.floats(0.05, 0.3), min_size=2, max_size=3), st.integers(1, 4), st.integers(1, 25))
@settings(deadline=None)
def test_one_context_and_wide_passes_give_the_optimal_tree(row: list[float], depth: int, nodes: int) -> None:
    table = RecallTable(recall=(tuple(sorted(row, reverse=True)),) * depth)
    contexts = ContextRecall(tables=(table,), weights=(1.0,))
    found = ExpandedTree(nodes=nodes, depth=depth, top_k=100).acceptance(contexts)
    assert found.expected_tokens == pytest.approx(optimal_tree(table, nodes).expected_tokens(table))
    assert found.standard_error == 0.0


def enumerated(nodes: int) -> float:
    """Two passes, two wide: every assignment of contexts to the root and its two children."""
    total = 0.0
    shares = {0: 2 / 3, 1: 1 / 3}
    tables = (EASY.recall, HARD.recall)
    for contexts in product((0, 1), repeat=3):
        chance = shares[contexts[0]] * shares[contexts[1]] * shares[contexts[2]]
        first = tables[contexts[0]][0]
        second = [above * p for above, c in zip(first, contexts[1:], strict=True) for p in tables[c][1]]
        total += chance * (1 + sum(sorted([*first, *second], reverse=True)[:nodes]))
    return total


@pytest.mark.parametrize("nodes", [1, 3, 6])
def test_simulated_rounds_agree_with_enumeration(nodes: int) -> None:
    found = ExpandedTree(nodes=nodes, depth=2, top_k=2).acceptance(MIXED, rounds=40_000, seed=3)
    assert abs(found.expected_tokens - enumerated(nodes)) <= 4.5 * found.standard_error
    assert 0 < found.standard_error < 0.01


def test_looking_at_confidence_beats_the_best_fixed_tree() -> None:
    """A fixed tree sees the recalls of the average context only."""
    fixed = optimal_tree(MIXED.mean(), 3).expected_tokens(MIXED.mean())
    found = ExpandedTree(nodes=3, depth=2, top_k=2).acceptance(MIXED, rounds=40_000)
    assert found.expected_tokens - fixed > 10 * found.standard_error


def test_more_nodes_and_wider_passes_never_accept_less() -> None:
    def tokens(nodes: int, top_k: int) -> float:
        return ExpandedTree(nodes=nodes, depth=2, top_k=top_k).acceptance(MIXED, rounds=500).expected_tokens

    assert tokens(1, 2) <= tokens(2, 2) <= tokens(4, 2) <= tokens(50, 2)
    assert tokens(4, 1) <= tokens(4, 2)


def test_shape_of_a_dynamic_tree() -> None:
    tree = ExpandedTree(nodes=60, depth=7, top_k=10)  # EAGLE-2 on a 7B model
    assert tree.verify_width == 61
    assert tree.pass_widths == (1, 10, 10, 10, 10, 10, 10)
    assert tree.draft_kv_tokens == 61


def test_contexts_are_averaged_by_weight() -> None:
    assert MIXED.mean().recall[0] == pytest.approx(((2 * 0.9 + 0.4) / 3, (2 * 0.05 + 0.3) / 3))
