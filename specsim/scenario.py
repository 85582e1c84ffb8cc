"""The question: which model, on what, serving what, with which speculation. One frozen object, one YAML file.

Names, paths and inline values are resolved while the scenario is read, so that its hash covers what they stood for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from specsim.cost.forward import KernelPrices, Precision
from specsim.cost.measured import MeasuredPrices
from specsim.cost.memory import kv_blocks
from specsim.cost.roofline import Roofline
from specsim.errors import InvalidInput, unknown_name
from specsim.interop.huggingface import model_from_config
from specsim.interop.traces import read_trace
from specsim.profiles.store import Profile, find_profile, find_widths, load_profile, profile_names
from specsim.results import Slo
from specsim.specs.catalog import hardware_names, load_hardware, load_model
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import build, read_mapping
from specsim.speculation.acceptance import Acceptance
from specsim.speculation.engine_steps import EngineSteps
from specsim.speculation.policy import FixedPolicy, Policy
from specsim.speculation.program import DraftProgram, load_program
from specsim.speculation.round import RoundCost, StepCost
from specsim.workload.arrivals import Arrivals, ClosedLoopArrivals
from specsim.workload.lengths import Lengths
from specsim.workload.request import RequestSpec

PRESETS = Path(__file__).parent / "presets"


def _model(value: object) -> object:
    if not isinstance(value, str):
        return value
    return model_from_config(Path(value)) if value.endswith(".json") else load_model(value)


def _hardware(value: object) -> object:
    """A preset by name, inline fields, or the machine that a profile (by name or folder) was measured on."""
    if not isinstance(value, str):
        return value
    if value in profile_names() or _is_profile_folder(value):
        return load_profile(value).hardware()
    return load_hardware(value)


def _is_profile_folder(gpu: str) -> bool:
    """A folder that happens to bear a preset's name does not hide the preset."""
    return Path(gpu).is_dir() and gpu.lower() not in hardware_names()


def _program(value: object) -> object:
    return load_program(value) if isinstance(value, str) else value


