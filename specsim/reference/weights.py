"""Where a transformer's weights come from: seeded draws or a checkpoint, fused and packed as its kernels want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from specsim.errors import InvalidInput
from specsim.reference.checkpoint import Checkpoint
from specsim.reference.kernels import pack
from specsim.specs.model import ModelSpec

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-5


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
class Weights:
    """A decoder's weights; layers are made one by one as they are asked for, so that few exist twice."""

    table: Tensor  # [vocab, hidden]
    head: Tensor  # [vocab, hidden], packed
    norm: Tensor  # [hidden]
    layers: Iterator[LayerWeights]
    norm_epsilon: float = NORM_EPSILON
    rotary_base: float = ROTARY_BASE


def random_weights(
    spec: ModelSpec, *, device: torch.device, dtype: torch.dtype, seed: int, noise: float = 0.0
) -> Weights:
    """Normal draws that keep states of order one; the same for one spec and seed.

    ``noise`` moves every matrix by that share of its own spread, which makes a draft that agrees with its target in
    part.
    """
    draw = _source(dtype, device, seed, noise)
    shapes = {matrix.name: (matrix.n, matrix.k) for matrix in spec.linears()}
    depth = 2 * spec.num_layers  # residual branches: their sum stays of order one
    spread = {"attention_output": depth, "down": depth}
    norm = torch.ones(spec.hidden_size, dtype=dtype, device=device)

    def layer() -> LayerWeights:
        matrices = {
            name: pack(draw(*shapes[name], shapes[name][1] * spread.get(name, 1)))
            for name in ("qkv", "attention_output", "gate_up", "down")
        }
        return LayerWeights(attention_norm=norm, mlp_norm=norm.clone(), **matrices)

    size = (spec.vocab_size, spec.hidden_size, spec.hidden_size)
    table = draw(*size)
    head = pack(table if spec.tied_embeddings else draw(*size))
    return Weights(table, head, norm, (layer() for _ in range(spec.num_layers)))


def stored_weights(checkpoint: Checkpoint, spec: ModelSpec, *, device: torch.device, dtype: torch.dtype) -> Weights:
    """A Llama checkpoint's weights, cast to ``dtype``.

    Raises InvalidInput for a weight that is missing or has another shape than ``spec`` says.
    """
    hidden, attended = spec.hidden_size, spec.num_heads * spec.head_dim

    def get(name: str, *shape: int) -> Tensor:
        tensor = checkpoint.tensor(f"{name}.weight")
        if tensor.shape != shape:
            raise InvalidInput(
                f"{checkpoint.name}: {name}.weight is {tuple(tensor.shape)} and the model's shape says {shape}; "
                "weights and shape must be of one model"
            )
        return tensor.to(device, dtype)

    def layer(place: str) -> LayerWeights:
        rows = {"q": attended, "k": spec.num_kv_heads * spec.head_dim, "v": spec.num_kv_heads * spec.head_dim}
        qkv = [get(f"{place}.self_attn.{n}_proj", rows[n], hidden) for n in rows]
        gate_up = [get(f"{place}.mlp.{n}_proj", spec.intermediate_size, hidden) for n in ("gate", "up")]
        return LayerWeights(
            attention_norm=get(f"{place}.input_layernorm", hidden),
            qkv=pack(torch.cat(qkv)),
            attention_output=pack(get(f"{place}.self_attn.o_proj", hidden, attended)),
            mlp_norm=get(f"{place}.post_attention_layernorm", hidden),
            gate_up=pack(torch.cat(gate_up)),
            down=pack(get(f"{place}.mlp.down_proj", hidden, spec.intermediate_size)),
        )

    table = get("model.embed_tokens", spec.vocab_size, hidden)
    return Weights(
        table=table,
        head=pack(table if spec.tied_embeddings else get("lm_head", spec.vocab_size, hidden)),
        norm=get("model.norm", hidden),
        layers=(layer(f"model.layers.{index}") for index in range(spec.num_layers)),
        norm_epsilon=checkpoint.norm_epsilon,
        rotary_base=checkpoint.rotary_base,
    )


def _source(dtype: torch.dtype, device: torch.device, seed: int, noise: float) -> Callable[[int, int, float], Tensor]:
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
