"""The price of one drafting phase, whatever the technique: passes of its parts, sampling, and the host's share."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from specsim.arrays import Reals
from specsim.cost.forward import Group, Precision
from specsim.cost.memory import resident_weight_bytes
from specsim.cost.passes import PassCost
from specsim.specs.model import ModelSpec
from specsim.speculation.pricing import PassPricing, Run
from specsim.speculation.program import DraftProgram, Phase
from specsim.speculation.target_pass import Groups


class _PricedPart(NamedTuple):
    cost: PassCost
    owned: bool  # attention with keys and values of its own
    cached: bool  # that are kept from pass to pass
    context: PassCost | None  # of the tokens that a step has computed, where they run something else


class PhaseCost:
    """Prices what one phase of a program does at the end of a step."""

    def __init__(
        self,
        phase: Phase,
        program: DraftProgram,
        pricing: PassPricing,
        *,
        target: ModelSpec,
        precision: Precision,
        draft: ModelSpec | None,
        kv_bits: float,
    ) -> None:
        self.phase = phase
        self._proposal = program.proposal
        self._mask = "tree" if program.proposal.tree else ""
        self._parts: list[_PricedPart] = []
        weights = 0.0
        for piece in program.pieces(phase, target, draft):
            own = Precision.on(pricing.hardware, piece.part.model.stored, kv_bits) if piece.owned else precision
            cost = pricing.cost(piece.part, own, graphs=phase.graphs)
            context = None if piece.context is None else pricing.cost(piece.context, own, graphs=phase.graphs)
            self._parts.append(_PricedPart(cost, piece.owned and piece.part.mixers > 0, piece.part.cached, context))
            weights += resident_weight_bytes(piece.part.shard(pricing.ranks, pricing.experts))
        self._stays_cached = weights <= pricing.hardware.last_level_cache_bytes / 2

    @property
    def fills_cache(self) -> bool:
        """Whether it keeps keys and values of its own, which must take in what each step has computed."""
        return any(part.owned and part.cached for part in self._parts)

    @property
    def overlapped(self) -> bool:
        """Whether it runs beside the target's pass."""
        return self.phase.placement == "overlapped"

    def widths(self, draft_tokens: int) -> tuple[int, ...]:
        """Tokens a sequence of each sequential pass."""
        return self.phase.pass_widths(self._proposal, draft_tokens)

    def runs(self, groups: Groups, drafting: Reals, draft_tokens: int, kv_tokens: Reals) -> list[Run]:
        """Device work: a first pass that may carry the step's own tokens, then the later ones.

        Without drafting sequences only prompts are run, to fill the drafter's cache.
        """
        widths = self.widths(draft_tokens)
        if not widths:
            return []
        idle = isinstance(drafting, int) and drafting == 0
        found = []
        for cost, owned, cached, context in self._parts:
            own = partial(_own, drafting, kv_tokens, cached=cached)
            first = [] if context else self._first(groups, widths[0], fills=owned and cached)
            if not cached:
                first = [replace(group, kv_tokens=group.query_tokens) for group in first]
            alone = context is not None or self.phase.first_pass == "last"
            last = own(widths[0]) if alone and not idle else None
            if context is not None:
                found.append(Run(context, [self._kept(group) for group in groups]))
            if first or last:
                found.append(Run(cost, first, last, mask=self._mask))
            if idle:
                continue
            found.append(Run(cost, (), own(widths[0]), "greedy"))
            for width, times in Counter(widths[1:]).items():
                found.append(Run(cost, (), own(width), warm=self._stays_cached, mask=self._mask, times=times))
                found.append(Run(cost, (), own(width), "greedy", times=times))
        return found

    def _first(self, groups: Groups, width: int, *, fills: bool) -> list[Group]:
        """What a first pass carries of the step's groups."""
        if self.phase.first_pass == "committed":
            return [_continued(self._kept(group), width) for group in groups]
        return [replace(group, logit_rows=0) for group in groups if fills and group.is_prefill]

    def _kept(self, group: Group) -> Group:
        """What a group hands the drafter: of a chain all of it (vLLM pads to k + 1), of a tree one path at most."""
        if not self._proposal.tree or group.is_prefill:
            return group
        longest = 1 + len(self._proposal.pass_widths(math.ceil(group.query_tokens) - 1))
        if group.query_tokens <= longest:
            return group
        left_out = group.query_tokens - longest
        return Group(group.sequences, longest, group.kv_tokens - left_out, min(longest, group.logit_rows))


def _own(drafting: Reals, kv_tokens: Reals, width: int, *, cached: bool) -> Group:
    """Sequences that draft, in a pass of ``width`` tokens each."""
    return Group(drafting, width, kv_tokens + width - 1 if cached else float(width), width)


def _continued(group: Group, width: int) -> Group:
    """A step's tokens again, and after those that emit ``width`` - 1 more to be predicted in the same pass."""
    more = width - 1 if group.logit_rows else 0
    return Group(group.sequences, group.query_tokens + more, group.kv_tokens + more, width if group.logit_rows else 0)
