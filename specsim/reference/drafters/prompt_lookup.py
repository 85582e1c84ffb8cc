"""Tokens copied from a sequence's own past, or from a reference text in its prompt."""

from __future__ import annotations

import numpy as np

from specsim.arrays import Integers
from specsim.reference.drafters.base import Drafter, History, Judge, Prefills, Proposal, Stopwatch


class NGram(Drafter):
    """Prompt look-up: the longest suffix of ``longest``..1 tokens that occurred before, and what followed it there.

    Saxena 2023 (prompt-lookup-decoding). Of several occurrences the earliest one, which has most tokens behind it.
    With a reference document in the prompt it is LLMA (Yang et al., arXiv 2304.04487).
    """

    def __init__(self, longest: int = 3) -> None:
        self.longest = longest

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        drafts = np.zeros((len(slots), draft_tokens), dtype=np.int64)
        counts = np.zeros(len(slots), dtype=np.int64)
        for row, (slot, length) in enumerate(zip(slots.tolist(), history.lengths[slots].tolist(), strict=True)):
            found = self.look_up(history.tokens[slot, :length], draft_tokens)
            counts[row] = len(found)
            drafts[row, : len(found)] = found
        return Proposal(drafts, counts)

    def look_up(self, tokens: Integers, draft_tokens: int) -> Integers:
        """At most ``draft_tokens`` tokens, none without a match. [5 6 7 5 6] and 2 give [7 5]."""
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # where the last token occurred before
        for back in range(1, min(self.longest, len(tokens) - 1)):
            longer = ends[ends >= back]
            longer = longer[tokens[longer - back] == tokens[-1 - back]]
            if not longer.size:
                break
            ends = longer
        if not ends.size:
            return tokens[:0]
        return tokens[ends[0] + 1 : ends[0] + 1 + draft_tokens]
