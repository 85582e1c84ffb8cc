"""The question as one frozen object."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from specsim.named_files import is_folder
from specsim.profiles.store import profile_hardware, profile_names
from specsim.results import Slo
from specsim.scenario.model_reference import Model
from specsim.scenario.speculation import Speculation
from specsim.scenario.weights import Weights
from specsim.scenario.workload import Workload
from specsim.specs.catalog import hardware_names, load_hardware
from specsim.specs.conditions import Conditions
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineKind, EngineLimits
from specsim.specs.engine_defaults import Circumstances, with_defaults
from specsim.specs.faults import referring
from specsim.specs.feed_forward import Experts
from specsim.specs.hardware import Hardware
from specsim.specs.model_part import as_part
from specsim.speculation.program import ABOUT
from specsim.validated import Validated
from specsim.workload.request import RequestSpec


def read_hardware(value: object) -> object:
    """A preset by name, inline fields, or the machine that a profile (by name or folder) was measured on."""
    if not isinstance(value, str):
        return value
    if value in profile_names() or _is_profile_folder(value):
        return profile_hardware(value)
    return load_hardware(value)


def _is_profile_folder(gpu: str) -> bool:
    """A folder that happens to bear a preset's name does not hide the preset."""
    return is_folder(gpu) and gpu.lower() not in hardware_names()


class CostChoice(Validated):
    """``profile``: a profile's name or folder; None takes one measured on this hardware if there is one.

    ``source``: ``kernels`` prices any model from kernel times, ``steps`` the one engine, model and drafter whose whole
    steps the profile holds, ``roofline`` ignores profiles. ``tables``: a simulation reads prices from tables made
    once; false: it asks the source at every step, many times slower and some tenths of a percent closer.
    """

    profile: str | None = None
    source: Literal["kernels", "steps", "roofline"] = "kernels"
    tables: bool = True


