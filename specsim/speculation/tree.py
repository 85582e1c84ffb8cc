"""Draft trees: which candidates to verify together, and how many tokens that commits.

A recall table gives P(the candidate of rank r at depth d is the target's token | its parent was). Candidates of one
parent are distinct tokens, so at most one of them is right, and a tree commits 1 + Σ over nodes of the product of the
recalls on the node's path (Sequoia, arXiv 2402.12374, and Medusa, arXiv 2401.10774).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.validated import Validated

ROOT = -1
RecallRow = tuple[Annotated[float, Field(ge=0, le=1)], ...]


class RecallTable(Validated):
    """``recall[depth][rank]``, both from 0: depth 0 holds the candidates for the next token."""

    smallest: ClassVar[float] = 0.0

    recall: tuple[RecallRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _at_most_one_is_right(self) -> RecallTable:
        for depth, row in enumerate(self.recall):
            if not row:
                raise ValueError(f"depth {depth} has no candidates; leave the row out")
            if sum(row) > 1 + 1e-9:
                raise ValueError(f"recalls at depth {depth} add up to {sum(row):g}; at most one candidate is right")
        return self

    @property
    def depth(self) -> int:
        return len(self.recall)

    @property
    def width(self) -> int:
        return max(len(row) for row in self.recall)

    def padded(self) -> Floats:
        """[depth, width], 0 where there is no candidate."""
        table = np.zeros((self.depth, self.width))
        for depth, row in enumerate(self.recall):
            table[depth, : len(row)] = row
        return table


@dataclass(frozen=True)
class DraftTree:
    """``parents[i]``: the node that node i continues, -1 for the last committed token; parents come first.

    A node's rank is its place among its siblings. [-1, 0, 1] is a chain of three, [-1, -1, 0] two candidates for the
    next token, the better one of which is continued.
    """

    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        for node, parent in enumerate(self.parents):
            if not ROOT <= parent < node:
                raise InvalidInput(f"tree node {node} has parent {parent}; a parent is -1 or an earlier node")

    @property
    def nodes(self) -> int:
        return len(self.parents)

    @property
    def verify_width(self) -> int:
        """Tokens per sequence in the verify pass: the nodes, and the last committed token."""
        return self.nodes + 1

    def depths(self) -> list[int]:
        """Depth of each node, 0 for a candidate for the next token."""
        found: list[int] = []
        for parent in self.parents:
            found.append(0 if parent == ROOT else found[parent] + 1)
        return found

    def ranks(self) -> list[int]:
        """Place of each node among its siblings."""
        seen: dict[int, int] = {}
        found = []
        for parent in self.parents:
            found.append(seen.get(parent, 0))
            seen[parent] = found[-1] + 1
        return found

    def ancestor_mask(self) -> NDArray[np.bool_]:
        """[verify width, verify width]: may query row see key column; row 0 is the last committed token."""
        mask = np.eye(self.verify_width, dtype=bool)
        mask[:, 0] = True
        for node, parent in enumerate(self.parents, start=1):
            mask[node] |= mask[parent + 1]
        return mask

    def children(self, width: int) -> NDArray[np.int64]:
        """[nodes + 1, width]: the child of a rank, -1 if the tree has none; row 0 is the root, row i + 1 node i."""
        table = np.full((self.nodes + 1, width), -1, dtype=np.int64)
        for node, (parent, rank) in enumerate(zip(self.parents, self.ranks(), strict=True)):
            if rank < width:
                table[parent + 1, rank] = node
        return table

    def probabilities(self, table: RecallTable) -> Floats:
        """P(the path to each node is what the target says), [nodes]; 0 for candidates the table does not hold."""
        recall, found = table.padded(), np.zeros(self.nodes)
        for node, (parent, depth, rank) in enumerate(zip(self.parents, self.depths(), self.ranks(), strict=True)):
            above = 1.0 if parent == ROOT else found[parent]
            inside = depth < table.depth and rank < table.width
            found[node] = above * recall[depth, rank] if inside else 0.0
        return found

    def survival(self, table: RecallTable) -> Floats:
        """r_1, r_2, ...: P(at least i drafts of the path are accepted), [depth]."""
        depths = self.depths()
        if not depths:
            return np.zeros(0)
        return np.asarray(np.bincount(depths, self.probabilities(table)), dtype=np.float64)

    def expected_tokens(self, table: RecallTable) -> float:
        """Mean tokens a round commits, bonus token included."""
        return 1.0 + float(self.probabilities(table).sum())


def chain(draft_tokens: int) -> DraftTree:
    """The tree in which every node has one child."""
    return DraftTree(tuple(range(-1, draft_tokens - 1)))


def optimal_tree(table: RecallTable, nodes: int) -> DraftTree:
    """The tree of at most ``nodes`` nodes that commits most (dynamic programming as in Sequoia, section 3.1).

    best[d][r][n]: accepted drafts under a right parent from candidates of rank ≥ r at depth d, with n nodes. The
    candidate of rank r takes 1 + m of them, m for what follows it, or is left out with all behind it. Trees use a
    parent's candidates in order of rank. Time grows with depth·width·nodes².
    """
    if nodes < 0:
        raise InvalidInput(f"a tree of {nodes} nodes; ask for at least 0")
    recall = table.padded()
    best = np.zeros((table.depth + 1, table.width + 1, nodes + 1))
    taken = np.full((table.depth, table.width, nodes + 1), -1, dtype=np.int64)  # nodes below, -1: left out
    for depth in reversed(range(table.depth)):
        for rank in reversed(range(table.width)):
            below = recall[depth, rank] * (1.0 + best[depth + 1, 0])
            for budget in range(1, nodes + 1):
                value = below[:budget] + best[depth, rank + 1, :budget][::-1]
                choice = int(value.argmax())
                if value[choice] > 0:
                    best[depth, rank, budget], taken[depth, rank, budget] = value[choice], choice
    parents: list[int] = []
    queue = deque([(ROOT, 0, nodes)])
    while queue:
        parent, depth, budget = queue.popleft()
        for rank in range(table.width if depth < table.depth else 0):
            below_here = int(taken[depth, rank, budget])
            if below_here < 0:
                break
            parents.append(parent)
            queue.append((len(parents) - 1, depth + 1, below_here))
            budget -= 1 + below_here
    return DraftTree(tuple(parents))
