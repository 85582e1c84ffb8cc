"""A technique as data: what it drafts with, what it proposes, how that is verified, what it changes of the target."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from specsim.errors import InvalidInput
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.speculation.acceptance import Acceptance, AcceptanceLaw, ConfidenceAcceptance, RecallAcceptance
from specsim.speculation.program.draft_weights import DraftModelWeights, Piece, TargetLayers, check_layer
from specsim.speculation.program.modifier import TargetModifier
from specsim.speculation.program.phase import Phase
from specsim.speculation.program.proposal import ProposalSpec
from specsim.validated import Validated

VerificationRule = Literal["exact", "rejection", "typical", "relaxed", "none"]
HIDDEN_BYTES = 2  # of a cached hidden value
# Fields of a program that explain it or offer defaults; the others say what it does.
ABOUT = {
    "source",
    "mechanism",
    "taxonomy",
    "draft_tokens",
    "policy",
    "stop",
    "acceptance",
    "acceptance_on",
    "figures",
    "unknown",
    "max_position",
    "target_vocabulary",
    "simplified",
}


class VerifyPlan(Validated):
    """``from_layer``: drafting has run the layers below on every draft but the last, so that of those the target pass
    runs one token a sequence. ``rule`` none: drafts are taken as they are, and the pass computes one position.
    """

    rule: VerificationRule = "exact"
    from_layer: NonNegativeInt = 0


class Slots(Validated):
    """``per_token``·k + ``constant``, at least 0, and 0 without drafts."""

    per_token: NonNegativeInt = 0
    constant: int = 0

    def at(self, draft_tokens: int) -> int:
        return max(0, self.per_token * draft_tokens + self.constant) if draft_tokens else 0


class StopRule(Validated):
    """Drafting ends at the first confidence below ``threshold``; ``keep_last``: that token is still proposed;
    ``foreseen``: it is not even computed.
    """

    threshold: float = Field(gt=0, lt=1)
    keep_last: bool = False
    foreseen: bool = False
    source: str


class DefaultAcceptance(Validated):
    """The law taken where a scenario gives none. ``basis``: printed by its source, counted by this project, or assumed
    by an analogy that ``source`` states. ``data`` and ``target``: what it was counted on; None: not told.
    """

    law: Acceptance
    basis: Literal["cited", "measured", "assumed"]
    source: str
    data: str | None = None
    target: str | None = None


class Footprint(Validated):
    """Memory beside weights and cache. ``hidden_per_draft``: cached hidden states a drafted token, times the hidden
    size; ``host_bytes``: a store in host memory or on disk, None where it is not known.
    """

    hidden_per_draft: NonNegativeFloat = 0.0
    host_bytes: NonNegativeFloat | None = 0.0


class Taxonomy(Validated):
    """Where surveys put it (Xia et al., arXiv 2401.07851; Zhang et al., arXiv 2404.14897). How drafts are verified
    follows from proposal and rule.
    """

    drafting: Literal[
        "independent model",
        "early exit",
        "skipped layers",
        "heads",
        "features",
        "parallel",
        "copying",
        "window",
        "micro steps",
        "none",
    ]
    adaptation: Literal["static", "confidence", "batch", "acceptance", "online search"]


def _slots(value: object) -> object:
    return {"per_token": {"per_token": 1, "none": 0}.get(value, value)} if isinstance(value, str) else value


SlotRule = Annotated[Slots, BeforeValidator(_slots)]


class DraftProgram(Validated):
    """A technique. A YAML file holds one; ``specsim systems NAME`` explains it.

    ``lookahead``: KV slots reserved beyond a sequence's tokens while it decodes; ``budget_slots``: tokens of a step's
    budget that drafting takes from each sequence; ``recompute_last_hit``: a prefix found in the cache is taken one
    block shorter, whose hidden states the drafter needs (vLLM: the EAGLE family, MTP, DFlash). ``figures``: each
    number of the file and where it is from.
    """

    name: str
    source: str
    mechanism: str = ""
    taxonomy: Taxonomy | None = None
    lossless: bool
    phases: tuple[Phase, ...] = ()
    proposal: ProposalSpec
    verify: VerifyPlan = VerifyPlan()
    modifier: TargetModifier | None = None
    lookahead: SlotRule = Slots()
    budget_slots: SlotRule = Slots()
    recompute_last_hit: bool = False
    footprint: Footprint = Footprint()
    max_position: PositiveInt | None = None  # positions its weights were trained for
    target_vocabulary: PositiveInt | None = None  # tokens of the target that its weights were trained for
    simplified: tuple[str, ...] = ()  # of a head's own layers, and what stands in for it
    draft_tokens: PositiveInt | None = None  # k where a scenario gives none
    policy: dict[str, Any] | None = None  # where a scenario gives none; None: always draft_tokens
    stop: StopRule | None = None
    acceptance: DefaultAcceptance | None = None
    acceptance_on: tuple[DefaultAcceptance, ...] = ()  # in its place on the target that each names
    figures: dict[str, str] = Field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> DraftProgram:
        if self.phases and not self.drafts:
            raise ValueError("phases are given and the proposal is none; leave them out or propose something")
        layer = self.verify.from_layer
        shared = [w.last for phase in self.phases for w in phase.weights if isinstance(w, TargetLayers)]
        if layer and layer not in shared:
            raise ValueError(
                f"verify.from_layer is {layer} and no phase runs target_layers up to there; their states are not known"
            )
        if self.modifier is not None and self.modifier.exit is not None and (self.drafts or layer):
            raise ValueError("modifier.exit leaves layers out for good, and drafts need them to be verified; drop one")
        return self

    # -- what it does -------------------------------------------------------------------------------------------

    @property
    def needs_draft_model(self) -> bool:
        return any(isinstance(weights, DraftModelWeights) for phase in self.phases for weights in phase.weights)

    @property
    def drafts(self) -> bool:
        return self.proposal.kind != "none"

    @property
    def copies(self) -> bool:
        """Whether drafts are tokens of a text that went before."""
        return self.proposal.kind in ("copy", "copy_tree")

    @property
    def drafts_on_gpu(self) -> bool:
        """Whether no part of drafting runs on the host."""
        return all(phase.where == "gpu" for phase in self.phases)

    @property
    def verifies(self) -> bool:
        """False: what is drafted is emitted as it is; a round computes one position and caches one."""
        return self.verify.rule != "none"

    def check_acceptance(self, law: AcceptanceLaw) -> None:
        """Raises InvalidInput for a law of drafts in a row where k counts the nodes of a tree."""
        if self.proposal.tree and not isinstance(law, RecallAcceptance):
            raise InvalidInput(
                f"program {self.name!r} drafts a tree, whose k counts nodes, and acceptance {type(law).__name__} "
                "speaks of drafts in a row; give acceptance of kind recall"
            )

    def choices(self, max_draft_tokens: int) -> tuple[int, ...]:
        """Draft lengths up to ``max_draft_tokens`` that make sense, 0 first."""
        return (0, *self.proposal.sizes(max_draft_tokens))

    def cache_places(self, max_draft_tokens: int) -> int:
        """Places behind a sequence's tokens that a round may fill: its drafts, or more where passes try more than they
        propose, and what rides along with the target pass.
        """
        k = max_draft_tokens
        tried = [sum(phase.pass_widths(self.proposal, k)[1:]) for phase in self.phases]
        beside = [phase.extra_width(self.proposal, k)[0] for phase in self.phases]
        return max(k, *tried, 0) + sum(beside)

    def lookahead_tokens(self, max_draft_tokens: int) -> int:
        """KV slots reserved beyond a sequence's tokens."""
        return self.lookahead.at(max_draft_tokens)

    def budget_tokens(self, max_draft_tokens: int) -> int:
        """Tokens of a step's budget that drafting takes from each sequence, beside those it verifies."""
        return self.budget_slots.at(max_draft_tokens)

    def tokens_per_round(self, draft_tokens: int) -> float | None:
        """Mean tokens a round commits by the program's own acceptance and stop rule; None where it states none."""
        if self.acceptance is None:
            return None
        law, stop = self.acceptance.law, self.stop
        if stop is not None and isinstance(law, ConfidenceAcceptance):
            return law.stopped(draft_tokens, stop.threshold, keep_last=stop.keep_last, foreseen=stop.foreseen).tokens
        return law.expected_tokens(draft_tokens)

    # -- what it holds ------------------------------------------------------------------------------------------

    def pieces(self, phase: Phase, target: ModelSpec, draft: ModelSpec | None) -> tuple[Piece, ...]:
        """What a phase runs, on this target. Raises InvalidInput for a layer beyond the model."""
        return tuple(weights.piece(target, draft) for weights in phase.weights)

    def check(self, target: ModelSpec) -> None:
        """Raises InvalidInput where a layer is beyond the target."""
        check_layer(self.verify.from_layer, target, f"verify.from_layer of program {self.name!r}")
        for phase in self.phases:
            check_layer(phase.from_layer, target, f"from_layer of program {self.name!r}")
            for weights in phase.weights:
                if isinstance(weights, TargetLayers):
                    check_layer(weights.last, target, f"target_layers.last of program {self.name!r}")
                    check_layer(max(weights.exits, default=0), target, f"target_layers.exits of program {self.name!r}")

    def own_parts(self, target: ModelSpec, draft: ModelSpec | None) -> tuple[ModelPart, ...]:
        """What it keeps in GPU memory beside the target."""
        pieces = (piece for phase in self.phases for piece in self.pieces(phase, target, draft))
        return tuple(piece.part for piece in pieces if piece.owned)

    def scratch_bytes(self, target: ModelSpec, sequences: int, max_draft_tokens: int) -> float:
        """Hidden states cached for drafts of so many sequences."""
        values = self.footprint.hidden_per_draft * target.hidden_size * max_draft_tokens
        return sequences * values * HIDDEN_BYTES
