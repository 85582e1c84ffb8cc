"""What a measurement needs to know of an engine's server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any, Protocol

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig, config_from_fields
from specsim.interop.huggingface import model_from_config
from specsim.results import AcceptanceCounts
from specsim.scenario import Scenario
from specsim.specs.engine import EngineKind
from specsim.specs.model import ModelSpec
from specsim.speculation.policy import FixedPolicy


@dataclass(frozen=True, slots=True)
class Launch:
    """A server's command line after its Python, and what its environment has beside this process's."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Folders in Hugging Face layout. ``trained``: their weights are read, and drafts verified by them; else weights
    are random, config.json is all that is needed, and acceptance is imposed where the engine can.
    """

    target: Path
    drafter: Path | None = None
    trained: bool = False

    @staticmethod
    def of(scenario: Scenario, target: Path | None, drafter: Path | None) -> Checkpoints:
        """The scenario's own ``weights``, else the folders given. Raises InvalidInput without a target's."""
        weights = scenario.weights
        if weights is not None:
            found = Checkpoints(weights.target, weights.drafter, trained=True)
        elif target is None:
            raise InvalidInput(
                "a real engine reads a model's folder; give --model FOLDER with its config.json, or weights"
            )
        else:
            found = Checkpoints(target, drafter)
        found.check(scenario)
        return found

    def check(self, scenario: Scenario) -> None:
        """Raises InvalidInput where a folder holds another shape than the scenario says."""
        draft = None if scenario.speculation is None else scenario.speculation.draft_model
        if draft is not None and self.drafter is None:
            raise InvalidInput(f"the scenario drafts with {draft.name}; give its folder with --draft-model")
        for folder, wanted in ((self.target, scenario.model), (self.drafter, draft)):
            if folder is None or wanted is None:
                continue
            held = model_from_config(folder)
            if _shape(held) != _shape(wanted):
                raise InvalidInput(
                    f"{folder} holds a model of {_shape(held)}, the scenario's {wanted.name} has {_shape(wanted)}; "
                    "give that model's folder, or name the folder as the scenario's model"
                )


def _shape(model: ModelSpec) -> str:
    return f"{model.num_layers} layers and {model.parameter_count() / 1e6:.1f} M parameters"


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine's driver is started with. ``shared``: engines stay up side by side; else one has the device."""

    start: Mapping[str, Any]
    shared: bool


class OfflineEngine(Protocol):
    """An engine in its own Python and without a server: ``script`` steps it, batches of fixed sizes at a time."""

    script: Path

    @property
    def kind(self) -> str:
        """Its name, as ``--engine`` takes it."""

    def job(self, scenario: Scenario, checkpoints: Checkpoints, draft_tokens: int) -> Job:
        """The engine that drafts so many; 0: the scenario's without a drafter.

        Raises InvalidInput or NoAnswer for what the engine does not have.
        """

    def load_job(self, scenario: Scenario, checkpoints: Checkpoints) -> Job:
        """The engine as the scenario states it, its policy of draft lengths too. Raises as ``job``."""


class Adapter(Protocol):
    """An engine's words: its command line, a request, a streamed answer, its counters.

    ``health`` answers 200 once requests are taken, ``route`` takes a request, ``reset`` empties the prefix cache.
    """

    kind: EngineKind
    health: str
    route: str
    reset: str

    def launch(self, scenario: Scenario, checkpoints: Checkpoints, port: int) -> Launch:
        """How a server for the scenario starts. Raises InvalidInput or NoAnswer for what the engine does not have."""

    def body(self, prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
        """A request for exactly so many tokens, streamed."""

    def tokens(self, event: Mapping[str, Any], before: int) -> int:
        """Output tokens so far, after an event of the stream that follows ``before`` tokens."""

    def acceptance(self, before: Path, after: Path) -> AcceptanceCounts:
        """Rounds by drafted and accepted tokens between two dumps of ``/metrics``; empty where it counts none."""

    def answered(self, event: Mapping[str, Any]) -> AcceptanceCounts:
        """The rounds of an answer that its last event tells; empty where it tells none."""

    def num_kv_blocks(self, metrics: str) -> int | None:
        """Blocks of the server's KV cache, as ``/metrics`` tells them; None where it does not."""


def at_most(scenario: Scenario, draft_tokens: int) -> Scenario:
    """The scenario drafting so many at every batch size; without its drafter at 0."""
    if scenario.speculation is None or not draft_tokens:
        return scenario.without_speculation()
    fixed = scenario.speculation.model_copy(update={"policy": FixedPolicy(k=draft_tokens)})
    drafting: Scenario = scenario.model_copy(update={"speculation": fixed})
    return drafting


def longest_sequence(scenario: Scenario) -> int:
    """Positions that a server must hold: the limit stated, else the workload's longest request with room for drafts.

    For twice the drafts: vLLM has no sequence of a batch draft where the longest one, the drafts of the step before
    counted as accepted, could not hold as many again (0.32, ``v1/worker/gpu_model_runner.py``).

    Raises NoAnswer where the target has fewer.
    """
    if scenario.stated_engine.max_model_len is not None:
        return scenario.stated_engine.max_model_len
    drafts = scenario.speculation.max_draft_tokens if scenario.speculation else 0
    longest = max(r.prompt_tokens + r.output_tokens for r in scenario.requests()) + 2 * drafts + 1
    held = scenario.model.max_position
    if "max_position" in scenario.model.model_fields_set and longest > held:
        raise NoAnswer(f"requests reach {longest} positions and {scenario.model.name} has {held}; shorten them")
    return longest


def stated_limits(scenario: Scenario) -> dict[str, Any]:
    """Fields of EngineLimits that the scenario states, but for the longest sequence, which every server is told.

    The engine has its own defaults for the rest.
    """
    fields: dict[str, Any] = scenario.stated_engine.model_dump(
        exclude_unset=True, exclude={"kind", "version", "max_model_len"}, mode="json"
    )
    return fields


def drafter_config(scenario: Scenario, checkpoints: Checkpoints) -> EngineConfig | None:
    """The engine's speculation, imposed on random weights at the law's unconditional rates; None without a drafter.

    Raises NoAnswer for a program that no engine has.
    """
    asked = scenario.speculation
    if asked is None or not asked.max_draft_tokens or not asked.program.drafts:
        return None
    drafter = None if checkpoints.drafter is None else str(checkpoints.drafter.resolve())
    config = config_from_fields(asked.model_dump(mode="json"), stated_limits(scenario), draft_model=drafter)
    if checkpoints.trained:
        return config
    rates = asked.acceptance.conditional_rates(asked.max_draft_tokens)
    return config.model_copy(update={"acceptance_rates": tuple(accumulate(map(float, rates), mul))})
