"""The target's pass of a step: which layers run on which tokens, as the verify plan, fused drafting and modifiers say.

The layers fall into segments at the layers where something changes. A segment runs every token, or one a sequence of
those it verifies (drafting has run them there already), or the fused phase's tokens beside them, or the share of
tokens that did not exit before. Without any of that the whole model is one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Group, Kernel, Precision
from specsim.cost.passes import PassCost
from specsim.cost.step_time import Charge
from specsim.specs.formats import Stored
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.speculation.pricing import Entry, PassPricing, Run, seconds_of
from specsim.speculation.program import DraftProgram, TargetModifier
from specsim.speculation.program.modifier import ExitLaw

Groups = Sequence[Group]
# Kernels over the rows of logits of what is verified, beside the greedy choice that every step pays.
RULE_OPERATIONS: dict[str, tuple[str, ...]] = {
    "exact": (),
    "rejection": ("softmax", "rejection"),
    "typical": ("softmax",),
    "relaxed": ("softmax",),
    "none": (),
}
TRANSFER_ERROR = 0.2  # one standard deviation, as a share, of loading weights from the host; a judgement


@dataclass(frozen=True, slots=True)
class _Segment:
    first: int  # layer
    cost: PassCost


class TargetPass:
    """Prices the pass over a step's groups."""

    def __init__(
        self, target: ModelSpec, pricing: PassPricing, precision: Precision, program: DraftProgram | None
    ) -> None:
        self._modifier = (program.modifier if program else None) or TargetModifier()
        narrow = self._modifier.weights
        if narrow is not None:
            precision = Precision.on(
                pricing.hardware, Stored.of_bits(narrow.bits, narrow.group_size), precision.kv_bits
            )
        self._target, self._pricing, self._precision, self._program = target, pricing, precision, program
        self._mask = "tree" if program is not None and program.proposal.tree else ""
        self._whole = pricing.cost(target, precision, logit_bytes=pricing.engine.logit_bytes)
        self._segments = [
            _Segment(first, pricing.cost(ModelPart.layers(target, first, last), precision))
            for first, last in pairwise(self._borders())
        ]
        exits = self._modifier.exit
        self._exits = None if exits is None else _ExitPass(target, pricing, precision, exits)

    def _borders(self) -> list[int]:
        """Layers at which segments begin, and the end."""
        borders = {0, self._target.num_layers}
        if self._program is not None:
            self._program.check(self._target)
            fused = (phase for phase in self._program.phases if phase.placement == "fused")
            borders |= {self._program.verify.from_layer, *(phase.from_layer for phase in fused)}
        return sorted(borders)

    def entries(self, groups: Groups, draft_tokens: int) -> list[Entry]:
        """Device work of the pass and of choosing tokens from its logits; ``draft_tokens`` are drafted next."""
        found = [run.entry() for run in self.runs(groups, draft_tokens)] + self.unpacking()
        if self._modifier.experts is not None:
            found.append(self._expert_loads(groups, seconds_of(found)))
        return found

    def runs(self, groups: Groups, draft_tokens: int) -> list[Run]:
        """Of that work, what depends on the step's groups."""
        groups = self._beams(groups)
        found = self._layers(groups, draft_tokens) if self._exits is None else self._exits.runs(groups)
        found.append(Run(self._whole, self._widened(groups, draft_tokens, None), operation="greedy"))
        return found + self._verification(groups)

    def _layers(self, groups: Groups, draft_tokens: int) -> list[Run]:
        changed = [self._groups_at(segment.first, groups, draft_tokens) for segment in self._segments]
        if all(here is groups for here in changed):
            return [Run(self._whole, groups, mask=self._mask)]
        return [
            Run(segment.cost, here, mask=self._mask) for segment, here in zip(self._segments, changed, strict=True)
        ]

    def _groups_at(self, layer: int, groups: Groups, draft_tokens: int) -> Groups:
        """What runs through a layer; the same object where nothing changes."""
        if self._program is None:
            return groups
        if layer < self._program.verify.from_layer and any(_verified(group) for group in groups):
            groups = [_closing(group) if _verified(group) else group for group in groups]
        return self._widened(groups, draft_tokens, layer)

    def _widened(self, groups: Groups, draft_tokens: int, layer: int | None) -> Groups:
        """With the tokens that fused phases add at a layer, None for the last."""
        if self._program is None:
            return groups
        for phase in self._program.phases:
            width, rows = phase.extra_width(self._program.proposal, draft_tokens)
            if width and (layer is None or layer >= phase.from_layer):
                groups = [_wider(group, width, rows) if group.logit_rows else group for group in groups]
        return groups

    def _beams(self, groups: Groups) -> Groups:
        beams = self._modifier.sequences
        if beams == 1:
            return groups
        return [g if g.is_prefill else replace(g, sequences=beams * g.sequences) for g in groups]

    def _verification(self, groups: Groups) -> list[Run]:
        """What the rule computes over the rows of logits that judge drafts."""
        operations = RULE_OPERATIONS[self._program.verify.rule] if self._program else ()
        judged = [group if _verified(group) else replace(group, logit_rows=0) for group in groups]
        return [Run(self._whole, judged, operation=operation) for operation in operations]

    def unpacking(self) -> list[Entry]:
        """Widening narrow weights, once a pass however many tokens it has."""
        narrow = self._modifier.weights
        if narrow is None or not narrow.operations_per_weight:
            return []
        target = self._target.shard(self._pricing.ranks)
        weights = float(target.active_parameter_count() - target.lm_head().n * target.hidden_size)
        shape = (weights / target.hidden_size, float(target.hidden_size))
        flops = narrow.operations_per_weight * weights
        kernel = Kernel("elementwise", "elementwise", shape, "unpack", self._precision.dtype, 1, flops, 0.0)
        return [Entry([self._whole.kernels.charge(kernel, warm=False)], 1)]

    def load_s(self, tokens: Reals) -> tuple[Reals, Reals]:
        """Seconds of loading the experts of so many tokens that are not resident, and of what of it is foreseen."""
        experts, moe = self._modifier.experts, self._target.moe
        if experts is None or moe is None:
            return 0.0, 0.0
        part = ModelPart.whole(self._target.shard(self._pricing.ranks))
        expert_bytes = sum(m.n * m.k * m.count for m in part.linears() if m.routed) * self._precision.weight_bits / 8
        missing = (1 - experts.resident_share) * moe.expected_experts(tokens)
        seconds = missing * expert_bytes / experts.bytes_per_s
        return seconds, experts.hit_rate * seconds

    def _expert_loads(self, groups: Groups, pass_s: Reals) -> Entry:
        """Loading of experts: foreseen ones hide behind the pass, the others do not."""
        load_s, foreseen_s = self.load_s(sum((group.tokens for group in groups), 0))
        seconds = load_s - np.minimum(foreseen_s, pass_s)
        return Entry([Charge("communication", "transfer", seconds, TRANSFER_ERROR * seconds, 0.0, 0.0, 1)], 1)


