"""What deciders share: one k for a whole step, k by batch size alone, and limits that go around any of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.speculation.policy.protocol import Decider, Drafts, Rounds


class DeciderBase:
    """What a decider does unless it says otherwise: all sequences of a step draft k tokens, and nothing is learned."""

    @property
    def uniform(self) -> bool:
        return True

    @property
    def needs_confidences(self) -> bool:
        return False

    def table(self) -> Sequence[int] | None:
        return None

    def observe(self, rounds: Rounds) -> None:
        """Nothing to learn."""

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        return Drafts(np.full(len(request_ids), draft_tokens, dtype=np.int64), draft_tokens)


class ByBatch(DeciderBase):
    """k by batch size: entry b of ``table``, and the last entry beyond it."""

    def __init__(self, table: Sequence[int]) -> None:
        self._table = [int(k) for k in table]

    def table(self) -> Sequence[int]:
        return self._table

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._table[min(batch, len(self._table) - 1)]


class _Around:
    """Passes everything on to an inner decider but ``draft_tokens``."""

    def __init__(self, inner: Decider) -> None:
        self._inner = inner

    @property
    def uniform(self) -> bool:
        return self._inner.uniform

    @property
    def needs_confidences(self) -> bool:
        return self._inner.needs_confidences

    def table(self) -> Sequence[int] | None:
        return None

    def observe(self, rounds: Rounds) -> None:
        self._inner.observe(rounds)

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        return self._inner.lengths(request_ids, draft_tokens, confidences)


class Limited(_Around):
    """k goes through ``limit(batch, k)``."""

    def __init__(self, inner: Decider, limit: Callable[[int, int], int]) -> None:
        super().__init__(inner)
        self._limit = limit

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._limit(batch, self._inner.draft_tokens(batch, context_tokens))


class Held(_Around):
    """k stays for at least ``steps`` decisions once it has changed."""

    def __init__(self, inner: Decider, steps: int) -> None:
        super().__init__(inner)
        self._steps = steps
        self._k: int | None = None
        self._age = 0

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        wanted = self._inner.draft_tokens(batch, context_tokens)
        if self._k is None or (wanted != self._k and self._age >= self._steps):
            self._k, self._age = wanted, 0
        self._age += 1
        return self._k


def limited(inner: Decider, limit: Callable[[int, int], int]) -> Decider:
    """``inner`` with k through ``limit(batch, k)``; what depends on batch alone stays a table."""
    table = inner.table()
    if table is None:
        return Limited(inner, limit)
    return ByBatch([limit(batch, k) for batch, k in enumerate(table)])


def at_most(choices: Sequence[int], k: float) -> int:
    """The largest of ascending ``choices`` that does not exceed k; the first where all do."""
    return choices[max(0, bisect_right(choices, k) - 1)]


def longest_of(lengths: Integers, draft_tokens: int) -> int:
    """Draft passes of a batch; ``draft_tokens`` where no sequence drafts, since prompts in the step are still read."""
    return int(lengths.max()) if len(lengths) else draft_tokens
