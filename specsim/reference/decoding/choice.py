"""Which drafter of the engine a program's data describes: by its weights and its proposal, whatever its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specsim.errors import InvalidInput
from specsim.reference.drafters import (
    Drafter,
    DraftModel,
    DynamicExit,
    Eagle,
    EarlyExit,
    Grown,
    Lookahead,
    Medusa,
    Merged,
    NGram,
    SkippedLayers,
    Stepwise,
    TreeShape,
)
from specsim.reference.drafters.own_weights import OwnWeights
from specsim.reference.network.layers import Sublayers
from specsim.reference.network.transformer import Transformer
from specsim.scenario import Speculation
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance import RecallAcceptance
from specsim.speculation.program import DraftProgram, Phase
from specsim.speculation.program.draft_weights import (
    DraftModelWeights,
    Head,
    OwnLayers,
    OwnMatrices,
    TargetLayers,
    TargetSublayers,
)
from specsim.speculation.program.proposal import ProposalSpec
from specsim.speculation.tree import chain

Make = Callable[[Transformer, Transformer | None, OwnWeights], Drafter]

KNOWN = (
    "a draft model (chain, fixed or dynamic tree, token graph), n-gram look-up, a lookahead window, heads on the last "
    "state (chain or fixed tree), skipped sublayers, early exit with or without an adapter or with a choice of exits, "
    "a feature head (chain, fixed or dynamic tree)"
)


def drafter_of(speculation: Speculation) -> Make | None:
    """Makes the drafter from a target, a draft model and weights of its own; None if nothing is drafted.

    A fixed tree is the acceptance law's, which says how likely each of its nodes is. Raises InvalidInput for a program
    that the engine does not run.
    """
    program, law = speculation.program, speculation.acceptance
    make = None
    if _runs_plainly(program):
        if not program.drafts:
            return None
        shape = law.shape if isinstance(law, RecallAcceptance) else chain
        make = _match(program, program.phases[0], shape) if len(program.phases) == 1 else None
    if make is None:
        raise InvalidInput(f"the reference engine cannot run program {program.name!r}; it has {KNOWN}, and none")
    return make


def _runs_plainly(program: DraftProgram) -> bool:
    """Whether rounds draft first, or in the target pass a window, and verify then, with the target as it is."""
    window = program.proposal.kind == "window"
    placed = all(phase.placement == ("fused" if window else "before_verify") for phase in program.phases)
    exact = program.verify.rule in ("exact", "rejection") or not program.drafts
    return placed and program.modifier is None and exact


def _match(program: DraftProgram, phase: Phase, shape: TreeShape) -> Make | None:
    proposal, layer = str(program.proposal.kind), program.verify.from_layer
    trees = ("static_tree", "dynamic_tree", "dag")
    steps = phase.passes == ("depth" if proposal in trees else "per_token" if proposal == "chain" else None)
    match phase.weights:
        case () if proposal == "copy" and phase.host_part == "ngram":
            return lambda target, draft, own: NGram()
        case () if program.proposal.kind == "window" and phase.width == "proposal" and not phase.from_layer:
            ngram, window, guesses = (getattr(program.proposal, size) for size in ("ngram", "window", "guesses"))
            if ngram < 3:
                return None
            return lambda target, draft, own: Lookahead(target.max_sequences, ngram, window, guesses)
        case (DraftModelWeights(),) if steps:
            return lambda target, draft, own: _over(program.proposal, DraftModel(_given(draft), shape))
        case (OwnMatrices(inputs=1, outputs=1) as blocks, Head(own=True, vocabulary=None, input_width=1) as heads) if (
            proposal in ("chain", "static_tree") and phase.passes == 1 and blocks.count == heads.count
        ):
            return lambda target, draft, own: Medusa(target, own.heads(target, heads.count), shape)
        case (TargetSublayers() as kept, Head(own=False)) if steps and proposal == "chain":
            return lambda target, draft, own: SkippedLayers(target, spread(kept, target.spec))
        case (TargetLayers(first=0, exits=(_, *_)) as early, Head(own=False)) if (
            steps and proposal == "chain" and layer == early.last
        ):
            return lambda target, draft, own: DynamicExit(target, early.exits, imposed=early.last)
        case (TargetLayers(first=0, exits=()) as early, Head(own=False)) if steps and proposal == "chain":
            return lambda target, draft, own: EarlyExit(target, early.last, reuse=layer > 0)
        case (
            TargetLayers(first=0, exits=()) as early,
            OwnLayers(attention=1, mlp=0, input_width=1, cached=True) as adapter,
            Head(own=False),
        ) if steps and proposal == "chain":
            return lambda target, draft, own: EarlyExit(
                target, early.last, own.adapter(target, early.last, _kv_heads(adapter, target.spec)), reuse=layer > 0
            )
        case (
            OwnMatrices(inputs=2, outputs=1, count=1),
            OwnLayers(attention=1, mlp=1, input_width=1, cached=True, kv_heads="target"),
            Head(own=False),
        ) if steps and proposal != "dag":
            return lambda target, draft, own: _over(program.proposal, Eagle(target, own.feature_head(target), shape))
        case _:
            return None


def _over(proposal: ProposalSpec, source: Stepwise) -> Drafter:
    """The source itself over its fixed shape, or trees that grow from it."""
    if proposal.kind == "dag":
        return Merged(source, proposal.depth, proposal.top_k, source.shape, proposal.merge_rate)
    if proposal.kind == "dynamic_tree":
        return Grown(source, proposal.depth, proposal.top_k, imposed=source.shape)
    return source


def spread(kept: TargetSublayers, target: ModelSpec) -> Sublayers:
    """So many sublayers of each kind, the first and the last among them, evenly between. 3 of 5: 0, 2, 4."""

    def even(count: int) -> tuple[bool, ...]:
        chosen = set(np.linspace(0, target.num_layers - 1, count).round().astype(int).tolist())
        return tuple(index in chosen for index in range(target.num_layers))

    return Sublayers(
        even(max(1, round(kept.attention_share * target.num_layers))), even(round(kept.mlp_share * target.num_layers))
    )


def _kv_heads(layers: OwnLayers, target: ModelSpec) -> int:
    return target.num_heads if layers.kv_heads == "all" else target.num_kv_heads


def _given(draft: Transformer | None) -> Transformer:
    if draft is None:
        raise InvalidInput("the program needs a draft_model; name one")
    return draft
