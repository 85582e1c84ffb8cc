"""Draft trees grown anew each round, each sequence's own: where the drafter is sure deep, elsewhere wide."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specsim.arrays import Floats, Integers
from specsim.reference.drafters.base import Drafter, History, Judge, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.stepwise import Stepwise, TreeShape
from specsim.reference.network.passes import Branches, TokenGroup
from specsim.speculation.tree import DraftTree


class Grown(Drafter):
    """The k candidates of highest path probability among those that ``depth`` passes find (EAGLE-2, arXiv 2406.16858,
    section 4).

    The first pass gives the ``top_k`` most likely next tokens; every further one expands the ``top_k`` most probable
    paths of the last depth by as many tokens each. A path's probability is the product of the drafter's own, so that
    the k best are a tree; they stand in order of it, and a trimmed draft keeps the best. k below ``top_k`` or
    ``depth`` lowers these to k, and so does a full cache the depth. ``imposed``: the tree of k nodes whose acceptance
    is imposed; its passes are those of any other.
    """

    def __init__(self, source: Stepwise, depth: int, top_k: int, imposed: TreeShape) -> None:
        self.source, self.depth, self.top_k = source, depth, top_k
        self._imposed, self._grows = imposed, True

    def impose(self) -> None:
        self._grows = False

    def tree(self, draft_tokens: int) -> DraftTree:
        return self._imposed(draft_tokens)

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        passes, width = min(self.depth, draft_tokens), min(self.top_k, draft_tokens)
        room = history.tokens.shape[1] - int(history.lengths[slots].max(initial=0))
        passes = min(passes, 1 + room // width)
        logits = self.source.begin(history, slots, passes, watch, prefilling)
        if not len(slots):
            return Proposal(np.zeros((0, draft_tokens), dtype=np.int64), np.zeros(0, dtype=np.int64))
        found = self.candidates(len(slots), width)
        watch.run("draft", found.add, logits)
        for done in range(1, passes):
            tokens, continued, seen = found.expand()
            before = seen.shape[2] - seen.shape[1]
            ahead = np.full(seen.shape[1], done - 1)
            fed = torch.from_numpy(tokens).to(logits.device)
            places = history.lengths[slots] + self.source.offset + before
            groups = [
                TokenGroup(
                    slots[i : i + 1], fed[i : i + 1], places[i : i + 1], fed.shape[1], Branches(before, ahead, mask)
                )
                for i, mask in enumerate(seen)
            ]
            logits = self.source.extend(groups, continued, watch)
            watch.run("draft", found.add, logits)
        return found.best(draft_tokens, with_parents=self._grows)

    def candidates(self, sequences: int, width: int) -> Candidates:
        """An empty record of what a round finds."""
        return Candidates(sequences, width)

    def move(self, source: int, target: int, length: int) -> None:
        self.source.move(source, target, length)

    def forget(self, slot: int) -> None:
        self.source.forget(slot)

    def resume(self, slot: int, length: int) -> None:
        self.source.resume(slot, length)


class Candidates:
    """What a round has found so far, depth by depth; ``frontier`` are those that the last pass ran."""

    def __init__(self, sequences: int, width: int) -> None:
        self.width = width
        self.scores: Floats = np.zeros((sequences, 0))  # log of path probabilities
        self.tokens: Integers = np.zeros((sequences, 0), dtype=np.int64)
        self.parents: Integers = np.zeros((sequences, 0), dtype=np.int64)  # candidates, -1: the last known token
        self.places: Integers = np.zeros((sequences, 0), dtype=np.int64)  # in the drafter's cache, -1: not run
        self.frontier: Integers = np.full((sequences, 1), -1, dtype=np.int64)
        self.first = 0  # candidate of the newest depth
        self._base: Floats = np.zeros((sequences, 1))  # scores of the frontier
        self._seen: NDArray[np.bool_] = np.zeros((sequences, 0, 0), dtype=bool)  # by places: which see which

    def add(self, logits: Tensor) -> None:
        """The most likely tokens after each candidate of the frontier, by its logits [n·frontier, vocab]."""
        top = logits.double().log_softmax(-1).topk(min(self.width, logits.shape[-1]))
        n, rows = self.frontier.shape
        scores = top.values.cpu().numpy().reshape(n, rows, -1) + self._base[:, :, None]
        self.first = self.scores.shape[1]
        parents = np.repeat(self.frontier, scores.shape[2], axis=1)
        self.append(scores.reshape(n, -1), top.indices.cpu().numpy().reshape(n, -1), parents)

    def append(self, scores: Floats, tokens: Integers, parents: Integers) -> None:
        """More candidates of the newest depth, [n, m] each."""
        self.scores = np.concatenate((self.scores, scores), axis=1)
        self.tokens = np.concatenate((self.tokens, tokens), axis=1)
        self.parents = np.concatenate((self.parents, parents), axis=1)
        self.places = np.concatenate((self.places, np.full(scores.shape, -1)), axis=1)

    def choose(self) -> Integers:
        """Candidates to expand, [n, width]: the best of the newest depth."""
        chosen: Integers = self.first + np.argsort(-self.scores[:, self.first :], axis=1, kind="stable")
        return chosen[:, : self.width]

    def expand(self) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """What the next pass runs: tokens [n, m], whose row of the last pass each continues, which places it sees."""
        chosen, before = self.choose(), self.frontier.shape[1]
        each, (n, stored) = np.arange(len(chosen))[:, None], self._seen.shape[:2]
        parents = self.parents[each, chosen]
        above = np.where(parents < 0, -1, self.places[each, parents])
        nothing = np.zeros((n, 1, stored), dtype=bool)  # what stands before the tree is seen anyway
        own = np.broadcast_to(np.eye(chosen.shape[1], dtype=bool), (n, chosen.shape[1], chosen.shape[1]))
        seen = np.concatenate((np.concatenate((self._seen, nothing), axis=1)[each, above], own), axis=2)
        older = np.pad(self._seen, ((0, 0), (0, 0), (0, chosen.shape[1])))
        self._seen = np.concatenate((older, seen), axis=1)
        self.places[each, chosen] = stored + np.arange(chosen.shape[1])
        self.frontier, self._base = chosen, self.scores[each, chosen]
        return self.tokens[each, chosen], np.maximum(above - (stored - before), 0), seen

    def best(self, count: int, *, with_parents: bool) -> Proposal:
        """The ``count`` most probable candidates, parents before children; fewer where there are no more."""
        n, found = self.scores.shape
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, :count]  # of equals the earlier: the parent
        each, kept = np.arange(n)[:, None], order.shape[1]
        drafts = np.zeros((n, count), dtype=np.int64)
        drafts[:, :kept] = self.tokens[each, order]
        if not with_parents:
            return Proposal(drafts, np.full(n, count))
        place = np.full((n, found + 1), -1, dtype=np.int64)  # the last entry is that of parent -1
        place[each, order] = np.arange(kept)
        trees = [tuple(row) for row in place[each, self.parents[each, order]].tolist()]
        return Proposal(drafts, np.isfinite(self.scores[each, order]).sum(axis=1), trees=trees)