class _ExitPass:
    """A pass whose tokens leave at different depths."""

    def __init__(self, target: ModelSpec, pricing: PassPricing, precision: Precision, exits: ExitLaw) -> None:
        self._exits = exits
        borders = [0, *(max(1, round(level.depth * target.num_layers)) for level in exits.levels)]
        borders = [max(borders[: i + 1]) for i in range(len(borders))]
        self._segments = []
        for first, last in pairwise(borders):
            part = ModelPart.layers(target, first, last)
            self._segments.append(pricing.cost(replace(part, heads=(), final_norm=False), precision))
        self._head = pricing.cost(ModelPart(target, final_norm=True, heads=(target.lm_head(),)), precision)

    def runs(self, groups: Groups) -> list[Run]:
        """Layers of each depth with the tokens that reach it, times the chance that any does; then the head."""
        decoding = sum((group.sequences for group in groups if not group.is_prefill), 0)
        prompts = any(group.is_prefill for group in groups)
        found = [Run(self._head, groups)]
        for index, (cost, reaching) in enumerate(zip(self._segments, self._exits.reaching(), strict=True)):
            runs = self._exits.runs(reaching, decoding)
            inside: Reals = 1.0
            if self._exits.batch == "each":
                inside = reaching / np.maximum(runs, np.finfo(np.float64).tiny)
            alive = runs * inside if prompts else inside
            here = [g if g.is_prefill else replace(g, sequences=alive * g.sequences) for g in groups]
            times: Reals = 1.0 if prompts else runs
            found.append(Run(cost, here, times=times))
            judged = [group for group in here if not group.is_prefill]
            if judged and self._exits.check and index < len(self._segments) - 1:
                found.append(Run(self._head, judged, times=times))
        return found


def _verified(group: Group) -> bool:
    return group.query_tokens > 1 and not group.is_prefill


def _closing(group: Group) -> Group:
    """The last draft alone: drafting has run the layers on the tokens before it."""
    return Group(group.sequences, 1, group.kv_tokens, 1)


def _wider(group: Group, width: int, rows: int) -> Group:
    return Group(group.sequences, group.query_tokens + width, group.kv_tokens + width, group.logit_rows + rows)
