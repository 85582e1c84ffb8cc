"""What a technique costs on a target, in passes and bytes, before any machine is known."""

from __future__ import annotations

from dataclasses import dataclass

from specsim.cost.memory import resident_weight_bytes
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.speculation.program import DraftProgram, Phase


@dataclass(frozen=True, slots=True)
class PhaseFacts:
    """One phase at a draft length. ``weight_share``: weights of one pass over those of a target pass, one sequence."""

    where: str
    placement: str
    pass_widths: tuple[int, ...]
    extra_target_width: int
    parameters: int
    bytes_per_pass: float
    weight_share: float
    host_s_per_sequence: float


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    """A program at a draft length on a target; ``round_weight_share``: all draft passes over one target pass."""

    target: str
    draft_model: str | None
    draft_tokens: int
    verify_width: int
    phases: tuple[PhaseFacts, ...]
    round_weight_share: float
    target_bytes_per_pass: float
    extra_parameters: int
    extra_weight_bytes: float
    draft_kv_bytes_per_token: float
    scratch_bytes_per_sequence: float
    lookahead_tokens: int
    budget_tokens: int


def facts(program: DraftProgram, target: ModelSpec, draft: ModelSpec | None, draft_tokens: int) -> ProgramFacts:
    """Raises InvalidInput for a layer beyond the target, or a draft model that is needed and not given."""
    program.check(target)
    whole = ModelPart.whole(target)
    target_bytes = _pass_bytes(whole)
    phases = tuple(_phase(program, phase, target, draft, draft_tokens) for phase in program.phases)
    own = program.own_parts(target, draft)
    first = program.verify.from_layer  # the last draft's own pass through the layers below belongs to the round
    closing = ModelPart.layers(target, 0, first).active_parameters() if first and draft_tokens else 0
    shared = sum(len(phase.pass_widths) * phase.weight_share for phase in phases)
    extra = max((phase.extra_target_width for phase in phases), default=0)
    return ProgramFacts(
        target=target.name,
        draft_model=None if draft is None else draft.name,
        draft_tokens=draft_tokens,
        verify_width=(1 + draft_tokens if program.verifies else 1) + extra,
        phases=phases,
        round_weight_share=shared + closing / whole.active_parameters(),
        target_bytes_per_pass=target_bytes,
        extra_parameters=sum(part.parameter_count() for part in own),
        extra_weight_bytes=sum(resident_weight_bytes(part) for part in own),
        draft_kv_bytes_per_token=sum(part.kv_bytes_per_token() for part in own),
        scratch_bytes_per_sequence=program.scratch_bytes(target, 1, draft_tokens),
        lookahead_tokens=program.lookahead_tokens(draft_tokens),
        budget_tokens=program.budget_tokens(draft_tokens),
    )


def weight_share(program: DraftProgram, phase: Phase, target: ModelSpec, draft: ModelSpec | None) -> float:
    """Weights that one pass of a phase reads over those of one target pass. Kangaroo on Vicuna-7B: 0.091."""
    parts = [piece.part for piece in program.pieces(phase, target, draft)]
    return sum(part.active_parameters() for part in parts) / ModelPart.whole(target).active_parameters()


def _phase(
    program: DraftProgram, phase: Phase, target: ModelSpec, draft: ModelSpec | None, draft_tokens: int
) -> PhaseFacts:
    parts = [piece.part for piece in program.pieces(phase, target, draft)]
    return PhaseFacts(
        where=phase.where,
        placement=phase.placement,
        pass_widths=phase.pass_widths(program.proposal, draft_tokens),
        extra_target_width=phase.extra_width(program.proposal, draft_tokens)[0],
        parameters=sum(part.active_parameters() for part in parts),
        bytes_per_pass=sum(map(_pass_bytes, parts)),
        weight_share=weight_share(program, phase, target, draft),
        host_s_per_sequence=phase.host_s_per_sequence,
    )


def _pass_bytes(part: ModelPart) -> float:
    return part.active_parameters() * part.model.weight_bits / 8
