"""A schedule as text that an engine takes, and which schedules each engine can follow."""

from __future__ import annotations

from typing import Literal, get_args

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig, EngineText, RealEngineKind, config_from_fields
from specsim.interop.sglang import changes_with_batch, write_sglang
from specsim.interop.tensorrt_llm import write_tensorrt_llm
from specsim.interop.vllm import write_vllm
from specsim.planning.command import hub_name, with_checkpoint
from specsim.scenario import Scenario, Speculation
from specsim.speculation.policy import FixedPolicy, TablePolicy

ScheduleRule = Literal["any", "longest_first", "one"]  # schedules that an engine can follow
WITHOUT = {"vllm": "--speculative-config", "sglang": "--speculative-algorithm", "tensorrt-llm": "speculative_config"}
LOADS_CHECKPOINT = {"draft_model", "pard", "eagle", "eagle3", "p_eagle", "medusa", "mlp_speculator", "dflash"}


def engine_named(kind: str | None) -> RealEngineKind | None:
    """The engine of a scenario, if it is one that text is written for."""
    return next((engine for engine in get_args(RealEngineKind) if engine == kind), None)


def rule_of(engine: RealEngineKind, scenario: Scenario) -> ScheduleRule:
    """Which schedules an engine can follow with the scenario's drafter.

    Raises NoAnswer if it has no such drafter, InvalidInput without any.
    """
    drafter_of(scenario)
    if engine == "tensorrt-llm":
        return "longest_first"
    if engine == "sglang" and not changes_with_batch(engine_config(scenario, FixedPolicy(k=1)).method):
        return "one"
    return "any"


def engine_config(
    scenario: Scenario, policy: FixedPolicy | TablePolicy, draft_model: str | None = None
) -> EngineConfig:
    """The scenario's engine limits and drafter with a schedule; ``draft_model``: the checkpoint to load."""
    speculation = drafter_of(scenario)
    if draft_model is None and speculation.draft_model is not None:
        draft_model = hub_name(speculation.draft_model)
    fields = speculation.model_dump(mode="json") | {
        "policy": policy.model_dump(mode="json"),
        "max_draft_tokens": policy.longest,
    }
    limits = scenario.stated_engine.model_dump(mode="json", exclude_unset=True, exclude={"kind", "version"})
    limits["max_num_seqs"] = scenario.engine.max_num_seqs  # the last batch size of the schedule
    return config_from_fields(fields, limits, draft_model=draft_model)


def engine_text(
    scenario: Scenario, policy: FixedPolicy | TablePolicy, engine: RealEngineKind, draft_model: str | None = None
) -> EngineText:
    """The schedule as an engine takes it, a placeholder where it names no checkpoint for a drafter that has one.

    Raises NoAnswer if it drafts nothing, or the engine has no such drafter.
    """
    if not policy.longest:
        raise NoAnswer(f"no k pays at any batch size; start {engine} without {WITHOUT[engine]}")
    config, placeholder = engine_config(scenario, policy, draft_model), None
    layers, longest = scenario.model.mtp_layers, policy.longest
    if engine == "vllm" and config.method == "mtp" and 0 < layers < longest and longest % layers:
        raise NoAnswer(
            f"vLLM takes up to {layers} drafts of {layers} MTP layers, or a multiple, and not {longest}; give "
            f"--draft-tokens {longest - longest % layers}"
        )
    if config.draft_model is None and config.method in LOADS_CHECKPOINT:
        placeholder = f"YOUR-{config.method.upper().replace('_', '-')}-CHECKPOINT"
        config = config.model_copy(update={"draft_model": placeholder})
    write = {"vllm": write_vllm, "sglang": write_sglang, "tensorrt-llm": write_tensorrt_llm}[engine]
    return with_checkpoint(write(config), placeholder)


def drafter_of(scenario: Scenario) -> Speculation:
    """Raises InvalidInput without speculation."""
    if scenario.speculation is None:
        raise InvalidInput(
            f"scenario {scenario.name!r} has no speculation, so there is nothing to tune; add a drafter, for instance "
            "--drafter eagle3"
        )
    return scenario.speculation
