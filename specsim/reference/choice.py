"""Which drafter of the engine a program's data describes: by its weights and its proposal, whatever its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specsim.errors import InvalidInput
from specsim.reference.drafters import (
    Drafter,
    DraftModel,
    Eagle,
    EarlyExit,
    Medusa,
    NGram,
    Shape,
    SkippedLayers,
)
from specsim.reference.drafters.weights import random_adapter, random_feature_head, random_heads
from specsim.reference.layers import Sublayers
from specsim.reference.transformer import Transformer
from specsim.scenario import Speculation
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance import RecallAcceptance
from specsim.speculation.program import DraftProgram, Phase
from specsim.speculation.program.weights import (
    DraftModelWeights,
    Head,
    OwnLayers,
    OwnMatrices,
    TargetLayers,
    TargetSublayers,
)
from specsim.speculation.tree import chain

Make = Callable[[Transformer, Transformer | None, int], Drafter]

KNOWN = (
    "a draft model (chain or fixed tree), n-gram look-up, heads on the last state (chain or fixed tree), skipped "
    "sublayers, early exit with or without an adapter, a feature head (chain or fixed tree)"
)


def drafter_of(speculation: Speculation) -> Make | None:
    """Makes the drafter from a target, a draft model and a seed for its own weights; None if nothing is drafted.

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
    """Whether rounds draft first and verify greedily then, with the target as it is."""
    first = all(phase.placement == "before_verify" for phase in program.phases)
    return first and program.modifier is None and (program.verify.rule in ("exact", "rejection") or not program.drafts)


def _match(program: DraftProgram, phase: Phase, shape: Shape) -> Make | None:
    proposal, layer = str(program.proposal.kind), program.verify.from_layer
    steps = {"chain": "per_token", "static_tree": "depth"}.get(proposal) == phase.passes
    match phase.weights:
        case () if proposal == "copy" and phase.host_part == "ngram":
            return lambda target, draft, seed: NGram()
        case (DraftModelWeights(),) if steps:
            return lambda target, draft, seed: DraftModel(_given(draft), shape)
        case (OwnMatrices(inputs=1, outputs=1) as blocks, Head(own=True, vocabulary=None, input_width=1) as heads) if (
            proposal in ("chain", "static_tree") and phase.passes == 1 and blocks.count == heads.count
        ):
            return lambda target, draft, seed: Medusa(target, random_heads(target, heads.count, seed), shape)
        case (TargetSublayers() as kept, Head(own=False)) if steps and proposal == "chain":
            return lambda target, draft, seed: SkippedLayers(target, spread(kept, target.spec))
        case (TargetLayers(first=0) as early, Head(own=False)) if steps and proposal == "chain":
            return lambda target, draft, seed: EarlyExit(target, early.last, reuse=layer > 0)
        case (
            TargetLayers(first=0) as early,
            OwnLayers(attention=1, mlp=0, input_width=1, cached=True) as own,
            Head(own=False),
        ) if steps and proposal == "chain":
            return lambda target, draft, seed: EarlyExit(
                target, early.last,
                random_adapter(target, seed, num_kv_heads=target.spec.num_heads if own.kv_heads == "all" else None),
                reuse=layer > 0,
            )  # fmt: skip
        case (
            OwnMatrices(inputs=2, outputs=1, count=1),
            OwnLayers(attention=1, mlp=1, input_width=1, cached=True, kv_heads="target"),
            Head(own=False),
        ) if steps:
            return lambda target, draft, seed: Eagle(target, random_feature_head(target, seed), shape)
        case _:
            return None


def spread(kept: TargetSublayers, target: ModelSpec) -> Sublayers:
    """So many sublayers of each kind, the first and the last among them, evenly between. 3 of 5: 0, 2, 4."""

    def even(count: int) -> tuple[bool, ...]:
        chosen = set(np.linspace(0, target.num_layers - 1, count).round().astype(int).tolist())
        return tuple(index in chosen for index in range(target.num_layers))

    return Sublayers(
        even(max(1, round(kept.attention_share * target.num_layers))), even(round(kept.mlp_share * target.num_layers))
    )


def _given(draft: Transformer | None) -> Transformer:
    if draft is None:
        raise InvalidInput("the program needs a draft_model; name one")
    return draft
