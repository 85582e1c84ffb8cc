"""Trees: shape, exact acceptance, the optimum against brute force and greedy choice, drawn acceptance."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceDraws, ConditionalAcceptance, RecallAcceptance
from specsim.speculation.tree import DraftTree, RecallTable, chain, optimal_tree


@st.composite
def tables(draw: st.DrawFn, *, sorted_rows: bool = False) -> RecallTable:
    """Rows of recalls that add up to at most 1."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        parts = draw(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4))
        scale = draw(st.floats(0.1, 1.0)) / max(sum(parts), 1.0)
        row = [part * scale for part in parts]
        rows.append(tuple(sorted(row, reverse=True) if sorted_rows else row))
    return RecallTable(recall=tuple(rows))


trees = st.lists(st.floats(0, 1), max_size=9).map(
    lambda shares: DraftTree(
        tuple(int(share * (node + 1)) - 1 if share < 1 else node - 1 for node, share in enumerate(shares))
    )
)
TABLE = RecallTable(recall=((0.6, 0.2, 0.1), (0.5, 0.2), (0.4, 0.1)))


def test_a_small_tree_by_hand() -> None:
    """Two candidates for the next token; the better one has a child: 0.6 + 0.2 + 0.6·0.5."""
    tree = DraftTree((-1, -1, 0))
    assert (tree.depths(), tree.ranks()) == ([0, 0, 1], [0, 1, 0])
    assert tree.verify_width == 4
    assert tree.expected_tokens(TABLE) == pytest.approx(1 + 0.6 + 0.2 + 0.3)
    assert tree.survival(TABLE) == pytest.approx([0.8, 0.3])
    assert tree.ancestor_mask().astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]


@given(trees)
def test_a_node_sees_its_ancestors_and_nothing_else(tree: DraftTree) -> None:
    mask = tree.ancestor_mask()
    for node in range(tree.nodes):
        path, at = {0}, node
        while at >= 0:
            path.add(at + 1)
            at = tree.parents[at]
        assert set(np.flatnonzero(mask[node + 1]).tolist()) == path
    assert not np.triu(mask, 1).any()


@given(tables(), st.integers(0, 6))
def test_a_chain_is_a_tree_with_one_child(table: RecallTable, k: int) -> None:
    assert chain(k).verify_width == k + 1
    assert np.array_equal(chain(k).ancestor_mask(), np.tril(np.ones((k + 1, k + 1), dtype=bool)))
    first = [row[0] for row in table.recall] + [0.0] * 6
    expected = ConditionalAcceptance(rates=tuple(first)).expected_tokens(k)
    assert chain(k).expected_tokens(table) == pytest.approx(expected)
    assert RecallAcceptance(table=table).expected_tokens(k) == pytest.approx(expected)


@given(trees, tables(), st.integers(-1, 8))
def test_a_further_node_never_commits_fewer_tokens(tree: DraftTree, table: RecallTable, parent: int) -> None:
    grown = DraftTree((*tree.parents, min(parent, tree.nodes - 1)))
    assert grown.expected_tokens(table) >= tree.expected_tokens(table) - 1e-12


def every_tree(nodes: int) -> list[DraftTree]:
    return [DraftTree(parents) for parents in product(*(range(-1, node) for node in range(nodes)))]


@given(tables(), st.integers(0, 5))
@settings(max_examples=60)
def test_the_optimal_tree_is_the_best_of_all(table: RecallTable, nodes: int) -> None:
    best = max(tree.expected_tokens(table) for tree in every_tree(nodes))
    found = optimal_tree(table, nodes)
    assert found.nodes <= nodes
    assert found.expected_tokens(table) == pytest.approx(best)


@given(tables(sorted_rows=True), st.integers(0, 30))
def test_with_ordered_recalls_the_optimum_takes_the_most_probable_nodes(table: RecallTable, nodes: int) -> None:
    """Greedy choice by path probability is optimal there, for no child is likelier than its parent."""
    paths, layer = [], [1.0]
    for row in table.recall:
        layer = [above * recall for above in layer for recall in row]
        paths += layer
    greedy = 1 + sum(sorted(paths, reverse=True)[:nodes])
    assert optimal_tree(table, nodes).expected_tokens(table) == pytest.approx(greedy)


def test_a_large_optimum_beats_hand_made_trees_of_its_size() -> None:
    wide = DraftTree((-1, -1, -1, 0, 0, 1, 3, 3))
    assert optimal_tree(TABLE, wide.nodes).expected_tokens(TABLE) > wide.expected_tokens(TABLE)
    assert optimal_tree(TABLE, 200).nodes <= 3 + 3 * 2 + 6 * 2


@given(trees, tables())
@settings(max_examples=25)
def test_drawn_trees_accept_what_is_expected(tree: DraftTree, table: RecallTable) -> None:
    law, requests = RecallAcceptance(table=table, tree=tree.parents), 20_000
    ids = np.arange(requests)
    accepted = AcceptanceDraws(law, 2).accepted(ids, ids % 31, np.full(requests, tree.nodes))
    for depth, expected in enumerate(law.survival(tree.nodes), start=1):
        error = np.sqrt(expected * (1 - min(expected, 1.0)) / requests)
        assert abs((accepted >= depth).mean() - expected) <= 5 * error + 1e-9


def test_two_trees_share_the_luck() -> None:
    """The tree that holds the other's nodes accepts at least as much in every single round."""
    small, large = (RecallAcceptance(table=TABLE, tree=parents) for parents in ((-1, 0), (-1, 0, -1, 1, 2)))
    ids = np.arange(2000)
    few = AcceptanceDraws(small, 1).accepted(ids, ids, np.full(2000, 2))
    many = AcceptanceDraws(large, 1).accepted(ids, ids, np.full(2000, 5))
    assert np.all(many >= few)
    assert (many > few).any()


def test_what_is_no_tree_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tree node 1 has parent 1"):
        DraftTree((-1, 1))
    with pytest.raises(InvalidInput, match="3 nodes of a tree of 2"):
        RecallAcceptance(table=TABLE, tree=(-1, 0)).expected_tokens(3)
    with pytest.raises(ValidationError, match="at most one candidate is right"):
        RecallTable(recall=((0.9, 0.2),))
