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
from specsim.speculation.pricing import Entry, PassPricing, seconds_of
from specsim.speculation.program import DraftProgram, TargetModifier
from specsim.speculation.program.modifier import ExitLaw, HostExperts

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
        self._whole = pricing.cost(target, precision)
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
        groups = self._beams(groups)
        found = self._layers(groups, draft_tokens) if self._exits is None else self._exits.entries(groups)
        rows = sum((group.sequences * group.logit_rows for group in self._widened(groups, draft_tokens, None)), 0)
        found.append(Entry(self._whole.sampling("greedy", rows), 1))
        found += self._verification(groups)
        found += self._unpacking()
        if self._modifier.experts is not None:
            found.append(self._expert_loads(self._modifier.experts, groups, seconds_of(found)))
        return found

    def _layers(self, groups: Groups, draft_tokens: int) -> list[Entry]:
        runs = [self._groups_at(segment.first, groups, draft_tokens) for segment in self._segments]
        if all(run is groups for run in runs):
            return [Entry(self._whole.charges(groups, warm=False, mask=self._mask), 1)]
        return [
            Entry(segment.cost.charges(run, warm=False, mask=self._mask), 1)
            for segment, run in zip(self._segments, runs, strict=True)
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

    def _verification(self, groups: Groups) -> list[Entry]:
        """What the rule computes over the rows of logits that judge drafts."""
        operations = RULE_OPERATIONS[self._program.verify.rule] if self._program else ()
        rows = sum((group.sequences * group.logit_rows for group in groups if _verified(group)), 0)
        return [Entry(self._whole.sampling(operation, rows), 1) for operation in operations]

    def _unpacking(self) -> list[Entry]:
        """Widening narrow weights, once a pass however many tokens it has."""
        narrow = self._modifier.weights
        if narrow is None or not narrow.operations_per_weight:
            return []
        target = self._target.shard(self._pricing.ranks)
        weights = float(target.active_parameter_count() - target.lm_head().n * target.hidden_size)
        shape = (weights / target.hidden_size, float(target.hidden_size))
        flops = narrow.operations_per_weight * weights
        kernel = Kernel("elementwise", "elementwise", shape, "unpack", self._precision.dtype, 1, flops, 0.0)
        return [Entry([self._whole.charge(kernel, warm=False)], 1)]

    def _expert_loads(self, experts: HostExperts, groups: Groups, pass_s: Reals) -> Entry:
        """Loading of experts that are not resident: foreseen ones hide behind the pass, the others do not."""
        part, moe = ModelPart.whole(self._target.shard(self._pricing.ranks)), self._target.moe
        tokens = sum((group.tokens for group in groups), 0)
        load_s: Reals = 0.0
        if moe is not None:
            expert_bytes = (
                sum(m.n * m.k * m.count for m in part.linears() if m.routed) * self._precision.weight_bits / 8
            )
            missing = (1 - experts.resident_share) * moe.expected_experts(tokens)
            load_s = missing * expert_bytes / experts.bytes_per_s
        hidden = np.minimum(experts.hit_rate * load_s, pass_s)
        seconds = load_s - hidden
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

    def entries(self, groups: Groups) -> list[Entry]:
        """Layers of each depth with the tokens that reach it, times the chance that any does; then the head."""
        decoding = sum((group.sequences for group in groups if not group.is_prefill), 0)
        prompts = any(group.is_prefill for group in groups)
        found = [Entry(self._head.charges(groups, warm=False), 1)]
        for index, (cost, reaching) in enumerate(zip(self._segments, self._exits.reaching(), strict=True)):
            runs = self._exits.runs(reaching, decoding)
            inside: Reals = 1.0
            if self._exits.batch == "each":
                inside = reaching / np.maximum(runs, np.finfo(np.float64).tiny)
            alive = runs * inside if prompts else inside
            here = [g if g.is_prefill else replace(g, sequences=alive * g.sequences) for g in groups]
            times: Reals = 1.0 if prompts else runs
            found.append(Entry(cost.charges(here, warm=False), times))
            if self._exits.check and index < len(self._segments) - 1:
                judged = [group for group in here if not group.is_prefill]
                found.append(Entry(self._head.charges(judged, warm=False), times))
        return found


def _verified(group: Group) -> bool:
    return group.query_tokens > 1 and not group.is_prefill


def _closing(group: Group) -> Group:
    """The last draft alone: drafting has run the layers on the tokens before it."""
    return Group(group.sequences, 1, group.kv_tokens, 1)


def _wider(group: Group, width: int, rows: int) -> Group:
    return Group(group.sequences, group.query_tokens + width, group.kv_tokens + width, group.logit_rows + rows)
