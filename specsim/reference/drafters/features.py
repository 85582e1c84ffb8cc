"""One decoder layer that continues the target's last states (EAGLE, arXiv 2401.15077)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters.base import History, Prefills, Stopwatch
from specsim.reference.drafters.pace import Pace, Span, ascending
from specsim.reference.drafters.stepwise import Stepwise, TreeShape
from specsim.reference.network.kernels import linear
from specsim.reference.network.layers import Layers
from specsim.reference.network.passes import PassPlan, TokenGroup
from specsim.reference.network.transformer import Transformer
from specsim.speculation.tree import chain


@dataclass(frozen=True, slots=True)
class FeatureHead:
    """``fusion`` [hidden, 2·hidden] reads an embedding and, behind it, a state; ``layers`` has a cache of its own."""

    fusion: Tensor
    layers: Layers


class Eagle(Stepwise):
    """Guesses the next final state from one and the token that followed it; the target's head reads the guess.

    Place i of its cache holds (state i, token i + 1), so that a known token stands one place earlier than in the
    target's. Drafts are made on guessed states; the next round's first pass runs the accepted ones on true states.
    """

    def __init__(
        self, target: Transformer, head: FeatureHead, shape: TreeShape = chain, sampler: Sampler | None = None
    ) -> None:
        super().__init__(shape, sampler, offset=-1)
        self.target, self.fusion, self.layers = target, head.fusion, head.layers
        self.pace = Pace(target.max_sequences)
        self._last = target.spec.num_layers
        self._guessed = torch.zeros(0)  # states [n, rows, hidden] of the last pass
        target.keep_states(self._last)

    def begin(self, history: History, slots: Integers, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        spans = self.pace.spans(slots, history.lengths[slots] - 1, depth + 1, prefilling)
        if not spans:
            return torch.zeros(0, self.target.spec.vocab_size)
        return watch.run("draft", self._begin, history, spans)

    def extend(self, groups: list[TokenGroup], parents: Integers, watch: Stopwatch) -> Tensor:
        return watch.run("draft", self._extend, groups, parents)

    @torch.inference_mode()
    def _begin(self, history: History, spans: list[Span]) -> Tensor:
        groups = [self._group(history, span) for span in spans]
        guessed, logits = self.layers.compute("begin", groups, self._guess_on_true, states=True)
        self._guessed = ascending(spans, guessed)[:, None]
        return ascending(spans, logits)

    def _guess_on_true(self, plan: PassPlan) -> tuple[Tensor, ...]:
        return self._guess(plan, self.target.stored(self._last, plan))

    @torch.inference_mode()
    def _extend(self, groups: list[TokenGroup], parents: Integers) -> Tensor:
        n, first = len(self._guessed), 0
        rows = torch.from_numpy(np.broadcast_to(parents, (n, parents.shape[-1])).copy()).to(self._guessed.device)
        states = self._guessed[torch.arange(n, device=rows.device)[:, None], rows]
        for group in groups:
            group.carried = states[first : first + len(group.slots)]
            first += len(group.slots)
        guessed, logits = self.layers.compute("extend", groups, self._guess_on_guessed)
        self._guessed = guessed.view(*rows.shape, -1)
        return logits

    def _guess_on_guessed(self, plan: PassPlan) -> tuple[Tensor, ...]:
        assert plan.carried is not None
        return self._guess(plan, plan.carried)

    def _guess(self, plan: PassPlan, states: Tensor) -> tuple[Tensor, ...]:
        """The next states and their logits, from states [tokens, hidden] and the tokens that followed them."""
        x = linear(torch.cat((self.target.embed(plan.tokens), states), dim=-1), self.fusion)
        x = self.layers.advance(x, plan)
        guessed = x if plan.wanted is None else x[plan.wanted]
        return guessed, self.target.head(guessed)

    def _group(self, history: History, span: Span) -> TokenGroup:
        tokens = history.window(span.slots, span.starts + 1, span.width).to(self.target.device)
        return TokenGroup(span.slots, tokens, span.starts, span.logit_rows)

    def move(self, source: int, target: int, length: int) -> None:
        self.layers.move(source, target, length)
        self.pace.computed[target] = self.pace.computed[source]

    def forget(self, slot: int) -> None:
        self.pace.computed[slot] = 0

    def resume(self, slot: int, length: int) -> None:
        self.pace.computed[slot] = length - 1
