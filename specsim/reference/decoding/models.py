"""Which weights and drafter a scenario asks of the reference engine, and what it cannot give.

Without stored weights a scenario's models have random ones. Stored ones are grown to the scenario's shapes where these
are larger, so that acceptance is that of the trained models and cost that of the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import torch

from specsim.errors import InvalidInput, NoAnswer
from specsim.reference.decoding.choice import drafter_of
from specsim.reference.drafters import Drafter
from specsim.reference.drafters.own_weights import OwnWeights, RandomWeights, StoredWeights
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint
from specsim.reference.network.graphs import bucket, capture_passes
from specsim.reference.network.inflate import Embedding, fitted
from specsim.reference.network.transformer import TokenGroup, Transformer, require_llama, torch_dtype
from specsim.reference.network.transformer_weights import stored_weights
from specsim.scenario import Scenario, Weights
from specsim.specs.model import ModelSpec
from specsim.speculation.program.draft_weights import TargetLayers, TargetSublayers

PREFILL_CHUNK_TOKENS = 512


class _Size(TypedDict):
    device: str
    dtype: torch.dtype
    max_sequences: int
    max_length: int


@dataclass(slots=True)
class Models:
    """A target and perhaps a draft model, whose caches share slots; ``own``: weights of any other drafter."""

    target: Transformer
    draft: Transformer | None = None
    own: OwnWeights = field(default_factory=lambda: RandomWeights(0))

    def both(self) -> list[Transformer]:
        return [self.target] if self.draft is None else [self.target, self.draft]

    def fill(self, slots: int, length: int, seed: int) -> None:
        """Fill the first slots' caches with the keys and values of random text; also a warm-up."""
        generator = np.random.default_rng(seed)
        for model in self.both():
            for slot in range(slots):
                for start in range(0, length, PREFILL_CHUNK_TOKENS):
                    width = min(PREFILL_CHUNK_TOKENS, length - start)
                    text = torch.from_numpy(generator.integers(0, model.spec.vocab_size, (1, width)))
                    group = TokenGroup(np.array([slot]), text.to(model.device), np.array([start]), 0)
                    model.forward([group])


def load_transformer(
    checkpoint: Checkpoint, *, device: str, dtype: torch.dtype, max_sequences: int, max_length: int
) -> Transformer:
    """A checkpoint as a model of the reference engine.

    Raises InvalidInput for an architecture or weights that it cannot run, or more positions than it has, NoAnswer
    without the device.
    """
    _require_device(device)
    spec = checkpoint.spec
    require_llama(spec)
    positions = checkpoint.config.get("max_position_embeddings")
    if isinstance(positions, int) and max_length > positions:
        raise InvalidInput(
            f"prompt, output and drafts are {max_length} tokens and {checkpoint.name} has {positions} positions; "
            "ask for fewer"
        )
    weights = stored_weights(checkpoint, spec, device=torch.device(device), dtype=dtype)
    return Transformer(
        spec, device=device, dtype=dtype, max_sequences=max_sequences, max_length=max_length, weights=weights
    )


def build_models(scenario: Scenario, *, device: str, max_sequences: int, max_length: int) -> Models:
    """The scenario's models, with its stored weights or else random ones.

    Their passes are captured at the scenario's ``graph_sizes``. Raises InvalidInput for what the reference engine does
    not do and for weights that do not fit, NoAnswer without the device.
    """
    bits = scenario.deployment.weight_bits or scenario.model.weight_bits
    _require_device(device)
    _require_deployment(scenario, bits)
    draft = scenario.speculation.draft_model if scenario.speculation else None
    if scenario.speculation is not None:
        drafter_of(scenario.speculation)  # refuses before weights are drawn
    most = scenario.speculation.max_draft_tokens if scenario.speculation else 0
    sizes = scenario.engine.captured_sizes(most, on_gpu=device == "cuda")
    if sizes:
        max_length = bucket(max_length)  # captured passes read whole buckets
    size: _Size = {
        "device": device,
        "dtype": torch_dtype(bits),
        "max_sequences": max_sequences,
        "max_length": max_length,
    }
    if scenario.weights is not None:
        models = _stored(scenario, scenario.weights, size)
    else:
        seed = scenario.seed
        target = Transformer(scenario.model, seed=seed, **size)
        models = Models(target, Transformer(draft, seed=seed + 1, **size) if draft else None, RandomWeights(seed + 2))
    capture_passes(models.both(), sizes, 1 + most)
    return models


def _stored(scenario: Scenario, weights: Weights, size: _Size) -> Models:
    small, large = read_checkpoint(weights.target), scenario.model
    trained = read_checkpoint(weights.drafter) if weights.drafter is not None else None
    into = Embedding(small.spec, large, _early_layers(scenario, small.spec, trained))
    target = _grown(small, into, size)
    draft = scenario.speculation.draft_model if scenario.speculation else None
    if scenario.speculation is None or trained is None:
        return Models(target)
    if draft is not None:
        return Models(target, _grown(trained, Embedding(trained.spec, draft), size))
    return Models(target, own=StoredWeights(trained, into))


def _grown(checkpoint: Checkpoint, into: Embedding, size: _Size) -> Transformer:
    require_llama(into.large)  # of a checkpoint it is required where it is loaded
    device, dtype = size["device"], size["dtype"]
    return load_transformer(fitted(checkpoint, into, device=torch.device(device), dtype=dtype), **size)


def _early_layers(scenario: Scenario, small: ModelSpec, trained: Checkpoint | None) -> int:
    """Trained layers that must stay the first: those below an exit, also where a scenario loads it and leaves it off.

    Raises InvalidInput for a drafter that skips layers which inflation added: it would be right for free.
    """
    exits = [0] if trained is None else [int(trained.config.get("exit_layer", 0))]
    program = scenario.speculation.program if scenario.speculation else None
    for weights in (one for phase in program.phases for one in phase.weights) if program else ():
        if isinstance(weights, TargetLayers):
            exits += (weights.last, *weights.exits)
        skips = isinstance(weights, TargetSublayers) or max(exits) >= small.num_layers
        if skips and scenario.model.num_layers > small.num_layers:
            raise InvalidInput(
                f"{scenario.model.name} has {scenario.model.num_layers} layers, {small.name} {small.num_layers}, and "
                "the program skips some of those that are added and do nothing; choose a model of no more layers"
            )
    return max(exits)


def drafter(models: Models, scenario: Scenario) -> Drafter | None:
    """The scenario's drafter; None without speculation.

    Raises InvalidInput for a program that the engine does not run, or drafts that it cannot form.
    """
    speculation = scenario.speculation
    make = drafter_of(speculation) if speculation is not None else None
    if speculation is None or make is None:
        return None
    made = make(models.target, models.draft, models.own)
    made.tree(speculation.max_draft_tokens)
    return made


def _require_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"device {device!r} is neither cpu nor cuda; choose one")
    if device == "cuda" and not torch.cuda.is_available():
        raise NoAnswer("torch sees no CUDA device; run on cpu, or with a GPU build of torch on a GPU")


def _require_deployment(scenario: Scenario, bits: float) -> None:
    replicas, kv_bits = scenario.deployment.replicas, scenario.deployment.kv_bits
    if replicas != 1:
        raise InvalidInput(f"replicas is {replicas} and the reference engine runs one; set deployment.replicas to 1")
    if kv_bits != bits:
        raise InvalidInput(
            f"kv_bits is {kv_bits:g} and weights have {bits:g}; the reference engine keeps both in one dtype: "
            f"set deployment.kv_bits to {bits:g}"
        )
