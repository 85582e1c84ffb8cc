"""What a replica's drafter does: who accepted what, how much is drafted next, and what of it is proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specsim.assembly import Assembly
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy.protocol import Decider, Rounds

Integers = NDArray[np.int64]


@dataclass(slots=True)
class Verified:
    """Accepted drafts of each share of a step; of those that verified any also who, drafted and accepted."""

    accepted: list[int]
    ids: Integers
    drafted: Integers
    right: Integers


class Drafting:
    """One replica's decider and the draws of all its request classes. The server must have speculation."""

    def __init__(self, server: Assembly) -> None:
        self._server = server
        decider = server.decider()
        assert decider is not None
        self._decider: Decider = decider
        self._draws: dict[str, AcceptanceDraws] = {}

    def accepted(self, ids: Integers, positions: Integers, drafted: Integers, classes: Sequence[str]) -> Integers:
        """Accepted drafts of each sequence, arrays of shape [sequences]."""
        found = np.zeros(len(ids), dtype=np.int64)
        for draws, mine in self._by_law(classes):
            found[mine] = draws.accepted(ids[mine], positions[mine], drafted[mine])
        return found

    def propose(
        self, verified: Verified, batch: int, kv_tokens: Sequence[int], ids: Integers, positions: Integers,
        classes: Sequence[str],
    ) -> tuple[list[int], int]:  # fmt: skip
        """Tokens that each of ``ids`` proposes, its next token standing at ``positions``; what the drafter computes.

        ``kv_tokens``: KV lengths of the sequences that will draft, of the whole step if none will.
        """
        decider, longest = self._decider, self._server.longest
        decider.observe(Rounds(verified.ids, verified.drafted, verified.right, batch))
        k = min(decider.draft_tokens(batch, sum(kv_tokens) / max(1, len(kv_tokens))), longest)
        if not k or not len(ids):
            return [0] * len(ids), k
        lengths, computed = np.full(len(ids), k, dtype=np.int64), k
        if not decider.uniform:
            confidences = np.zeros((len(ids), k)) if decider.needs_confidences else None
            if confidences is not None:
                for draws, mine in self._by_law(classes):
                    confidences[mine] = draws.confidences(ids[mine], positions[mine], k)
            drafts = decider.lengths(ids, k, confidences)
            lengths, computed = drafts.lengths, drafts.computed
        for draws, mine in self._by_law(classes):
            lengths[mine] = draws.proposed(ids[mine], positions[mine], lengths[mine])
        return lengths.tolist(), computed

    def _by_law(self, classes: Sequence[str]) -> list[tuple[AcceptanceDraws, Integers]]:
        """The draws of each class that is there, and where."""
        names = np.array(classes)
        return [(self._of(name), np.flatnonzero(names == name)) for name in dict.fromkeys(classes)]

    def _of(self, name: str) -> AcceptanceDraws:
        if name not in self._draws:
            law = self._server.law(name)
            assert law is not None
            self._draws[name] = AcceptanceDraws(law, self._server.seed)
        return self._draws[name]
