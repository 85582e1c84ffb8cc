"""Where the weights of a target's own drafters come from: seeded draws, or checkpoints that were trained with it.

Names in a checkpoint: ``blocks.i.layers.0`` and ``lm_heads.i`` of heads; ``input_layernorm``, ``self_attn`` and
``norm`` of an adapter; ``fc`` and ``layers.0`` (without a norm before its attention) of a feature head.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from specsim.reference.drafters.features import FeatureHead
from specsim.reference.drafters.heads import HeadWeights
from specsim.reference.drafters.own_target import AdapterLayer
from specsim.reference.network.checkpoint import Checkpoint
from specsim.reference.network.kernels import pack
from specsim.reference.network.layers import Layers
from specsim.reference.network.transformer import Transformer
from specsim.reference.network.transformer_weights import (
    NORM_EPSILON,
    ROTARY_BASE,
    LayerWeights,
    TensorReader,
    random_layer,
    source,
)
from specsim.specs.model import ModelSpec


def random_heads(target: Transformer, count: int, seed: int) -> HeadWeights:
    """Medusa's heads."""
    hidden, vocab = target.spec.hidden_size, target.spec.vocab_size
    draw = source(target.dtype, target.device, seed)
    return HeadWeights(
        [pack(draw(hidden, hidden, hidden)) for _ in range(count)],
        [pack(draw(vocab, hidden, hidden)) for _ in range(count)],
    )


def stored_heads(checkpoint: Checkpoint, target: Transformer, count: int | None = None) -> HeadWeights:
    """Medusa's first ``count`` heads, or all. Raises InvalidInput for fewer, or for other shapes than the target's."""
    hidden, vocab = target.spec.hidden_size, target.spec.vocab_size
    get = TensorReader(checkpoint, target.device, target.dtype)
    if count is None:
        count = sum(name.startswith("lm_heads.") for name in checkpoint.tensors)
    return HeadWeights(
        [pack(get(f"blocks.{index}.layers.0", hidden, hidden)) for index in range(count)],
        [pack(get(f"lm_heads.{index}", vocab, hidden)) for index in range(count)],
    )


def random_adapter(target: Transformer, seed: int, *, num_kv_heads: int | None = None) -> AdapterLayer:
    """Kangaroo's adapter; its KV heads are the target's unless said otherwise."""
    spec, norm = _one_layer(target, num_kv_heads), _ones(target)
    draw = source(target.dtype, target.device, seed)
    return AdapterLayer(_layers(target, spec, [random_layer(spec, draw, norm, mlp=False)]), norm.clone())


def stored_adapter(checkpoint: Checkpoint, target: Transformer) -> AdapterLayer:
    """Kangaroo's adapter. Raises InvalidInput for other shapes than the target's."""
    spec = _one_layer(target, checkpoint.config.get("num_key_value_heads"))
    get = TensorReader(checkpoint, target.device, target.dtype)
    layers = _layers(target, spec, [get.layer("", spec, mlp=False)], checkpoint)
    return AdapterLayer(layers, get("norm", spec.hidden_size))


def random_feature_head(target: Transformer, seed: int) -> FeatureHead:
    """EAGLE's head."""
    spec, hidden = _one_layer(target), target.spec.hidden_size
    draw = source(target.dtype, target.device, seed)
    layer = random_layer(spec, draw, _ones(target), input_norm=False)
    return FeatureHead(pack(draw(hidden, 2 * hidden, 2 * hidden)), _layers(target, spec, [layer]))


def stored_feature_head(checkpoint: Checkpoint, target: Transformer) -> FeatureHead:
    """EAGLE's head. Raises InvalidInput for other shapes than the target's."""
    spec, hidden = _one_layer(target), target.spec.hidden_size
    get = TensorReader(checkpoint, target.device, target.dtype)
    layers = _layers(target, spec, [get.layer("layers.0.", spec, input_norm=False)], checkpoint)
    return FeatureHead(pack(get("fc", hidden, 2 * hidden)), layers)


def _one_layer(target: Transformer, num_kv_heads: int | None = None) -> ModelSpec:
    changes = {"num_layers": 1, "num_kv_heads": num_kv_heads or target.spec.num_kv_heads}
    spec: ModelSpec = target.spec.model_copy(update=changes)
    return spec


def _ones(target: Transformer) -> torch.Tensor:
    return torch.ones(target.spec.hidden_size, dtype=target.dtype, device=target.device)


def _layers(
    target: Transformer, spec: ModelSpec, weights: Iterable[LayerWeights], checkpoint: Checkpoint | None = None
) -> Layers:
    """With as many slots and places as the target has."""
    layers = Layers(
        spec,
        weights,
        rotary_base=checkpoint.rotary_base if checkpoint else ROTARY_BASE,
        norm_epsilon=checkpoint.norm_epsilon if checkpoint else NORM_EPSILON,
        device=target.device,
        dtype=target.dtype,
        max_sequences=target.max_sequences,
        max_length=target.max_length,
    )
    if checkpoint is None:
        layers.cache.normal_()  # a timed round may take places for computed that never were
    if target.graphs is not None:
        layers.graphs = target.graphs.alike(layers)
    return layers
