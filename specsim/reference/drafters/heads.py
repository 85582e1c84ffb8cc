"""Heads that guess several tokens at once from the target's last state (Medusa, arXiv 2401.10774)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

from specsim.arrays import Integers
from specsim.errors import InvalidInput
from specsim.reference.drafters.base import Drafter, History, Judge, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.stepwise import TreeShape
from specsim.reference.network.kernels import linear
from specsim.reference.network.transformer import Transformer
from specsim.speculation.tree import DraftTree, chain


@dataclass(frozen=True, slots=True)
class HeadWeights:
    """Head i guesses the token i + 2 after a state: a residual block [hidden, hidden] and its own LM head."""

    blocks: list[Tensor]
    lm_heads: list[Tensor]  # [vocab, hidden]


class Medusa(Drafter):
    """The guesses of all heads as a chain or a tree: rank r at depth d is head d's r-th guess, whoever its parent.

    Section 2.1: head output = W₂(x + silu(W₁·x)) on the state from which the target chose the last known token. All
    heads run, also where fewer drafts are wanted.
    """

    def __init__(self, target: Transformer, weights: HeadWeights, shape: TreeShape = chain) -> None:
        self.target, self.weights, self.shape = target, weights, shape
        self._states = target.keep_states(target.spec.num_layers)

    def tree(self, draft_tokens: int) -> DraftTree:
        """Raises InvalidInput for a tree deeper than there are heads."""
        tree = self.shape(draft_tokens)
        depth, heads = max(tree.depths(), default=-1) + 1, len(self.weights.blocks)
        if depth > heads:
            raise InvalidInput(f"{draft_tokens} drafts are {depth} deep and there are {heads} heads; draft fewer")
        return tree

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        tree = self.tree(draft_tokens)
        counts = np.full(len(slots), draft_tokens)
        if not len(slots) or not draft_tokens:
            return Proposal(np.zeros((len(slots), draft_tokens), dtype=np.int64), counts)
        depths, ranks = np.array(tree.depths()), np.array(tree.ranks())
        logits = watch.run("draft", self._guess, history, slots)
        guesses = watch.run("draft", _best, logits, int(ranks.max()) + 1)
        return Proposal(guesses[:, depths, ranks], counts)

    @torch.inference_mode()
    def _guess(self, history: History, slots: Integers) -> list[Tensor]:
        where, places = (torch.from_numpy(a).to(self.target.device) for a in (slots, history.lengths[slots] - 2))
        x = self._states[where, places]
        pairs = zip(self.weights.blocks, self.weights.lm_heads, strict=True)
        return [linear(x + F.silu(linear(x, block)), head) for block, head in pairs]


def _best(logits: list[Tensor], ranks: int) -> Integers:
    """The first guesses of each head, [n, heads, ranks]."""
    best: Integers = torch.stack([head.topk(ranks).indices for head in logits], dim=1).cpu().numpy()
    return best
