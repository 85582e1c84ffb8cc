"""Draft trees as passes see them: what each drafting pass runs, what the verify pass runs, which path is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from specsim.arrays import Integers
from specsim.reference.network.passes import Branches
from specsim.speculation.tree import DraftTree, chain


@dataclass(frozen=True, slots=True)
class Level:
    """The nodes of one depth, read off the logits of one pass, and those of them that the next pass runs.

    ``parents``: each node's row among those of the pass, ``ranks`` its place among that row's candidates.
    ``fed``: which of ``nodes`` have children, ``before`` how many places of the tree stand in the cache already.
    """

    nodes: Integers
    parents: Integers
    ranks: Integers
    fed: Integers
    before: int
    branches: Branches | None  # None: one token behind the other

    @property
    def candidates(self) -> int:
        """Tokens to read off each row."""
        return int(self.ranks.max()) + 1


@lru_cache(maxsize=256)
def levels(tree: DraftTree) -> tuple[Level, ...]:
    """Depth by depth. A drafter's cache holds the nodes with children in the order in which passes ran them."""
    depths, ranks = np.array(tree.depths(), dtype=np.int64), np.array(tree.ranks(), dtype=np.int64)
    inner = set(tree.parents)
    parents = np.array(tree.parents, dtype=np.int64)
    ancestors = tree.ancestor_mask()[1:, 1:]
    straight = tree == chain(tree.nodes)
    found: list[Level] = []
    stored: list[int] = []
    rows = [-1]
    for depth in range(int(depths.max(initial=-1)) + 1):
        nodes = np.flatnonzero(depths == depth)
        row_of = {node: row for row, node in enumerate(rows)}
        rows = [node for node in nodes.tolist() if node in inner]
        before, stored = len(stored), stored + rows
        branches = None
        if not straight:
            seen = ancestors[np.ix_(rows, stored)]
            branches = Branches(before, np.full(len(rows), depth), seen)
        found.append(
            Level(
                nodes,
                np.array([row_of[p] for p in parents[nodes].tolist()]),
                ranks[nodes],
                np.flatnonzero(np.isin(nodes, rows)),
                before,
                branches,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class VerifiedTree:
    """A tree as verification walks it. Row 0 is the last known token, row i + 1 node i."""

    parents: tuple[int, ...]
    accepted: Integers  # [nodes + 1], drafts on the path to each row
    paths: Integers  # [nodes + 1, depth], the nodes on it, then zeros
    first: Integers  # [depth + 1], the first row that so many drafts lead to

    def longest(self, drafts: Integers, choices: Integers) -> Integers:
        """The row that ends the longest path of right drafts; ``drafts`` [n, nodes], ``choices`` [n, nodes + 1]."""
        right = np.ones(choices.shape, dtype=bool)
        for node, parent in enumerate(self.parents):
            right[:, node + 1] = right[:, parent + 1] & (drafts[:, node] == choices[:, parent + 1])
        rows: Integers = np.where(right, self.accepted, -1).argmax(axis=1)
        return rows


@lru_cache(maxsize=256)
def verified(parents: tuple[int, ...]) -> VerifiedTree:
    """How to walk a tree, or the first nodes of one."""
    accepted = np.array([0, *(d + 1 for d in DraftTree(parents).depths())], dtype=np.int64)
    paths = np.zeros((len(accepted), int(accepted.max())), dtype=np.int64)
    for node, parent in enumerate(parents):
        paths[node + 1] = paths[parent + 1]
        paths[node + 1, accepted[node + 1] - 1] = node
    first = np.array([int((accepted == depth).argmax()) for depth in range(int(accepted.max()) + 1)])
    return VerifiedTree(parents, accepted, paths, first)


@lru_cache(maxsize=256)
def verify_branches(known: int, parents: tuple[int, ...]) -> Branches | None:
    """How ``known`` tokens in a row and a tree behind them stand in a verify pass; None where all is one row."""
    if parents == chain(len(parents)).parents:
        return None
    whole = DraftTree((*range(-1, known - 1), *(parent + known for parent in parents)))
    return Branches(0, np.array(whole.depths(), dtype=np.int64), whole.ancestor_mask()[1:, 1:])
