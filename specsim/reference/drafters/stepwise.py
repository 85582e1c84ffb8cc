"""Drafting one pass after another, each on the tokens that the last one chose: a chain or a tree, depth by depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters.base import Drafter, History, Judge, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.branching import Level, levels
from specsim.reference.network.kernels import greedy_tokens
from specsim.reference.network.passes import TokenGroup
from specsim.speculation.tree import DraftTree, chain

TreeShape = Callable[[int], DraftTree]


class Stepwise(Drafter):
    """A source of next-token logits, and what is made of them.

    ``shape``: the tree that k drafts form; a node of rank r is the r-th most likely token after its parent.
    ``sampler``: drafts are drawn instead of taken, those of one parent without replacement. The confidence of a draft
    is the probability of the most likely token, whichever was drawn: a stop that looked at the draw would bias output.
    """

    confident = True

    def __init__(self, shape: TreeShape = chain, sampler: Sampler | None = None, offset: int = 0) -> None:
        self.shape, self.sampler = shape, sampler
        self.offset = offset  # a known token's place in the drafter's cache less that in the target's

    @abstractmethod
    def begin(self, history: History, slots: Integers, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        """Logits [n, vocab] after each slot's last known token; ``depth`` is that of the tree to come."""

    @abstractmethod
    def extend(self, groups: list[TokenGroup], parents: Integers, watch: Stopwatch) -> Tensor:
        """Logits [n·width, vocab] after drafts, in one group or, where trees differ, one for each sequence.

        ``parents`` [width] or [n, width]: whose row of the pass before each of them continues.
        """

    def tree(self, draft_tokens: int) -> DraftTree:
        return self.shape(draft_tokens)

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        steps = levels(self.tree(draft_tokens))
        logits = self.begin(history, slots, len(steps), watch, prefilling)
        if not len(slots):
            return Proposal(np.zeros((0, draft_tokens), dtype=np.int64), np.zeros(0, dtype=np.int64))
        draft = _Draft(len(slots), draft_tokens, self.sampler, judge)
        places = history.lengths[slots] + self.offset
        for level in steps:
            tokens = watch.run("draft", draft.read, logits, level)
            if draft.over or not len(level.fed):
                break
            fed = tokens if level.branches is None else tokens[:, torch.from_numpy(level.fed).to(tokens.device)]
            group = TokenGroup(slots, fed, places + level.before, fed.shape[1], level.branches)
            logits = self.extend([group], level.parents[level.fed], watch)
        return draft.proposal()


class _Draft:
    """What a round has drafted so far."""

    def __init__(self, sequences: int, draft_tokens: int, sampler: Sampler | None, judge: Judge | None) -> None:
        self._sequences, self._draft_tokens, self._sampler, self._judge = sequences, draft_tokens, sampler, judge
        self._tokens: list[Tensor] = []  # a level each, [n, nodes]
        self._nodes: list[Integers] = []
        self._probabilities: list[Tensor] = []
        self._confidences = np.ones((sequences, draft_tokens))
        self._counts = np.zeros(sequences, dtype=np.int64)
        self.over = False

    def read(self, logits: Tensor, level: Level) -> Tensor:
        """The tokens of a level's nodes, [n, nodes]."""
        if self._sampler is not None:
            probabilities = self._sampler.probabilities(logits)
            candidates = self._sampler.draw_distinct(probabilities, level.candidates)
            rows = torch.from_numpy(level.parents).to(logits.device)
            self._probabilities.append(probabilities.view(self._sequences, -1, probabilities.shape[-1])[:, rows])
        elif level.candidates == 1:
            candidates = greedy_tokens(logits)[:, None]
        else:
            candidates = logits.topk(level.candidates).indices
        self._count(logits, len(level.nodes))
        tokens = candidates
        if level.branches is not None:
            table = candidates.view(self._sequences, -1, level.candidates)
            rows, ranks = (torch.from_numpy(i).to(table.device) for i in (level.parents, level.ranks))
            tokens = table[:, rows, ranks]
        self._tokens.append(tokens)
        self._nodes.append(level.nodes)
        return tokens

    def _count(self, logits: Tensor, nodes: int) -> None:
        drafted = len(self._tokens) + 1
        if self._judge is None:
            self._counts += nodes
            return
        self._confidences[:, drafted - 1] = logits.double().softmax(-1).amax(-1).cpu().numpy()
        verdict = self._judge(self._confidences)
        self._counts = np.minimum(verdict.lengths, drafted)
        self.over = verdict.computed <= drafted

    def proposal(self) -> Proposal:
        drafts = np.zeros((self._sequences, self._draft_tokens), dtype=np.int64)
        nodes = np.concatenate(self._nodes)
        drafts[:, nodes] = torch.cat(self._tokens, dim=1).cpu().numpy()
        drawn = None
        if self._probabilities:
            laws = torch.cat(self._probabilities, dim=1)
            drawn = laws[:, torch.from_numpy(np.argsort(nodes)).to(laws.device)]
        return Proposal(drafts, self._counts, drawn)
