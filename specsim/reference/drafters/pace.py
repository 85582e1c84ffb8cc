"""How far a drafter's own cache has come with each sequence, and what it must be fed to keep up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.drafters.base import Prefills


@dataclass(frozen=True, slots=True)
class Span:
    """Places ``starts`` [n] to ``starts + width`` of some slots; the last ``logit_rows`` of each get logits."""

    slots: Integers
    starts: Integers
    width: int
    logit_rows: int


class Pace:
    """Places that a drafter has computed of each slot."""

    def __init__(self, max_sequences: int) -> None:
        self.computed: Integers = np.zeros(max_sequences, dtype=np.int64)

    def spans(self, slots: Integers, ends: Integers, width: int, prefilling: Prefills) -> list[Span]:
        """What a round's first pass runs, logits after each slot's last place; all of it then counts as computed.

        The last ``width`` places of each slot once more, for all alike: after a round that verified ``width`` - 1
        drafts the places not yet seen are among them. A sequence that is further behind (its prompt, rounds without
        drafts) catches up in the same pass with a span of its own width, as do ``prefilling`` ones.
        """
        regular = (ends - self.computed[slots] <= width) & (width <= ends)
        found = []
        if regular.any():
            found.append(Span(slots[regular], ends[regular] - width, width, 1))
        found += self._until(slots[~regular], ends[~regular], 1)
        found += self._until(prefilling.slots, prefilling.computed, 0)
        self.computed[slots] = ends
        self.computed[prefilling.slots] = np.maximum(self.computed[prefilling.slots], prefilling.computed)
        return found

    def _until(self, slots: Integers, ends: Integers, logit_rows: int) -> list[Span]:
        """What each slot lacks before ``ends``, in spans of equal width; at least one place for logits."""
        starts = np.minimum(self.computed[slots], ends - logit_rows)
        found = []
        for width in np.unique(ends - starts).tolist():
            chosen = ends - starts == width
            if width > 0:
                found.append(Span(slots[chosen], starts[chosen], width, logit_rows))
        return found


def ascending(spans: list[Span], rows: Tensor) -> Tensor:
    """Rows of a pass over ``spans``, one a slot with logits, in the slots' order."""
    wanted = [span.slots for span in spans if span.logit_rows]
    if len(wanted) < 2:
        return rows
    return rows[torch.from_numpy(np.argsort(np.concatenate(wanted))).to(rows.device)]
