"""A small transformer that decodes ahead, in the same slots as the target."""

from __future__ import annotations

import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters.base import History, Prefills, Stopwatch
from specsim.reference.drafters.pace import Pace, Span, ascending
from specsim.reference.drafters.stepwise import Stepwise, TreeShape
from specsim.reference.network.passes import TokenGroup
from specsim.reference.network.transformer import Transformer
from specsim.speculation.tree import chain


class DraftModel(Stepwise):
    """A model of its own (Leviathan et al., arXiv 2211.17192), over a chain or a tree (SpecInfer, arXiv 2305.09781).

    Its first pass feeds each sequence's last depth + 1 known tokens again; what the tree put into its cache is
    overwritten by that.
    """

    def __init__(self, model: Transformer, shape: TreeShape = chain, sampler: Sampler | None = None) -> None:
        super().__init__(shape, sampler)
        self.model, self.pace = model, Pace(model.max_sequences)

    def begin(self, history: History, slots: Integers, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        spans = self.pace.spans(slots, history.lengths[slots], depth + 1, prefilling)
        if not spans:
            return torch.zeros(0, self.model.spec.vocab_size)
        logits = self._pass([self._group(history, span) for span in spans], watch)
        return ascending(spans, logits)

    def extend(self, groups: list[TokenGroup], parents: Integers, watch: Stopwatch) -> Tensor:
        return self._pass(groups, watch)

    def _group(self, history: History, span: Span) -> TokenGroup:
        tokens = history.window(span.slots, span.starts, span.width).to(self.model.device)
        return TokenGroup(span.slots, tokens, span.starts, span.logit_rows)

    def _pass(self, groups: list[TokenGroup], watch: Stopwatch) -> Tensor:
        return watch.run("draft", self.model.forward, groups)

    def move(self, source: int, target: int, length: int) -> None:
        self.model.move(source, target, length)
        self.pace.computed[target] = self.pace.computed[source]

    def forget(self, slot: int) -> None:
        self.pace.computed[slot] = 0

    def resume(self, slot: int, length: int) -> None:
        self.pace.computed[slot] = length
