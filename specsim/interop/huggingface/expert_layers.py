"""Which layers of a config.json have routed experts, and which."""

from __future__ import annotations

from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.keys import Keys

_ROUTED = ("sparse", "moe", "E", 1, True)


def experts(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Routed experts, where the file has any, in the layers that one of many keys tells."""
    count = _first_of(keys, layers, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    if not count:
        fields.pop("moe", None)
        return
    names = (
        "num_experts_per_tok",
        "num_experts_per_token",
        "moe_topk",
        "moe_top_k",
        "moe_k",
        "top_k_experts",
        "experts_per_token",
    )
    if not keys.has(*names):
        raise InvalidInput(f"{keys.where}: field num_experts_per_tok is missing; a model with experts needs it")
    width = _first_of(
        keys,
        layers,
        "moe_intermediate_size",
        "moe_ffn_hidden_size",
        "expert_ffn_hidden_size",
        "ffn_hidden_size",
        "intermediate_size",
    )
    moe: Fields = {
        "num_experts": count,
        "experts_per_token": _first_of(keys, layers, *names),
        "intermediate_size": width,
        "router_bias": _router_bias(keys, fields),
        **_shared(keys, layers),
    }
    if latent := keys.optional("moe_latent_size", "routed_expert_hidden_size"):
        moe["latent_size"] = latent
    fields["moe"] = moe | fields.get("moe", {})
    _place(keys, fields["moe"], layers)


def _first_of(keys: Keys, layers: LayerFields, *names: str) -> int:
    """A count, or of a list with one for each layer the most frequent."""
    found = keys.find(*names)
    if isinstance(found, list) and found and keys.where and all(isinstance(one, int) for one in found):
        if len(found) < len(layers):
            return keys.count(*names)  # says what is wrong
        return int(max(set(found), key=found.count))
    return keys.count(*names)


def _router_bias(keys: Keys, fields: Fields) -> bool:
    """A correction term an expert, where the file or the family says so."""
    told = ("use_routing_bias", "moe_router_enable_expert_bias", "use_expert_bias", "use_moe_router_bias")
    if keys.has(*told):
        return keys.flag(*told)
    if keys.has("topk_method"):
        return keys.text("topk_method") == "noaux_tc"
    return bool(fields.get("moe", {}).get("router_bias"))


def _shared(keys: Keys, layers: LayerFields) -> Fields:
    """Experts that every token runs; a width of their own is that of all together."""
    widths = (
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "share_expert_dim",
        "shared_intermediate_size",
    )
    names = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
    count = _first_of(keys, layers, *names)
    if width := keys.optional(*widths):
        return {"shared_intermediate_size": width * max(1, count)}
    return {"shared_experts": count} if count else {}


def _place(keys: Keys, moe: Fields, layers: LayerFields) -> None:
    """Which layers are dense: the first ones, all but each n-th, or as a list says."""
    dense = [not routed for routed in _routed(keys, len(layers))]
    first = next((index for index, one in enumerate(dense) if not one), len(dense))
    if not any(dense[first:]):
        if first:
            moe["first_dense_layers"] = first
        return
    for layer, one in zip(layers, dense, strict=True):
        if one and layer.get("mlp") != "none":
            layer["mlp"] = "dense"


def _routed(keys: Keys, count: int) -> list[bool]:
    for name in ("mlp_layer_types", "moe_layer_freq", "is_moe_layer"):
        if isinstance(keys.find(name), list):
            return [kind in _ROUTED for kind in keys.per_layer(count, name)]
    if chosen := _chosen(keys):
        return [index in chosen for index in range(count)]
    first = keys.count("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index")
    last = keys.count("moe_layer_end_index", default=count)
    every = keys.size(
        "moe_layer_interval",
        "moe_layer_freq",
        "decoder_sparse_step",
        "interleave_moe_layer_step",
        "expert_layer_period",
        default=1,
    )
    offset = keys.count("expert_layer_offset", default=every - 1 if not keys.has("expert_layer_period") else 0)
    excluded = keys.items("mlp_only_layers")
    return [
        first <= index <= last and (index - offset) % every == 0 and index not in excluded for index in range(count)
    ]


def _chosen(keys: Keys) -> set[int]:
    """The layers that are listed, as numbers or as text with commas (Step 3)."""
    listed: Any = keys.find("moe_layers", "moe_layers_enum")
    if isinstance(listed, str):
        return {int(one) for one in listed.split(",") if one.strip().isdigit()}
    return {one for one in listed if isinstance(one, int)} if isinstance(listed, list) else set()
