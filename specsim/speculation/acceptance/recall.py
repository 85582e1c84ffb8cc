"""Acceptance of draft trees by candidate rank; k drafted tokens are a tree of k nodes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import model_validator

from specsim.arrays import Floats, Integers
from specsim.errors import InvalidInput
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.tree import DraftTree, RecallTable, chain, optimal_tree
from specsim.speculation.uniform import uniform


class RecallAcceptance(AcceptanceLaw):
    """``tree``: chain, the best tree of k nodes (optimal), or parents, whose first k nodes are drafted."""

    kind: Literal["recall"] = "recall"
    table: RecallTable
    tree: Literal["chain", "optimal"] | tuple[int, ...] = "chain"

    @model_validator(mode="after")
    def _is_a_tree(self) -> RecallAcceptance:
        if isinstance(self.tree, tuple):
            DraftTree(self.tree)  # refuses
        return self

    def shape(self, draft_tokens: int) -> DraftTree:
        """The tree that ``draft_tokens`` nodes form. Raises InvalidInput if more are asked than the tree has."""
        if isinstance(self.tree, tuple):
            if draft_tokens > len(self.tree):
                raise InvalidInput(f"{draft_tokens} nodes of a tree of {len(self.tree)}; lower --draft-tokens")
            return DraftTree(self.tree[:draft_tokens])
        return chain(draft_tokens) if self.tree == "chain" else _optimal(self.table, draft_tokens)

    def survival(self, draft_tokens: int) -> Floats:
        """By depth, 0 beyond the tree's: a tree of k nodes may accept fewer than k in a row at best."""
        found = self.shape(draft_tokens).survival(self.table)
        return np.concatenate((found, np.zeros(draft_tokens - len(found))))

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        """Which rank holds the target's token is drawn by output position; then the tree is walked."""
        limits = np.cumsum(self.table.padded(), axis=1)
        depth = min(self.table.depth, track.shape[1])
        u = uniform(seed, request_ids[:, None], positions[:, None] + np.arange(depth))
        ranks = np.stack([np.searchsorted(limits[d], u[:, d], side="right") for d in range(depth)], axis=1)
        accepted = np.zeros(len(request_ids), dtype=np.int64)
        for k in np.unique(draft_tokens).tolist():
            children = self.shape(k).children(self.table.width)
            children = np.pad(children, ((0, 0), (0, 1)), constant_values=-1)  # the rank of no candidate
            rows = np.flatnonzero(draft_tokens == k)
            node, walking = np.full(len(rows), -1), np.ones(len(rows), dtype=bool)
            for d in range(depth):
                node = np.where(walking, children[node + 1, ranks[rows, d]], -1)
                walking &= node >= 0
                accepted[rows] += walking
        return accepted


@lru_cache(maxsize=256)
def _optimal(table: RecallTable, nodes: int) -> DraftTree:
    return optimal_tree(table, nodes)
