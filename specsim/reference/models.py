"""Which weights, drafter, draws and scheduler a scenario asks of the reference engine, and what it cannot give.

A scenario's models have random weights, so acceptance is its own law, imposed; ``load_transformer`` takes stored ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specsim.errors import InvalidInput, NoAnswer
from specsim.reference.checkpoint import Checkpoint
from specsim.reference.choice import drafter_of
from specsim.reference.drafters import Drafter
from specsim.reference.transformer import Group, Transformer, require_llama, torch_dtype
from specsim.reference.weights import stored_weights
from specsim.scenario import Scenario
from specsim.specs.model import ModelSpec

PREFILL_CHUNK_TOKENS = 512


@dataclass(slots=True)
class Models:
    """A target and perhaps a draft model, whose caches share slots."""

    target: Transformer
    draft: Transformer | None = None

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
                    group = Group(np.array([slot]), text.to(model.device), np.array([start]), 0)
                    model.forward([group])


def load_transformer(
    checkpoint: Checkpoint, *, device: str, dtype: torch.dtype, max_sequences: int, max_length: int
) -> Transformer:
    """A checkpoint as a model of the reference engine.

    Raises InvalidInput for an architecture or weights that it cannot run, NoAnswer without the device.
    """
    _require_device(device)
    spec = checkpoint.spec
    require_llama(spec)
    weights = stored_weights(checkpoint, spec, device=torch.device(device), dtype=dtype)
    return Transformer(
        spec, device=device, dtype=dtype, max_sequences=max_sequences, max_length=max_length, weights=weights
    )


def build_models(scenario: Scenario, *, device: str, max_sequences: int, max_length: int) -> Models:
    """The scenario's models with random weights.

    Raises InvalidInput for what the reference engine does not do, NoAnswer without the device.
    """
    bits = scenario.deployment.weight_bits or scenario.model.weight_bits
    _require_device(device)
    _require_deployment(scenario, bits)
    draft = scenario.speculation.draft_model if scenario.speculation else None
    if scenario.speculation is not None:
        drafter_of(scenario.speculation)  # refuses before weights are drawn

    def build(spec: ModelSpec, seed: int) -> Transformer:
        return Transformer(
            spec, device=device, dtype=torch_dtype(bits), max_sequences=max_sequences, max_length=max_length,
            seed=seed,
        )  # fmt: skip

    return Models(build(scenario.model, scenario.seed), build(draft, scenario.seed + 1) if draft else None)


def drafter(models: Models, scenario: Scenario) -> Drafter | None:
    """The scenario's drafter, its own weights random; None without speculation.

    Raises InvalidInput for a program that the engine does not run, or drafts that it cannot form.
    """
    speculation = scenario.speculation
    make = drafter_of(speculation) if speculation is not None else None
    if speculation is None or make is None:
        return None
    made = make(models.target, models.draft, scenario.seed + 2)
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
