"""The sublayers of a layer, from its kind, and from the model's flat fields where the kind says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specsim.specs.feed_forward import Dense, Experts, FeedForward
from specsim.specs.layer_kind import LayerKind
from specsim.specs.linear import StoredMatrices
from specsim.specs.mixers import Attention, Compressed, Latent, Mixer
from specsim.specs.recurrent import Recurrent
from specsim.specs.stack import Layer

if TYPE_CHECKING:
    from specsim.specs.model import ModelSpec


def layer_of(model: ModelSpec, kind: LayerKind, *, dense: bool) -> Layer:
    """A layer of a kind; ``dense``: whatever experts the model has."""
    mixers: list[Mixer] = []
    if kind.attention:
        mixers.append(attention_of(model, kind))
    if kind.state is not None:
        mixers.append(Recurrent(kind.state, _formats(kind)))
    feed_forward = () if kind.mlp == "none" else (feed_forward_of(model, kind, dense=dense or kind.mlp == "dense"),)
    return Layer(tuple(mixers), feed_forward, kind.vectors)


def attention_of(model: ModelSpec, kind: LayerKind) -> Mixer:
    formats, heads = _formats(kind), kind.num_heads or model.num_heads
    index = kind.index or model.index
    if model.compression is not None:
        ratio = kind.compress_ratio or 0
        sparse = kind.index if kind.index is not None and ratio else None
        width = kind.head_dim or model.head_dim
        return Compressed(heads, width, model.compression.window, model.compression, ratio, sparse, formats)
    if model.mla is not None and kind.latent:
        return Latent(
            heads,
            kind.num_kv_heads or model.num_kv_heads,
            model.head_dim,
            model.mla,
            index,
            model.output_gate,
            formats,
            qkv_bias=model.linear_bias,
            output_bias=model.output_bias or model.linear_bias,
        )
    head_dim = kind.head_dim or model.head_dim
    window = kind.window if kind.window is not None else model.sliding_window
    return Attention(
        heads,
        kind.num_kv_heads or model.num_kv_heads,
        head_dim,
        kind.value_dim or (None if kind.head_dim else model.value_dim) or head_dim,
        window=None if kind.chunk else window or None,
        chunk=kind.chunk,
        index=index,
        qk_norm=model.qk_norm,
        gate_width=model.output_gate,
        one_projection=kind.one_projection,
        shared_cache=kind.shared_cache,
        sinks=model.sinks if kind.sinks is None else kind.sinks,
        qkv_bias=model.qkv_bias or model.linear_bias,
        output_bias=model.output_bias or model.linear_bias,
        formats=formats,
    )


def feed_forward_of(model: ModelSpec, kind: LayerKind, *, dense: bool) -> FeedForward:
    moe = kind.moe or model.moe
    if moe is None or dense:
        width = kind.intermediate_size or model.intermediate_size
        return Dense(width, model.gated_mlp, model.linear_bias, _formats(kind))
    return Experts(moe, model.gated_mlp, _formats(kind))


def _formats(kind: LayerKind) -> StoredMatrices:
    return tuple(sorted(kind.formats.items()))
