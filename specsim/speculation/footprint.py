"""What a technique takes of a GPU's memory: weights, cache, hidden states; and what a modifier gives back."""

from __future__ import annotations

from specsim.cost.memory import MemoryBudget, memory_budget
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart
from specsim.speculation.program import DraftProgram, TargetModifier


def program_budget(
    program: DraftProgram,
    target: ModelSpec,
    draft: ModelSpec | None,
    hardware: Hardware,
    deployment: Deployment,
    engine: EngineLimits,
    max_draft_tokens: int,
) -> MemoryBudget:
    """Where one GPU's memory goes with the program loaded. Raises NoAnswer if not one KV block is left."""
    ranks, experts = deployment.tensor_parallel, deployment.expert_group
    modifier = program.modifier or TargetModifier()
    if modifier.weights is not None:
        narrow = {
            "weight_format": None,
            "weight_bits": modifier.weights.bits,
            "group_size": modifier.weights.group_size,
        }
        deployment = deployment.model_copy(update=narrow)
    whole = ModelPart.whole(target).shard(ranks, experts)
    scratch = program.scratch_bytes(target, engine.max_num_seqs, max_draft_tokens)
    if modifier.experts is not None:
        scratch -= (1 - modifier.experts.resident_share) * _expert_bytes(whole, deployment)
    parts = [part.shard(ranks, experts) for part in program.own_parts(target, draft)]
    return memory_budget(
        whole,
        parts,
        hardware,
        deployment,
        engine,
        scratch_bytes=scratch,
        max_draft_tokens=max_draft_tokens,
    )


def request_blocks(program: DraftProgram, budget: MemoryBudget) -> int:
    """KV blocks of one replica for requests, each of whose beams caches its own tokens."""
    return budget.blocks // (program.modifier.sequences if program.modifier else 1)


def _expert_bytes(part: ModelPart, deployment: Deployment) -> float:
    routed = [linear for linear in part.linears() if linear.routed]
    return sum(linear.parameters for linear in routed) * (deployment.stored or part.model.stored).bits / 8
