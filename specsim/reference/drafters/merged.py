"""Grown trees whose equal continuations are drafted once: a graph of tokens, unrolled for verification."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.drafters.grown import Candidates, Grown
from specsim.reference.drafters.stepwise import Stepwise, TreeShape


class Merged(Grown):
    """Graph-structured drafting (GSD, arXiv 2407.16207): a path that ends in the same tokens as one which was expanded
    is not expanded again but takes over what follows that one, at the other's conditional probabilities.

    ``merge_rate``: the share of expansions saved where acceptance is imposed; otherwise it is what the drafts show.
    The drafter must not carry states from pass to pass, because a merged path has none.
    """

    def __init__(self, source: Stepwise, depth: int, top_k: int, imposed: TreeShape, merge_rate: float) -> None:
        super().__init__(source, depth, top_k, imposed)
        self._merge_rate = merge_rate

    def candidates(self, sequences: int, width: int) -> Candidates:
        if self._grows:
            return Graph(sequences, width)
        return Candidates(sequences, max(1, round(width * (1 - self._merge_rate))))


class Graph(Candidates):
    """Candidates of which equal ones are merged: the last ``COMMON`` tokens of their paths are the same."""

    COMMON: ClassVar[int] = 2  # the code's two settings are 1 and 2

    def __init__(self, sequences: int, width: int) -> None:
        super().__init__(sequences, width)
        self._expanded: list[dict[tuple[int, ...], int]] = [{} for _ in range(sequences)]
        self._twins: list[list[tuple[int, int]]] = [[] for _ in range(sequences)]  # merged candidates and into which

    def choose(self) -> Integers:
        """Those of the best that are new; all sequences as many, so that some expand merged ones after all."""
        ranked = self.first + np.argsort(-self.scores[:, self.first :], axis=1, kind="stable")
        fresh = [self._sort_out(row, order[: self.width].tolist()) for row, order in enumerate(ranked)]
        width = max(1, *map(len, fresh))
        chosen = [self._filled(row, fresh[row], order, width) for row, order in enumerate(ranked.tolist())]
        return np.array(chosen, dtype=np.int64)

    def _filled(self, row: int, fresh: list[int], order: list[int], width: int) -> list[int]:
        again = [candidate for candidate, _ in self._twins[row][: width - len(fresh)]]
        self._twins[row] = self._twins[row][len(again) :]
        found = fresh + again
        return found + [one for one in order if one not in found][: width - len(found)]

    def _sort_out(self, row: int, best: list[int]) -> list[int]:
        """Those to expand; the others are noted as merged."""
        found: list[int] = []
        self._twins[row] = []
        for candidate in best:
            key = self._ending(row, candidate)
            if key not in self._expanded[row]:
                self._expanded[row][key] = candidate
                found.append(candidate)
            elif np.isfinite(self.scores[row, candidate]):
                self._twins[row].append((candidate, self._expanded[row][key]))
        return found

    def _ending(self, row: int, candidate: int) -> tuple[int, ...]:
        tokens: list[int] = []
        while candidate >= 0 and len(tokens) < self.COMMON:
            tokens.append(int(self.tokens[row, candidate]))
            candidate = int(self.parents[row, candidate])
        return tuple(tokens)

    def add(self, logits: Tensor) -> None:
        super().add(logits)
        taken = [self._taken_over(row, pairs) for row, pairs in enumerate(self._twins)]
        most = max(map(len, taken))
        if most:
            nobody = (-np.inf, 0, -1)
            rows = np.array([found + [nobody] * (most - len(found)) for found in taken])
            self.append(rows[:, :, 0], rows[:, :, 1].astype(np.int64), rows[:, :, 2].astype(np.int64))

    def _taken_over(self, row: int, pairs: list[tuple[int, int]]) -> list[tuple[float, int, int]]:
        """Score, token and parent of what follows merged candidates."""
        found = []
        for candidate, twin in pairs:
            self.places[row, candidate] = self.places[row, twin]
            gap = self.scores[row, candidate] - self.scores[row, twin]
            for child in np.flatnonzero(self.parents[row] == twin).tolist():
                found.append((float(self.scores[row, child] + gap), int(self.tokens[row, child]), candidate))
        return found
