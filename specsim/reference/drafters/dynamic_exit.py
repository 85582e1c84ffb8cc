"""An early exit whose layer and length are chosen anew each round (DEL, arXiv 2504.05598)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from specsim.arrays import Integers
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters.base import History, Judge, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.own_target import EarlyExit
from specsim.reference.network.kernels import greedy_tokens
from specsim.reference.network.transformer import Transformer

MEMORY = 0.9  # weight of a round's tokens in the next round's rates; ours, the paper names none


class DynamicExit(EarlyExit):
    """Drafts with the exit layer and length that promise most tokens per layer run, one choice for the whole batch.

    After each round every exit is asked what it would have said of the tokens just emitted (shadow tokens), from the
    states that were kept; α is its share of right answers, older rounds counting less. A layer l and d drafts
    then promise (1 - α^(d+1))/(1 - α) tokens for d·l + L layers. α = 0.8 at layer 2 of 8 and up to 4 drafts: d = 2
    gives 2.44 tokens for 12 layers, d = 3 2.95 for 14, d = 4 3.36 for 16, so 3. A judge may end drafts earlier.

    ``imposed``: the exit where acceptance is imposed, None the deepest.
    """

    def __init__(
        self, target: Transformer, exits: Sequence[int], sampler: Sampler | None = None, *, imposed: int | None = None
    ) -> None:
        super().__init__(target, max(exits), sampler=sampler)
        self.exits = tuple(sorted(exits))
        for layer in self.exits:
            target.keep_states(layer)
        self._imposed, self._chooses = imposed or max(exits), True
        self._right: NDArray[np.float64] = np.zeros(len(self.exits))
        self._asked = 0.0
        self._scored: Integers = np.full(target.max_sequences, -1)  # known tokens when last scored; -1: never

    def impose(self) -> None:
        self.last = self.from_layer = self._imposed
        self._chooses = False
        for layer in set(self.exits) - {self._imposed}:
            self.target.kept.pop(layer, None)

    @property
    def rates(self) -> NDArray[np.float64]:
        """α of each exit; as if each had been right once and wrong once before the first round."""
        rates: NDArray[np.float64] = (self._right + 1) / (self._asked + 2)
        return rates

    def choose(self, draft_tokens: int) -> tuple[int, int]:
        """Exit layer and number of drafts, 0 where none promises more than plain decoding."""
        lengths, layers = np.arange(draft_tokens + 1), self.target.spec.num_layers
        tokens = np.cumsum(self.rates[:, None] ** lengths, axis=1)
        promise = tokens / (np.array(self.exits)[:, None] * lengths + layers)
        best, length = np.unravel_index(int(promise.argmax()), promise.shape)
        return self.exits[int(best)], int(length)

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        if not self._chooses:
            return super().propose(history, slots, draft_tokens, watch, prefilling, judge)
        watch.run("draft", self._score, history, slots)
        layer, length = self.choose(draft_tokens)
        if layer != self.last:
            self.last = self.from_layer = layer
            self._ahead[:] = 0  # what waits to be verified was drafted up to another layer
        drafts = np.zeros((len(slots), draft_tokens), dtype=np.int64)
        if not length or not len(slots):
            return Proposal(drafts, np.zeros(len(slots), dtype=np.int64))
        found = super().propose(history, slots, length, watch, prefilling, judge)
        drafts[:, :length] = found.drafts
        return Proposal(drafts, found.counts, found.probabilities)

    @torch.inference_mode()
    def _score(self, history: History, slots: Integers) -> None:
        ends = history.lengths[slots] - 1  # the state at place i speaks of token i + 1
        begins = np.where(self._scored[slots] < 0, ends - 1, self._scored[slots] - 1)
        self._scored[slots] = history.lengths[slots]
        if not len(slots):
            return
        where = np.repeat(slots, ends - begins)
        places = np.concatenate([np.arange(*span) for span in zip(begins, ends, strict=True)])
        truth = history.tokens[where, places + 1]
        at = tuple(torch.from_numpy(index).to(self.target.device) for index in (where, places))
        said = [greedy_tokens(self.target.read(self.target.kept[layer][at])).cpu().numpy() for layer in self.exits]
        self._right = MEMORY * self._right + np.array([(tokens == truth).sum() for tokens in said])
        self._asked = MEMORY * self._asked + len(truth)

    def move(self, source: int, target: int, length: int) -> None:
        super().move(source, target, length)
        self._scored[target] = self._scored[source]

    def forget(self, slot: int) -> None:
        super().forget(slot)
        self._scored[slot] = -1
