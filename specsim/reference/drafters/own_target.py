"""The target as its own drafter: with sublayers left out, or left early. Its own cache serves both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.errors import InvalidInput
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters.base import History, Prefills, Stopwatch
from specsim.reference.drafters.pace import Pace, Span, ascending
from specsim.reference.drafters.stepwise import Stepwise, TreeShape
from specsim.reference.network.layers import Layers, Sublayers
from specsim.reference.network.passes import PassPlan, TokenGroup
from specsim.reference.network.transformer import Transformer
from specsim.speculation.tree import chain


class SkippedLayers(Stepwise):
    """The target with some attention and feed-forward sublayers left out (Draft & Verify, arXiv 2309.08168; SWIFT,
    arXiv 2410.06916), on the keys and values that the whole target has computed. What it writes behind them the
    verify pass overwrites.
    """

    def __init__(
        self, target: Transformer, only: Sublayers, shape: TreeShape = chain, sampler: Sampler | None = None
    ) -> None:
        super().__init__(shape, sampler)
        self.target, self.only = target, only

    def begin(self, history: History, slots: Integers, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        if not len(slots):
            return torch.zeros(0, self.target.spec.vocab_size)
        return watch.run("draft", self._pass, [_last_tokens(history, slots, self.target)])

    def extend(self, groups: list[TokenGroup], parents: Integers, watch: Stopwatch) -> Tensor:
        return watch.run("draft", self._pass, groups)

    def _pass(self, groups: list[TokenGroup]) -> Tensor:
        (logits,) = self.target.compute(("only", self.only), groups, self._compute)
        return logits

    def _compute(self, plan: PassPlan) -> tuple[Tensor, ...]:
        x = self.target.advance(self.target.embed(plan.tokens), plan, only=self.only)
        return (self.target.finish(x, plan, keep=False),)


class AdapterLayer:
    """One attention sublayer between an early layer and the target's head (Kangaroo, arXiv 2404.18911, section 3.2).

    It has a cache of its own; ``norm`` [hidden] stands before the head.
    """

    def __init__(self, layers: Layers, norm: Tensor) -> None:
        self.layers, self.norm = layers, norm
        self.pace = Pace(layers.max_sequences)


class EarlyExit(Stepwise):
    """The target's first ``last`` layers and its head (LayerSkip, arXiv 2404.16710), perhaps with an adapter between.

    Their keys and values are the target's own, and their states are kept. With ``reuse`` the target verifies from
    layer ``last`` on: of each sequence only the last draft must still pass the layers below.
    """

    def __init__(
        self,
        target: Transformer,
        last: int,
        adapter: AdapterLayer | None = None,
        *,
        reuse: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if not 0 < last < target.spec.num_layers:
            raise InvalidInput(
                f"early exit after layer {last} of {target.spec.num_layers}; leave at least one layer on either side"
            )
        super().__init__(chain, sampler)
        self.target, self.last, self.adapter = target, last, adapter
        self.from_layer = last if reuse else 0
        self._ahead: Integers = np.zeros(target.max_sequences, dtype=np.int64)  # places run beyond those verified
        if reuse or adapter is not None:
            target.keep_states(last)

    def begin(self, history: History, slots: Integers, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        return watch.run("draft", self._begin, history, slots, prefilling)

    def extend(self, groups: list[TokenGroup], parents: Integers, watch: Stopwatch) -> Tensor:
        return watch.run("draft", self._extend, groups)

    def _begin(self, history: History, slots: Integers, prefilling: Prefills) -> Tensor:
        logits = torch.zeros(0, self.target.spec.vocab_size)
        if len(slots):
            self._ahead[slots] = 0
            early = self._early([_last_tokens(history, slots, self.target)])
            if early is not None:
                return early
        if self.adapter is None:
            return logits
        # A fully accepted draft leaves two places to run.
        spans = self.adapter.pace.spans(slots, history.lengths[slots], 2, prefilling)
        if not spans:
            return logits
        return ascending(spans, self._adapt([_adapter_group(history, span, self.target) for span in spans]))

    def _extend(self, groups: list[TokenGroup]) -> Tensor:
        early = self._early(groups)
        return self._adapt(groups) if early is None else early

    def _early(self, groups: list[TokenGroup]) -> Tensor | None:
        """The layers below the exit; their logits if no adapter follows."""
        results = self.target.compute(("early", self.last, self.adapter is None), groups, self._compute_early)
        for group in groups:
            self._ahead[group.slots] += group.width
        return results[0] if results else None

    def _compute_early(self, plan: PassPlan) -> tuple[Tensor, ...]:
        x = self.target.advance(self.target.embed(plan.tokens), plan, 0, self.last)
        return () if self.adapter is not None else (self.target.finish(x, plan, keep=False),)

    def _adapt(self, groups: list[TokenGroup]) -> Tensor:
        assert self.adapter is not None
        (logits,) = self.adapter.layers.compute("adapt", groups, self._compute_adapted, states=True)
        return logits

    def _compute_adapted(self, plan: PassPlan) -> tuple[Tensor, ...]:
        assert self.adapter is not None
        layers = self.adapter.layers
        x = layers.advance(self.target.stored(self.last, plan), plan)
        wanted = x if plan.wanted is None else x[plan.wanted]
        return (self.target.head(layers.norm(wanted, self.adapter.norm)),)

    def lacking(self, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
        found = []
        for group in groups:
            ahead = np.minimum(self._ahead[group.slots], group.width)
            for ready in np.unique(ahead).tolist():
                chosen = np.flatnonzero(ahead == ready)
                if ready < group.width:
                    tokens = group.tokens[torch.from_numpy(chosen).to(group.tokens.device), ready:]
                    found.append(TokenGroup(group.slots[chosen], tokens, group.starts[chosen] + ready, 0))
            self._ahead[group.slots] = 0
        return found

    def move(self, source: int, target: int, length: int) -> None:
        self._ahead[target] = self._ahead[source]
        if self.adapter is not None:
            self.adapter.layers.move(source, target, length)
            self.adapter.pace.computed[target] = self.adapter.pace.computed[source]

    def forget(self, slot: int) -> None:
        self.resume(slot, 0)
        self._ahead[slot] = 0

    def resume(self, slot: int, length: int) -> None:
        if self.adapter is not None:
            self.adapter.pace.computed[slot] = length


def _last_tokens(history: History, slots: Integers, target: Transformer) -> TokenGroup:
    """Each slot's last known token, which no pass has run yet."""
    starts = history.lengths[slots] - 1
    return TokenGroup(slots, history.window(slots, starts, 1).to(target.device), starts, 1)


def _adapter_group(history: History, span: Span, target: Transformer) -> TokenGroup:
    tokens = history.window(span.slots, span.starts, span.width).to(target.device)
    return TokenGroup(span.slots, tokens, span.starts, span.logit_rows)
