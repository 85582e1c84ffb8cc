"""Trees grown anew each round by path probability, as EAGLE-2 does (arXiv 2406.16858, section 4).

Each pass expands the ``top_k`` candidates of highest path probability, each into its own ``top_k``; of all candidates
the ``nodes`` most probable are verified. What makes this better than a fixed tree is that confidence differs from
context to context: here each expanded node draws its context, and with it the recalls of its children.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from specsim.arrays import Floats
from specsim.speculation.tree import RecallTable
from specsim.speculation.uniform import uniform
from specsim.validated import Validated


class ContextRecall(Validated):
    """Recall tables of several kinds of context and how common each is. Confidence is taken to be calibrated: the
    drafter's probability of a candidate is its recall in that context.
    """

    smallest: ClassVar[float] = 0.0

    tables: tuple[RecallTable, ...] = Field(min_length=1)
    weights: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _alike(self) -> ContextRecall:
        if len(self.weights) != len(self.tables):
            raise ValueError(f"{len(self.tables)} tables and {len(self.weights)} weights; give one weight a table")
        if len({table.depth for table in self.tables}) > 1:
            raise ValueError("the tables of a context recall have different depths; give each the same")
        return self

    def shares(self) -> Floats:
        weights = np.array(self.weights)
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def stacked(self) -> Floats:
        """[contexts, depth, width]."""
        width = max(table.width for table in self.tables)
        padded = [table.padded() for table in self.tables]
        return np.stack([np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in padded])

    def mean(self) -> RecallTable:
        """What a fixed tree sees: recalls averaged over contexts."""
        averaged = np.tensordot(self.shares(), self.stacked(), axes=1)
        return RecallTable(recall=tuple(tuple(row) for row in averaged.tolist()))


@dataclass(frozen=True, slots=True)
class TreeEstimate:
    """Mean tokens a round commits, bonus token included, and the standard error of that mean."""

    expected_tokens: float
    standard_error: float


class ExpandedTree(Validated):
    """``nodes`` verified, out of ``depth`` passes that expand ``top_k`` candidates each (the first pass one)."""

    nodes: PositiveInt
    depth: PositiveInt
    top_k: PositiveInt

    @property
    def verify_width(self) -> int:
        """Tokens per sequence in the verify pass."""
        return self.nodes + 1

    @property
    def pass_widths(self) -> tuple[int, ...]:
        """Tokens per sequence in each sequential draft pass."""
        return (1, *(self.top_k for _ in range(self.depth - 1)))

    @property
    def draft_kv_tokens(self) -> int:
        """KV slots of the drafter that its passes fill."""
        return sum(self.pass_widths)

    def acceptance(self, contexts: ContextRecall, *, rounds: int = 10_000, seed: int = 0) -> TreeEstimate:
        """Over simulated rounds; exact, from one round, where there is one context.

        A round's tree is grown from drawn contexts and scored by its expected value given them, Σ of the verified
        nodes' path probabilities, so no noise of acceptance itself remains.
        """
        recall, limits = contexts.stacked(), np.cumsum(contexts.shares())
        rounds = 1 if len(limits) == 1 else rounds
        frontier, pool = np.ones((rounds, 1)), []
        ids, drawn = np.arange(rounds)[:, None], 0
        for depth in range(min(self.depth, recall.shape[1])):
            u = uniform(seed, ids, drawn + np.arange(frontier.shape[1]))
            drawn += frontier.shape[1]
            context = np.minimum(np.searchsorted(limits, u, side="right"), len(limits) - 1)
            children = np.sort(recall[context, depth], axis=-1)[..., ::-1][..., : self.top_k]
            candidates = (frontier[..., None] * children).reshape(rounds, -1)
            pool.append(candidates)
            frontier = _largest(candidates, self.top_k)
        accepted = _largest(np.concatenate(pool, axis=1), self.nodes).sum(axis=1)
        error = float(accepted.std(ddof=1) / np.sqrt(rounds)) if rounds > 1 else 0.0
        return TreeEstimate(1.0 + float(accepted.mean()), error)


def _largest(values: Floats, count: int) -> Floats:
    return np.asarray(np.sort(values, axis=1)[:, ::-1][:, :count])