Model = Annotated[ModelSpec, BeforeValidator(_model)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Speculation(_Part):
    """A drafter, how long it may draft, how often it is right, and who decides the length."""

    program: Annotated[DraftProgram, BeforeValidator(_program)]
    draft_model: Model | None = None
    max_draft_tokens: int = Field(ge=0, le=256)  # no engine drafts further; a typing error would fill memory
    acceptance: Acceptance
    policy: Policy = Field(default_factory=lambda: FixedPolicy(k=0))

    @model_validator(mode="before")
    @classmethod
    def _default_policy(cls, data: Any) -> Any:
        """Without a policy the longest draft is always used."""
        if isinstance(data, dict) and "policy" not in data and "max_draft_tokens" in data:
            return data | {"policy": {"kind": "fixed", "k": data["max_draft_tokens"]}}
        return data

    def drafter_name(self) -> str:
        """The draft model's name, or that of a program without one."""
        return self.program.name if self.draft_model is None else self.draft_model.name

    @model_validator(mode="after")
    def _consistent(self) -> Speculation:
        k = self.max_draft_tokens
        if k and not self.program.drafts:
            raise ValueError(f"max_draft_tokens is {k} and program {self.program.name!r} drafts nothing; set it to 0")
        if self.program.needs_draft_model and self.draft_model is None:
            raise ValueError(f"program {self.program.name!r} needs a draft_model; name one")
        if self.draft_model is not None and not self.program.needs_draft_model:
            raise ValueError(f"program {self.program.name!r} runs no draft_model; remove it")
        longest = self.policy.longest
        if longest is not None and longest > k:
            raise ValueError(f"the policy drafts up to {longest} tokens and max_draft_tokens is {k}; raise it")
        self.acceptance.conditional_rates(k)  # refuses a vector shorter than k
        return self


class SyntheticWorkload(_Part):
    """Requests drawn from arrival and length laws."""

    kind: Literal["synthetic"] = "synthetic"
    arrivals: Arrivals
    lengths: Lengths
    requests: PositiveInt

    def draw(self, seed: int) -> list[RequestSpec]:
        """The requests; arrival_s is None in a closed loop. Arrivals and lengths have generators of their own."""
        arrivals, lengths = np.random.SeedSequence(seed).spawn(2)
        prompts, outputs = self.lengths.draw(self.requests, np.random.default_rng(lengths))
        if isinstance(self.arrivals, ClosedLoopArrivals):
            times: list[float | None] = [None] * self.requests
        else:
            times = self.arrivals.times_s(self.requests, np.random.default_rng(arrivals)).tolist()
        columns = zip(times, prompts.tolist(), outputs.tolist(), strict=True)
        return [RequestSpec(i, time, prompt, output) for i, (time, prompt, output) in enumerate(columns)]

    def mean_lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        return self.lengths.means()


class TraceWorkload(_Part):
    """Requests replayed from a file; ``requests`` keeps only the first ones."""

    kind: Literal["trace"] = "trace"
    path: Path
    requests: PositiveInt | None = None

    def draw(self, seed: int) -> list[RequestSpec]:
        requests: list[RequestSpec] = read_trace(self.path)
        return requests[: self.requests]

    def mean_lengths(self) -> tuple[float, float]:
        requests = self.draw(0)
        prompt = float(np.mean([r.prompt_tokens for r in requests]))
        return prompt, float(np.mean([r.output_tokens for r in requests]))


Workload = Annotated[SyntheticWorkload | TraceWorkload, Field(discriminator="kind")]


class CostChoice(_Part):
    """``profile``: a profile's name or folder; None takes one measured on this hardware if there is one.

    ``source``: ``kernels`` prices any model from kernel times, ``steps`` the one engine, model and drafter whose whole
    steps the profile holds, ``roofline`` ignores profiles.
    """

    profile: str | None = None
    source: Literal["kernels", "steps", "roofline"] = "kernels"


class Scenario(BaseModel):
    """Everything a prediction, a simulation and a measurement need to know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    model: Model
    gpu: Annotated[Hardware, BeforeValidator(_hardware)]
    deployment: Deployment = Deployment()
    engine: EngineLimits = EngineLimits()
    speculation: Speculation | None = None
    workload: Workload
    cost: CostChoice = CostChoice()
    slo: Slo | None = None
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

    @model_validator(mode="after")
    def _one_vocabulary(self) -> Scenario:
        draft = self.speculation.draft_model if self.speculation else None
        if draft is not None and draft.vocab_size != self.model.vocab_size:
            raise ValueError(
                f"draft_model {draft.name} has {draft.vocab_size} tokens in its vocabulary and {self.model.name} has "
                f"{self.model.vocab_size}; choose a drafter of the same vocabulary"
            )
        return self

    def sha256(self) -> str:
        """Hash of the resolved scenario; a trace counts by its path, not its content."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def requests(self) -> list[RequestSpec]:
        """The workload's requests under this scenario's seed."""
        return self.workload.draw(self.seed)

    def mean_context_tokens(self) -> float:
        """Mean KV length of a decoding sequence: the prompt and half of the output."""
        prompt, output = self.workload.mean_lengths()
        return prompt + output / 2

    def precision(self) -> Precision:
        """Bits and formats of the target's weights and cache."""
        bits = self.deployment.weight_bits or self.model.weight_bits
        return Precision.on(self.gpu, bits, self.deployment.kv_bits, self.deployment.group_size)

    def profile(self) -> Profile | None:
        """The named profile, or what is known of this hardware; None without any, and for the roofline.

        Raises InvalidInput for a profile of other hardware.
        """
        if self.cost.source == "roofline":
            return None
        profile = find_profile(self.gpu.name) if self.cost.profile is None else load_profile(self.cost.profile)
        if profile is not None and profile.header.gpu.lower() != self.gpu.name.lower():
            raise InvalidInput(
                f"profile {profile.name} was measured on {profile.header.gpu} and the scenario's gpu is "
                f"{self.gpu.name}; choose a profile of that hardware or set cost.source to roofline"
            )
        return profile

    def price_name(self) -> str:
        """What prices this scenario: the profile's name, or roofline."""
        profile = self.profile()
        return "roofline" if profile is None else profile.name

    def round_cost(self) -> StepCost:
        """Prices of this scenario's steps. Raises InvalidInput where ``steps`` are asked for and none are measured."""
        profile, speculation = self.profile(), self.speculation
        if self.cost.source == "steps":
            if profile is None:
                raise InvalidInput(
                    f"cost.source is steps and no profile of {self.gpu.name} is known; measure one with specsim "
                    "profile steps, or set cost.profile"
                )
            return EngineSteps.of(
                profile, model=self.model.name, drafter=speculation.drafter_name() if speculation else "none"
            )  # fmt: skip
        precision = self.precision()
        prices: KernelPrices = Roofline(self.gpu, precision.dtype)
        if profile is not None:
            prices = MeasuredPrices(profile, self.gpu, precision.dtype, widths=find_widths(profile))
        draft = speculation.draft_model if speculation else None
        return RoundCost(
            self.model, prices, hardware=self.gpu, engine=self.engine, precision=precision,
            ranks=self.deployment.tensor_parallel, program=speculation.program if speculation else None, draft=draft,
            draft_precision=None if draft is None else Precision.on(
                self.gpu, draft.weight_bits, self.deployment.kv_bits
            ),
            max_draft_tokens=speculation.max_draft_tokens if speculation else 0,
        )  # fmt: skip

    def kv_blocks(self) -> int:
        """KV blocks of one replica; raises NoAnswer if the weights do not fit."""
        ranks = self.deployment.tensor_parallel
        draft = self.speculation.draft_model if self.speculation else None
        shares = (self.model.shard(ranks), None if draft is None else draft.shard(ranks))
        return kv_blocks(*shares, self.gpu, self.deployment, self.engine)

    def without_speculation(self) -> Scenario:
        """The same question with no drafter loaded."""
        alone: Scenario = self.model_copy(update={"speculation": None})
        return alone


def scenario_names() -> list[str]:
    """Names of the bundled scenarios."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_scenario(reference: str, settings: Sequence[str] = ()) -> Scenario:
    """A scenario by bundled name or YAML path, with ``path.to.field=value`` settings applied.

    Raises InvalidInput: unknown name, missing file, malformed field, a setting that names no field.
    """
    path = _find(reference)
    data = read_mapping(path)
    _resolve_paths(data, path.parent)
    for setting in settings:
        _apply(data, setting)
    return build(Scenario, data, where=str(path))


def _find(reference: str) -> Path:
    if reference.endswith((".yaml", ".yml")) or "/" in reference:
        return Path(reference)
    names = scenario_names()
    if reference not in names:
        raise unknown_name("scenario", reference, names)
    return PRESETS / f"{reference}.yaml"


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make file references in the scenario relative to its own folder."""
    spots: tuple[tuple[Any, str], ...] = (
        (data, "model"), (data, "gpu"), (data.get("speculation"), "program"), (data.get("speculation"), "draft_model"),
        (data.get("workload"), "path"), (data.get("cost"), "profile"),
    )  # fmt: skip
    for owner, key in spots:
        value = owner.get(key) if isinstance(owner, dict) else None
        if isinstance(value, str) and not Path(value).is_absolute() and (folder / value).exists():
            owner[key] = str((folder / value).resolve())


def _apply(data: dict[str, Any], setting: str) -> None:
    path, separator, text = setting.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise InvalidInput(f"--set {setting!r} is not path.to.field=value; write for instance --set seed=1")
    owner = data
    for key in keys[:-1]:
        if owner.get(key) is None:
            owner[key] = {}
        owner = owner[key]
        if not isinstance(owner, dict):
            raise InvalidInput(f"--set {setting!r}: {key!r} holds a single value; set it as a whole")
    try:
        owner[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"--set {setting!r}: {text!r} is not a YAML value; quote it or correct it") from error
