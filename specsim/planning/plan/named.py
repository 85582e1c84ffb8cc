"""What may be chosen, from names: of GPUs, drafters and lengths, with defaults where nothing is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specsim.errors import InvalidInput
from specsim.planning.plan.space import DrafterChoice, Space
from specsim.scenario import Scenario, Speculation
from specsim.scenario.drafter import drafter_fields, name_draft_model
from specsim.scenario.question import read_hardware
from specsim.specs.deployment import KvLink
from specsim.specs.hardware import Hardware
from specsim.specs.yaml_file import build
from specsim.speculation.policy import FixedPolicy

USUAL_LENGTHS = (1, 2, 3, 4, 5)  # tried of a drafter beside its own


@dataclass(frozen=True, slots=True)
class Named:
    """Choices by name; empty: the scenario's own, or what is usual.

    ``drafters``: techniques, draft models or heads (see ``drafter_fields``); off is always a choice. ``usd``: an hour,
    by the GPU's full name.
    """

    gpus: Sequence[str] = ()
    tensor_parallel: Sequence[int] = ()
    data_parallel: Sequence[int] = ()
    drafters: Sequence[str] = ()
    draft_tokens: Sequence[int] = ()
    weight_bits: Sequence[float] = ()
    kv_bits: Sequence[float] = ()
    disaggregated: bool = False
    schedules: bool = False
    usd: Mapping[str, float] = field(default_factory=dict)

    def space(self, scenario: Scenario) -> tuple[Space, tuple[str, ...]]:
        """All that may be chosen, and what was assumed. Raises InvalidInput for an unknown name, a missing price."""
        deployment = scenario.deployment
        gpus = _gpus(self.gpus) or (scenario.gpu,)
        drafters, assumed = self._drafters(scenario)
        pools = deployment.disaggregation
        space = Space(
            gpus=gpus,
            tensor_parallel=tuple(self.tensor_parallel) or _counts(gpus),
            drafters=drafters,
            data_parallel=tuple(self.data_parallel) or (deployment.data_parallel,),
            weight_bits=tuple(self.weight_bits) or (deployment.weight_bits,),
            kv_bits=tuple(self.kv_bits) or (deployment.kv_bits,),
            disaggregated=(False, True) if self.disaggregated or pools is not None else (False,),
            usd_per_gpu_hour=self._prices(gpus, scenario),
            kv_link=KvLink() if pools is None else pools.kv_link,
            schedules=self.schedules,
        )
        return space, assumed

    def leaves_schedules(self, scenario: Scenario) -> bool:
        """Whether schedules could be tried too: a drafter's length is fixed, the scenario's own or of one named."""
        own = scenario.speculation
        if self.drafters:
            drafts = any(drafter_fields(name) is not None for name in self.drafters)
        else:
            drafts = own is not None and isinstance(own.policy, FixedPolicy)
        return drafts and not self.schedules

    def _drafters(self, scenario: Scenario) -> tuple[tuple[DrafterChoice | None, ...], tuple[str, ...]]:
        if any(k < 1 for k in self.draft_tokens):
            raise InvalidInput(f"--draft-tokens {min(self.draft_tokens)} drafts nothing; off is always tried too")
        if self.schedules and not self.drafters and scenario.speculation is None:
            raise InvalidInput("--schedules are of a drafter and there is none; add --drafter eagle-3")
        if not self.drafters:
            own = scenario.speculation
            return (None,) if own is None else (None, _own(own, self.draft_tokens)), ()
        found: list[DrafterChoice | None] = [None]
        assumed: list[str] = []
        for name in self.drafters:
            drafter, filled_in = _drafter(scenario, name, self.draft_tokens)
            found += [] if drafter is None else [drafter]
            assumed += filled_in
        return tuple(found), tuple(assumed)

    def _prices(self, gpus: Sequence[Hardware], scenario: Scenario) -> Mapping[str, float] | None:
        """Of each GPU, the scenario's own where none is given; None: there are none at all."""
        known = dict(self.usd)
        if scenario.usd_per_gpu_hour is not None:
            known.setdefault(scenario.gpu.name, scenario.usd_per_gpu_hour)
        if not known:
            return None
        bare = [gpu.name for gpu in gpus if gpu.name not in known]
        if bare:
            raise InvalidInput(
                f"{bare[0]} has no price and {', '.join(known)} has; add --price {bare[0].lower()}=USD an hour"
            )
        return {gpu.name: known[gpu.name] for gpu in gpus}


def _gpus(names: Sequence[str]) -> tuple[Hardware, ...]:
    """Presets, files or profiles."""
    by_name = {one.name: one for name in names if isinstance(one := read_hardware(name), Hardware)}
    return tuple(by_name.values())


def _counts(gpus: Sequence[Hardware]) -> tuple[int, ...]:
    """Powers of two up to a node's GPUs."""
    most = max(gpu.node_gpus for gpu in gpus)
    return tuple(2**power for power in range(most.bit_length()))


def _own(speculation: Speculation, draft_tokens: Sequence[int]) -> DrafterChoice:
    """The scenario's, with its acceptance; a policy other than a fixed length stays, with its longest draft."""
    fields: dict[str, Any] = {name: getattr(speculation, name) for name in Speculation.model_fields}
    own = fields.pop("max_draft_tokens")
    if not isinstance(speculation.policy, FixedPolicy):
        return DrafterChoice(speculation.drafter_name(), fields, (own,))
    del fields["policy"]
    return DrafterChoice(speculation.drafter_name(), fields, tuple(draft_tokens) or _lengths(speculation))


def _drafter(
    scenario: Scenario, name: str, draft_tokens: Sequence[int]
) -> tuple[DrafterChoice | None, tuple[str, ...]]:
    """With the acceptance that the program offers, and what was assumed; None: off."""
    fields = drafter_fields(name)
    if fields is None:
        return None, ()
    data: dict[str, Any] = {"model": scenario.model, "speculation": fields}
    assumed = name_draft_model(data)
    speculation = build(Speculation, fields, where=f"drafter {name}")
    lengths = tuple(draft_tokens) or _lengths(speculation)
    source = speculation.acceptance_origin.basis
    return DrafterChoice(speculation.drafter_name(), fields, lengths), (
        *assumed,
        f"the acceptance {source} of {speculation.program.name}",
    )


def _lengths(speculation: Speculation) -> tuple[int, ...]:
    """Usual lengths, and its own, that the program can draft."""
    own = speculation.max_draft_tokens
    possible = speculation.program.choices(max(own, *USUAL_LENGTHS))
    return tuple(k for k in possible if k and (k in USUAL_LENGTHS or k == own))
