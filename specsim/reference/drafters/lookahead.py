"""N-grams that the target makes itself, in a window that rides along with each verify pass (lookahead decoding)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from specsim.arrays import Integers
from specsim.reference.drafters.base import Drafter, History, Judge, Prefills, Proposal, Stopwatch
from specsim.reference.network.passes import Branches, TokenGroup
from specsim.speculation.tree import DraftTree

Pool = dict[int, OrderedDict[tuple[int, ...], None]]


class Lookahead(Drafter):
    """Lookahead decoding (Fu et al., arXiv 2402.02057, section 3).

    The window holds ``ngram`` - 1 generations of guesses at ``window`` tokens from the last known one on. In every
    pass each column gets one more token from the target (a Jacobi step). The column with that token behind it is an
    n-gram of the pool, and its oldest token goes. What is drafted: the last known token's n-grams in the pool, the
    newest ``guesses`` of them, a branch each. Guesses start out as the sequence's own text.
    """

    def __init__(self, max_sequences: int, ngram: int, window: int, guesses: int) -> None:
        self.ngram, self.window, self.guesses = ngram, window, guesses
        self._window: Integers = np.zeros((max_sequences, ngram - 1, window), dtype=np.int64)
        self._place: Integers = np.full(max_sequences, -1, dtype=np.int64)  # of the first column; -1: none yet
        self._pools: list[Pool] = [{} for _ in range(max_sequences)]
        self._rides = np.zeros(max_sequences, dtype=bool)
        self._riding: list[Integers] = []  # slots of the pass under way

    def tree(self, draft_tokens: int) -> DraftTree:
        depth = self.ngram - 1
        return DraftTree(tuple(node - 1 if node % depth else -1 for node in range(draft_tokens)))

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
            known = history.tokens[slot, :length]
            self._align(slot, known)
            found = list(self._pools[slot].get(int(known[-1]), ()))[: -self.guesses - 1 : -1]
            copied = np.array(found, dtype=np.int64).ravel()[:draft_tokens]
            drafts[row, : len(copied)], counts[row] = copied, len(copied)
        self._rides[slots] = True
        return Proposal(drafts, counts)

    def _align(self, slot: int, known: Integers) -> None:
        """Let the window's first column stand at the last known token."""
        window, place = self._window[slot], int(self._place[slot])
        if place < 0:
            window[:] = known[np.arange(window.size) % len(known)].reshape(window.shape)
        else:
            window[:] = np.roll(window, place - (len(known) - 1), axis=1)
        window[0, 0], self._place[slot] = known[-1], len(known) - 1

    def riders(self, groups: Sequence[TokenGroup], max_length: int) -> list[TokenGroup]:
        found = []
        shape = _shape(self.ngram - 1, self.window)
        for group in groups:
            ends = group.starts + group.width
            chosen = self._rides[group.slots] & (ends + len(shape[0]) <= max_length) & (group.logit_rows > 0)
            if chosen.any():
                slots, before = group.slots[chosen], group.logit_rows
                tokens = torch.from_numpy(self._window[slots].reshape(len(slots), -1)[:, 1:].copy())
                branches = Branches(before, shape[0], _seen(shape[1], before))
                found.append(TokenGroup(slots, tokens.to(group.tokens.device), ends[chosen], self.window, branches))
            self._rides[group.slots] = False
        self._riding = [group.slots for group in found]
        return found

    def learn(self, choices: Integers) -> None:
        for slot, newest in zip(np.concatenate(self._riding).tolist(), choices.reshape(-1, self.window), strict=True):
            window, pool = self._window[slot], self._pools[slot]
            columns = np.vstack((window, newest))
            for first, *rest in columns.T.tolist():
                grams = pool.setdefault(first, OrderedDict())
                grams[tuple(rest)] = None
                grams.move_to_end(tuple(rest))
                if len(grams) > self.guesses:
                    grams.popitem(last=False)
            window[:] = columns[1:]
            self._place[slot] += 1

    def move(self, source: int, target: int, length: int) -> None:
        self._window[target], self._place[target] = self._window[source], self._place[source]
        self._pools[target], self._rides[target] = self._pools[source], self._rides[source]
        self._pools[source] = {}

    def forget(self, slot: int) -> None:
        self._place[slot], self._pools[slot], self._rides[slot] = -1, {}, False

    def resume(self, slot: int, length: int) -> None:
        self._place[slot] = -1


@lru_cache(maxsize=16)
def _shape(generations: int, window: int) -> tuple[Integers, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Of all places of a window but its first, the last known token's: position beyond it, and which of all they see.

    A column's token sees the older generations of its column, and of the oldest one the columns before.
    """
    parents: list[int] = []
    for place in range(1, generations * window):
        parents.append(place - 1 if place < window else place - window)
    whole = DraftTree(tuple(parent - 1 for parent in parents))
    return np.array(whole.depths(), dtype=np.int64) + 1, whole.ancestor_mask()[1:]


def _seen(
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], before: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """``mask`` with the places of drafts, which stand behind the last known token, seen by nobody."""
    drafts = np.zeros((len(mask), before - 1), dtype=bool)
    return np.hstack((mask[:, :1], drafts, mask[:, 1:]))
