"""A trained model embedded in a larger one that computes the same function, noise apart.

Acceptance is then that of the small, trained models, while cost is that of the large shape. The small weights stand in
a corner of the large matrices; every other entry is noise, small enough not to be heard and large enough that no
kernel meets zeros or denormals. What makes it exact without noise:

- hidden D for d: an RMSNorm divides by sqrt(d/D) times what it did, so its weight is multiplied by sqrt(d/D) and its
  epsilon by d/D;
- head_dim E for e: rotary pair i turns as fast as pair i·E/e of the larger head, which is where it goes; queries are
  multiplied by sqrt(E/e), because scores are divided by sqrt(E);
- query heads keep their KV head; a KV head that serves more queries than the larger shape allows is repeated;
- a layer that is not the small model's adds nothing, as its two output matrices are noise. Its others are drawn full.

The vocabulary is kept: padding it would need logits that never win. Heads and adapters trained on the small model's
states fit the large one's after the same embedding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.errors import InvalidInput
from specsim.reference.network.checkpoint import DEFAULT_NORM_EPSILON, Checkpoint
from specsim.specs.model import ModelSpec

# Rows and columns of each matrix, by the part of its name before ".weight".
AXES = {
    "embed_tokens": ("vocab", "hidden"),
    "lm_head": ("vocab", "hidden"),
    "lm_heads": ("vocab", "hidden"),
    "q_proj": ("queries", "hidden"),
    "k_proj": ("keys", "hidden"),
    "v_proj": ("keys", "hidden"),
    "o_proj": ("hidden", "queries"),
    "gate_proj": ("intermediate", "hidden"),
    "up_proj": ("intermediate", "hidden"),
    "down_proj": ("hidden", "intermediate"),
    "fc": ("hidden", "hidden_twice"),
    "layers": ("hidden", "hidden"),
}
OUTPUTS = ("o_proj", "down_proj")
SIZES = (
    "num_layers",
    "hidden_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "tied_embeddings",
)
NOISE = 5e-4  # of added entries, relative to their matrix: heard by no argmax but a near tie, and no denormal
LAYER = re.compile(r"^model\.layers\.(\d+)\.(.*)$")


@dataclass(frozen=True)
class Embedding:
    """Where each part of a small Llama goes in a large one. Raises InvalidInput where it does not fit.

    The first ``early_layers`` layers stay the first, so that an early exit stays early; the others are spread evenly
    over the rest, the last one last.
    """

    small: ModelSpec
    large: ModelSpec
    early_layers: int = 0

    def __post_init__(self) -> None:
        small, large = self.small, self.large
        if large.vocab_size != small.vocab_size or large.tied_embeddings != small.tied_embeddings:
            raise InvalidInput(
                f"{large.name} has vocab_size {large.vocab_size}, tied_embeddings {large.tied_embeddings}, and "
                f"{small.name} {small.vocab_size}, {small.tied_embeddings}; inflation keeps both: set them equal"
            )
        if large.head_dim % small.head_dim:
            raise InvalidInput(
                f"head_dim {large.head_dim} of {large.name} is not a multiple of {small.head_dim} of {small.name}; "
                "choose one that is"
            )
        needed = {
            "hidden_size": small.hidden_size,
            "intermediate_size": small.intermediate_size,
            "num_layers": small.num_layers,
            "num_kv_heads": small.num_kv_heads * self._copies,
        }
        for field, least in needed.items():
            if getattr(large, field) < least:
                raise InvalidInput(
                    f"{field} {getattr(large, field)} of {large.name} is below the {least} that {small.name} needs; "
                    "choose a larger shape"
                )

    @property
    def trivial(self) -> bool:
        """Whether both have one shape, so that nothing needs to be added."""
        return all(getattr(self.small, size) == getattr(self.large, size) for size in SIZES)

    @property
    def _copies(self) -> int:
        """Large KV heads that hold one small one."""
        return math.ceil(_fold(self.small) / _fold(self.large))

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The large model's layer for each small one; 5 in 13 with 2 early: 0, 1, 4, 8, 12."""
        early = min(self.early_layers, self.small.num_layers)
        late, room = self.small.num_layers - early, self.large.num_layers - early
        return (*range(early), *(early + (i + 1) * room // late - 1 for i in range(late)))

    @property
    def norm_scale(self) -> float:
        return math.sqrt(self.small.hidden_size / self.large.hidden_size)

    @property
    def query_scale(self) -> float:
        return math.sqrt(self.large.head_dim / self.small.head_dim)

    def axis(self, kind: str) -> tuple[Integers, Integers, int]:
        """(places in the small matrix, their places in the large one, its size there)."""
        small, large = self.small, self.large
        if kind == "queries":
            heads = np.arange(small.num_heads)
            group, member = np.divmod(heads, _fold(small))
            copy, place = np.divmod(member, _fold(large))
            return self._heads(heads, (group * self._copies + copy) * _fold(large) + place, large.num_heads)
        if kind == "keys":
            copies = np.arange(small.num_kv_heads * self._copies)
            return self._heads(copies // self._copies, copies, large.num_kv_heads)
        if kind == "hidden_twice":
            half = np.arange(small.hidden_size)
            both = np.concatenate((half, half + large.hidden_size))
            return np.arange(2 * small.hidden_size), both, 2 * large.hidden_size
        field = {"vocab": "vocab_size", "hidden": "hidden_size", "intermediate": "intermediate_size"}[kind]
        same = np.arange(getattr(small, field))
        return same, same, getattr(large, field)

    def _heads(self, here: Integers, there: Integers, heads: int) -> tuple[Integers, Integers, int]:
        """The axes of whole heads, entry by entry."""
        e, ratio = self.small.head_dim, self.large.head_dim // self.small.head_dim
        places = np.arange(e)
        return (
            (here[:, None] * e + places).ravel(),
            (there[:, None] * self.large.head_dim + places * ratio).ravel(),
            heads * self.large.head_dim,
        )


def inflate(
    checkpoint: Checkpoint,
    into: Embedding,
    *,
    noise: float = NOISE,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """The checkpoint of the large model, or of a drafter (heads, adapter) that reads the large model's states.

    ``noise`` is the spread of all added entries, relative to that of the matrix they stand in. The checkpoint may be
    the small model itself or any drafter whose matrices ``AXES`` names. Raises InvalidInput for another matrix.
    """
    draw = _Noise(noise, torch.Generator(device).manual_seed(seed), dtype)
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        tensors[_renamed(name, into)] = _embedded(name, tensor, into, draw)
    whole = any(LAYER.match(name) for name in tensors)
    if whole:
        for index in sorted(set(range(into.large.num_layers)) - set(into.layers)):
            tensors |= {f"model.layers.{index}.{name}": tensor for name, tensor in _idle_layer(into, draw)}
    return Checkpoint(_config(checkpoint.config, into, whole=whole), tensors, into.large.name)


def fitted(checkpoint: Checkpoint, into: Embedding, *, device: str | torch.device, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint in the large shape: itself where that is its own, else inflated, always with the same noise."""
    return checkpoint if into.trivial else inflate(checkpoint, into, device=device, dtype=dtype)


def embedding_of(small: ModelSpec, large: ModelSpec, early_layers: int = 0) -> Embedding:
    """How ``small`` stands in the shape ``large``, whose vocabulary and tied embeddings become the small model's."""
    kept = {"vocab_size": small.vocab_size, "tied_embeddings": small.tied_embeddings}
    return Embedding(small, large.model_copy(update=kept), early_layers)


@dataclass(frozen=True, slots=True)
class _Noise:
    share: float
    generator: torch.Generator
    dtype: torch.dtype

    def normal(self, shape: tuple[int, ...], spread: float) -> Tensor:
        device = self.generator.device
        return torch.empty(shape, dtype=self.dtype, device=device).normal_(0.0, spread, generator=self.generator)


def _embedded(name: str, tensor: Tensor, into: Embedding, draw: _Noise) -> Tensor:
    exact = torch.float64 if draw.dtype == torch.float64 else torch.float32
    small = tensor.to(draw.generator.device, exact)
    if small.dim() == 1:
        grown = torch.full((into.large.hidden_size,), float(small.mean()), dtype=exact, device=small.device)
        grown[: len(small)] = small
        return (grown * into.norm_scale).to(draw.dtype)
    part = _part(name)
    rows, columns = (into.axis(kind) for kind in AXES[part])
    if part == "q_proj":
        small = small * into.query_scale
    large = draw.normal((rows[2], columns[2]), draw.share * float(small.std()))
    here, there = np.ix_(rows[0], columns[0]), np.ix_(rows[1], columns[1])
    large[tuple(map(torch.from_numpy, there))] = small[tuple(map(torch.from_numpy, here))].to(draw.dtype)
    return large


def _part(name: str) -> str:
    """The part of a weight's name that says what it is; Medusa's blocks and heads end in a number."""
    parts = [part for part in name.removesuffix(".weight").split(".") if not part.isdigit()]
    if parts[-1] not in AXES:
        raise InvalidInput(f"cannot inflate {name!r}; known are {', '.join(AXES)} and norms")
    return parts[-1]


def _renamed(name: str, into: Embedding) -> str:
    match = LAYER.match(name)
    return name if match is None else f"model.layers.{into.layers[int(match[1])]}.{match[2]}"


def _idle_layer(into: Embedding, draw: _Noise) -> Iterator[tuple[str, Tensor]]:
    """A layer that adds noise and no more, inside a model of the large shape."""
    for norm in ("input_layernorm", "post_attention_layernorm"):
        scale = torch.full((into.large.hidden_size,), into.norm_scale, device=draw.generator.device)
        yield f"{norm}.weight", scale.to(draw.dtype)
    for part in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        shape = tuple(into.axis(kind)[2] for kind in AXES[part])
        spread = shape[1] ** -0.5 * (draw.share if part in OUTPUTS else 1.0)
        place = "mlp" if part in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        yield f"{place}.{part}.weight", draw.normal(shape, spread)


def _config(config: Mapping[str, Any], into: Embedding, *, whole: bool) -> dict[str, Any]:
    """config.json with the large shape in place of the small; an exit moves with its layer."""
    small, large = into.small, into.large
    sizes = {
        "hidden_size": large.hidden_size,
        "intermediate_size": large.intermediate_size,
        "head_dim": large.head_dim,
        "num_attention_heads": large.num_heads,
        "num_key_value_heads": large.num_kv_heads,
    }
    changed: dict[str, Any] = {key: value for key, value in sizes.items() if key in config}
    if whole:
        changed["num_hidden_layers"] = large.num_layers
    if "exit_layer" in config:
        changed["exit_layer"] = into.layers[config["exit_layer"] - 1] + 1
    epsilon = config.get("rms_norm_eps", DEFAULT_NORM_EPSILON)
    changed["rms_norm_eps"] = epsilon * small.hidden_size / large.hidden_size
    return {**config, **changed}


def _fold(spec: ModelSpec) -> int:
    """Query heads a KV head."""
    return spec.num_heads // spec.num_kv_heads