class Scenario(Validated):
    """Everything a prediction, a simulation and a measurement need to know."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    model: Model
    gpu: Annotated[Hardware, BeforeValidator(referring(read_hardware))]
    deployment: Deployment = Field(Deployment(), validate_default=True)
    stated_engine: EngineLimits = Field(EngineLimits(), alias="engine")
    speculation: Speculation | None = None
    workload: Workload
    weights: Weights | None = None  # None: random ones, and acceptance is imposed by its law
    cost: CostChoice = CostChoice()
    conditions: Conditions | None = None  # None: those of the profile
    slo: Slo | None = None
    usd_per_gpu_hour: PositiveFloat | None = None
    seed: NonNegativeInt = 0

    @model_validator(mode="before")
    @classmethod
    def _priced_by_its_own_profile(cls, data: Any) -> Any:
        """A gpu given as a profile's folder is priced by that profile unless the scenario names another."""
        if not isinstance(data, dict) or not isinstance(data.get("cost", {}), dict | None):
            return data
        gpu, cost = data.get("gpu"), data.get("cost") or {}
        if isinstance(gpu, str) and _is_profile_folder(gpu) and "profile" not in cost:
            return data | {"cost": cost | {"profile": gpu}}
        return data

    @field_validator("deployment")
    @classmethod
    def _kept_in_float32(cls, deployment: Deployment, info: ValidationInfo) -> Deployment:
        """Hardware that computes no 16-bit floats keeps weights and cache in float32, narrower ones where asked."""
        gpu, given = info.data.get("gpu"), deployment.model_fields_set
        if gpu is None or gpu.computes_16_bit_floats:
            return deployment
        for name in {"weight_bits", "kv_bits"} & given:
            if getattr(deployment, name) == 16:
                raise ValueError(
                    f"{name} is 16 and {gpu.name} has rates of {', '.join(gpu.flops_per_s)} only; leave it out for "
                    "float32, or profile the machine with --dtype bfloat16 into another folder"
                )
        model = info.data.get("model")
        wide = {"kv_bits"} | ({"weight_bits"} if model is not None and model.weight_bits == 16 else set())
        return deployment.model_copy(update=dict.fromkeys(wide - given, 32))

    @field_validator("speculation")
    @classmethod
    def _accepted_on_its_target(cls, speculation: Speculation | None, info: ValidationInfo) -> Speculation | None:
        model = info.data.get("model")
        return speculation if speculation is None or model is None else speculation.on_target(model.name)

    @model_validator(mode="after")
    def _engine_is_known(self) -> Scenario:
        """Refuses a version whose defaults nobody knows."""
        _ = self.engine
        return self

    @field_serializer("stated_engine")
    def _as_stated(self, engine: EngineLimits) -> dict[str, Any]:
        return engine.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _drafter_fits_the_model(self) -> Scenario:
        if self.speculation is not None:
            self.speculation.program.check(self.model)
        return self

    @model_validator(mode="after")
    def _experts_can_be_divided(self) -> Scenario:
        group = self.deployment.expert_group
        if group is None:
            return self
        routed = [one for one, _ in as_part(self.model).stack.feed_forward if isinstance(one, Experts)]
        if not routed:
            raise ValueError(f"expert_parallel is on and {self.model.name} has no routed experts; turn it off")
        for one in routed:
            if one.moe.num_experts % group.gpus:
                raise ValueError(
                    f"tensor_parallel · data_parallel is {group.gpus} GPUs and does not divide {one.moe.num_experts} "
                    f"experts of {self.model.name}; choose a divisor"
                )
        return self

    @model_validator(mode="after")
    def _one_vocabulary(self) -> Scenario:
        draft = self.speculation.draft_model if self.speculation else None
        if draft is not None and draft.vocab_size != self.model.vocab_size:
            raise ValueError(
                f"draft_model {draft.name} has {draft.vocab_size} tokens in its vocabulary and {self.model.name} has "
                f"{self.model.vocab_size}; choose a drafter of the same vocabulary"
            )
        return self

    @model_validator(mode="after")
    def _class_laws_fit(self) -> Scenario:
        """Each class's acceptance reaches the longest draft, and has what the policy looks at."""
        speculation = self.speculation
        for law in self.workload.acceptance_by_class().values():
            law.conditional_rates(speculation.max_draft_tokens if speculation else 0)
            if speculation is not None:
                speculation.policy.check(law, speculation.program.choices(speculation.max_draft_tokens))
        return self

    @model_validator(mode="after")
    def _weights_fit_the_program(self) -> Scenario:
        if self.weights is not None:
            self.weights.check(self.model, self.speculation)
        return self

    @property
    def engine(self) -> EngineLimits:
        """What is stated of the engine, and for the rest what it does by default on this card, with this drafter."""
        return with_defaults(self.stated_engine, self.circumstances())

    def assumed_engine(self) -> dict[str, Any]:
        """Whose behaviour an answer assumes, and each default of it that nobody stated."""
        engine, stated = self.engine, self.stated_engine.model_fields_set | {"kind", "version"}
        assumed = engine.model_dump(mode="json", exclude=stated, exclude_none=True)
        return {"kind": engine.kind, "version": engine.version, "assumed": assumed}

    def assumed_deployment(self) -> dict[str, Any]:
        """Where the model runs, the roles of its replicas, and what lies between them."""
        found, pools = self.deployment.model_dump(mode="json", exclude_none=True), self.deployment.disaggregation
        if pools is not None:
            found["disaggregation"]["kv_link"]["bandwidth_bytes_per_s"] = pools.kv_link.rate_on(self.gpu)
        return found

    def run_by(self, kind: EngineKind) -> Scenario:
        """The same question to an engine, if it names none; a CPU stays the reference engine's."""
        if self.stated_engine.kind is not None or self.gpu.kind == "cpu":
            return self
        stated = self.stated_engine.model_copy(update={"kind": kind})
        asked: Scenario = self.model_copy(update={"stated_engine": stated})
        return asked

    def circumstances(self) -> Circumstances:
        """What the engine's defaults depend on."""
        deployment, speculation = self.deployment, self.speculation
        here = Circumstances(
            self.gpu, deployment.tensor_parallel, deployment.kv_bits, self.model.moe is not None, model=self.model.name
        )
        if speculation is None or not speculation.max_draft_tokens:
            return here
        program = speculation.program
        return replace(
            here,
            drafter=program.name,
            drafts_on="gpu" if program.drafts_on_gpu else "cpu",
            schedules_by_batch=speculation.policy.kind != "fixed",
        )

    def __repr__(self) -> str:
        gpus = self.deployment.replicas * self.deployment.tensor_parallel
        where = f"{self.model.name} on {f'{gpus}x ' if gpus > 1 else ''}{self.gpu.name}"
        speculation = self.speculation
        drafts = f"{speculation.drafter_name()} k={speculation.max_draft_tokens}" if speculation else "no drafter"
        return f"<Scenario {self.name}: {where}, {drafts}>"

    def sha256(self) -> str:
        """Hash of the resolved scenario and of what its traces hold.

        What a program only says of itself, or offers as defaults that are resolved by now, does not count; nor do the
        origin of acceptance, weights and costs, which no prediction looks at, conditions, which are the machine's of
        one moment, and tables, which are another way to the same prices. Of a path the last name counts, so that what
        is predicted on one machine can be measured on another; what a profile holds is pinned beside predictions.
        """
        about: dict[str, Any] = {
            "speculation": {"program": ABOUT, "acceptance_origin": True},
            "weights": True,
            "conditions": True,
            "cost": {"tables"},
            "usd_per_gpu_hour": True,
        }
        fields = self.model_dump(mode="json", by_alias=True, exclude=about)
        fields["engine"] = self.engine.model_dump(mode="json")
        if self.cost.profile is not None:
            fields["cost"]["profile"] = Path(self.cost.profile).name
        text, traces = json.dumps(fields, sort_keys=True), self.workload.trace_files()
        for file in traces:
            text = text.replace(json.dumps(str(file.path)), json.dumps(file.path.name))
        contents = [file.content_sha256() for file in traces]
        return hashlib.sha256("".join((text, *contents)).encode()).hexdigest()

    def requests(self) -> list[RequestSpec]:
        """The workload's requests under this scenario's seed."""
        return self.workload.draw(self.seed).rows()

    def mean_context_tokens(self) -> float:
        """Mean KV length of a decoding sequence: the prompt and half of the output."""
        prompt, output = self.workload.mean_lengths()
        return prompt + output / 2

    def without_speculation(self) -> Scenario:
        """The same question with no drafter loaded."""
        alone: Scenario = self.model_copy(update={"speculation": None})
        return alone
