"""Where a transformer's weights come from: seeded draws or a checkpoint, fused and packed as its kernels want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from specsim.errors import InvalidInput
from specsim.reference.network.checkpoint import Checkpoint
from specsim.reference.network.kernels import pack
from specsim.specs.model import ModelSpec

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-5

TensorSource = Callable[[int, int, float], Tensor]


@dataclass(slots=True)
class LayerWeights:
    """One decoder layer: norms [hidden], matrices [n, k] of ``ModelSpec.linears``.

    A layer may lack its feed-forward half, and the norm before its attention.
    """

    attention_norm: Tensor | None
    qkv: Tensor
    attention_output: Tensor
    mlp_norm: Tensor | None = None
    gate_up: Tensor | None = None
    down: Tensor | None = None


@dataclass(slots=True)
class TransformerWeights:
    """A decoder's weights; layers are made one by one as they are asked for, so that few exist twice."""

    table: Tensor  # [vocab, hidden]
    head: Tensor  # [vocab, hidden], packed
    norm: Tensor  # [hidden]
    layers: Iterator[LayerWeights]
    norm_epsilon: float = NORM_EPSILON
    rotary_base: float = ROTARY_BASE


def random_weights(
    spec: ModelSpec, *, device: torch.device, dtype: torch.dtype, seed: int, noise: float = 0.0
) -> TransformerWeights:
    """Normal draws that keep states of order one; the same for one spec and seed.

    ``noise`` moves every matrix by that share of its own spread, which makes a draft that agrees with its target in
    part.
    """
    draw = source(dtype, device, seed, noise)
    norm = torch.ones(spec.hidden_size, dtype=dtype, device=device)
    size = (spec.vocab_size, spec.hidden_size, spec.hidden_size)
    table = draw(*size)
    head = pack(table if spec.tied_embeddings else draw(*size))
    return TransformerWeights(table, head, norm, (random_layer(spec, draw, norm) for _ in range(spec.num_layers)))


def random_layer(
    spec: ModelSpec, draw: TensorSource, norm: Tensor, *, input_norm: bool = True, mlp: bool = True
) -> LayerWeights:
    """One layer of ``spec``; its residual branches are so small that the sum of all layers' stays of order one."""
    shapes = {matrix.name: (matrix.n, matrix.k) for matrix in spec.linears()}
    depth = 2 * spec.num_layers
    spread = {"attention_output": depth, "down": depth}
    drawn = {
        name: pack(draw(*shapes[name], shapes[name][1] * spread.get(name, 1)))
        for name in ("qkv", "attention_output", *(("gate_up", "down") if mlp else ()))
    }
    return LayerWeights(
        attention_norm=norm if input_norm else None,
        qkv=drawn["qkv"],
        attention_output=drawn["attention_output"],
        mlp_norm=norm.clone() if mlp else None,
        gate_up=drawn.get("gate_up"),
        down=drawn.get("down"),
    )


def stored_weights(
    checkpoint: Checkpoint, spec: ModelSpec, *, device: torch.device, dtype: torch.dtype
) -> TransformerWeights:
    """A Llama checkpoint's weights, cast to ``dtype``.

    Raises InvalidInput for a weight that is missing or has another shape than ``spec`` says.
    """
    get = TensorReader(checkpoint, device, dtype)
    hidden = spec.hidden_size
    table = get("model.embed_tokens", spec.vocab_size, hidden)
    return TransformerWeights(
        table=table,
        head=pack(table if spec.tied_embeddings else get("lm_head", spec.vocab_size, hidden)),
        norm=get("model.norm", hidden),
        layers=(get.layer(f"model.layers.{index}.", spec) for index in range(spec.num_layers)),
        norm_epsilon=checkpoint.norm_epsilon,
        rotary_base=checkpoint.rotary_base,
    )


@dataclass(frozen=True, slots=True)
class TensorReader:
    """A checkpoint's weights by name, on their device."""

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Raises InvalidInput for a weight that is missing or has another shape."""
        tensor = self.checkpoint.tensor(f"{name}.weight")
        if tensor.shape != shape:
            raise InvalidInput(
                f"{self.checkpoint.name}: {name}.weight is {tuple(tensor.shape)} and the model's shape says {shape}; "
                "weights and shape must be of one model"
            )
        return tensor.to(self.device, self.dtype)

    def layer(self, prefix: str, spec: ModelSpec, *, input_norm: bool = True, mlp: bool = True) -> LayerWeights:
        """The layer whose weights' names begin with ``prefix``."""
        hidden, inner, attended = spec.hidden_size, spec.intermediate_size, spec.num_heads * spec.head_dim
        rows = {"q": attended, "k": spec.num_kv_heads * spec.head_dim, "v": spec.num_kv_heads * spec.head_dim}
        layer = LayerWeights(
            attention_norm=self(f"{prefix}input_layernorm", hidden) if input_norm else None,
            qkv=pack(torch.cat([self(f"{prefix}self_attn.{n}_proj", rows[n], hidden) for n in rows])),
            attention_output=pack(self(f"{prefix}self_attn.o_proj", hidden, attended)),
        )
        if mlp:
            gate_up = [self(f"{prefix}mlp.{n}_proj", inner, hidden) for n in ("gate", "up")]
            layer.mlp_norm = self(f"{prefix}post_attention_layernorm", hidden)
            layer.gate_up, layer.down = pack(torch.cat(gate_up)), pack(self(f"{prefix}mlp.down_proj", hidden, inner))
        return layer


def source(dtype: torch.dtype, device: torch.device, seed: int, noise: float = 0.0) -> TensorSource:
    """Draws matrices [n, k] of normal entries with variance 1/spread; noise comes from a stream of its own."""
    base = torch.Generator(device).manual_seed(seed)
    extra = torch.Generator(device).manual_seed(seed + 1)
    # 16-bit weights are the float32 ones of the same seed, rounded.
    drawn = torch.float64 if dtype == torch.float64 else torch.float32

    def draw(n: int, k: int, spread: float) -> Tensor:
        weight = torch.randn(n, k, generator=base, dtype=drawn, device=device)
        if noise:
            weight.add_(torch.randn(n, k, generator=extra, dtype=drawn, device=device), alpha=noise)
        return weight.mul_(spread**-0.5).to(dtype)

    return draw
