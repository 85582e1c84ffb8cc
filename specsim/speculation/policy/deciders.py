"""k by batch size alone, and limits that go around any decider."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.speculation.policy.protocol import Drafts, Rounds

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


class ByBatch:
    """k by batch size: entry b of ``table``, and the last entry beyond it."""

    uniform, needs_confidences = True, False

    def __init__(self, table: Sequence[int]) -> None:
        self._table = [int(k) for k in table]

    def table(self) -> Sequence[int]:
        return self._table

    def observe(self, rounds: Rounds) -> None:
        """Nothing to learn."""

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._table[min(batch, len(self._table) - 1)]

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        return Drafts(np.full(len(request_ids), draft_tokens, dtype=np.int64), draft_tokens)


def limited(inner: ByBatch | Learning, most: Sequence[int]) -> ByBatch | Learning:
    """``inner``, not yet asked, with k at most ``most`` by batch size; its last entry holds beyond it."""
    if not isinstance(inner, ByBatch):
        inner.limit(most)
        return inner
    table = inner.table()
    length = max(len(table), len(most))
    whole = [(table[min(batch, len(table) - 1)], most[min(batch, len(most) - 1)]) for batch in range(length)]
    return ByBatch([min(pair) for pair in whole])


def held(inner: ByBatch | Learning, steps: int) -> ByBatch | Learning:
    """``inner`` with k that stays for at least ``steps`` decisions once it has changed."""
    if steps == 1:
        return inner
    if isinstance(inner, ByBatch):
        from specsim.speculation.policy.rules.by_context import by_context  # numba comes with it

        inner = by_context([1.0], [inner.table()])
    inner.hold(steps)
    return inner


def at_most(choices: Sequence[int], k: float) -> int:
    """The largest of ascending ``choices`` that does not exceed k; the first where all do."""
    return choices[max(0, bisect_right(choices, k) - 1)]
