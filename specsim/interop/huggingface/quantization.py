"""Format and bits of every matrix as a checkpoint stores it: scales and zero points counted, what is wide kept wide.

Read are ``quantization_config``, also as ``compression_config`` or ModelOpt's ``hf_quant_config.json``: one scheme for
all linear layers, or groups of them by name, and the layers that are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.keys import Keys
from specsim.interop.huggingface.module_names import MATRICES, NamePatterns, bare_name
from specsim.interop.huggingface.quantization_schemes import (
    WIDE,
    Scheme,
    compressed_scheme,
    named_scheme,
    single_scheme,
)

Find = Callable[[Sequence[str]], Scheme | None]  # of what a module may be called; None: it stays wide


def store_weights(keys: Keys, fields: Fields, layers: LayerFields, family: Mapping[str, Any]) -> list[str]:
    """Sets the model's ``weight_bits`` and scales and every layer's exceptions; returns what is told and not read.

    Raises InvalidInput for a scheme that is not known.
    """
    stored = keys.text("dtype", "torch_dtype", default="float16").removeprefix("torch.")
    fields["weight_bits"] = 8.0 if stored.startswith(("float8", "int8")) else WIDE
    block = keys.section("quantization_config", "compression_config")
    if not block.has(*_TOLD):
        return []
    main, find = _schemes(block, _experts_of(keys))
    fields |= {"weight_bits": main.bits}
    if main.format is not None:
        fields |= {"weight_format": main.format, "weight_group": main.group or None, "scale_bits": main.scale_bits}
    elif main.group:
        fields |= {"weight_group": main.group, "scale_bits": main.scale_bits}
    first_routed = fields["moe"].get("first_dense_layers", 0) if fields.get("moe") else len(layers)
    modules = MATRICES | family.get("modules", {})
    for index, layer in enumerate(layers):
        formats = {}
        for matrix in sorted(_matrices(layer, fields, routed=index >= first_routed)):
            found = find([f"layers.{index}.{name}" for name in modules[matrix]])
            if found != main:
                formats[matrix] = "bfloat16" if found is None else found.stored
        if formats and main.stored_bits < WIDE:
            layer["formats"] = formats
    return _unread(block)


_LATENT = {"query", "query_down", "query_up", "kv_down", "kv_up", "output_down", "attention_output"}
_TOLD = (
    "quant_algo",
    "quant_method",
    "bits",
    "w_bit",
    "load_in_4bit",
    "load_in_8bit",
    "config_groups",
    "quantized_layers",
)


def _experts_of(keys: Keys) -> Scheme | None:
    """Routed experts that another key gives bits of their own (DeepSeek-V4: FP8 with ``expert_dtype`` fp4)."""
    return {"fp4": Scheme.of("mxfp4-mxfp8")}.get(keys.text("expert_dtype"))


def _schemes(block: Keys, experts: Scheme | None) -> tuple[Scheme, Find]:
    """The scheme of most weights, and that of each module."""
    ignored = NamePatterns(
        [
            str(one)
            for name in (
                "ignore",
                "ignored_layers",
                "modules_to_not_convert",
                "exclude_modules",
                "llm_int8_skip_modules",
            )
            for one in block.items(name)
        ]
    )
    if block.has("quantized_layers"):
        return _by_name(block, ignored)
    groups = block.find("config_groups")
    if isinstance(groups, dict) and groups:
        return _by_group(block, groups, ignored)
    main = single_scheme(block)

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        return experts if experts is not None and ".experts" in names[0] else main

    return (experts or main), find


def _by_name(block: Keys, ignored: NamePatterns) -> tuple[Scheme, Find]:
    """Every quantized module is listed with its algorithm (ModelOpt's MIXED_PRECISION)."""
    given = block.section("quantized_layers")
    listed = {bare_name(name): named_scheme(given.section(name)) for name in given.names()}
    if not listed:
        raise InvalidInput(f"{block.where}: quantized_layers names no layer; leave it out or name some")
    narrowest = min(listed.values(), key=lambda scheme: scheme.stored_bits)

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        return next((listed[name] for name in names if name in listed), None)

    return narrowest, find


def _by_group(block: Keys, groups: dict[str, Any], ignored: NamePatterns) -> tuple[Scheme, Find]:
    """Groups of modules by name, and one of all that are Linear (compressed-tensors)."""
    found: list[tuple[NamePatterns, bool, Scheme]] = []
    for name, group in groups.items():
        weights = Keys(group if isinstance(group, dict) else {}, block.where, f"config_groups.{name}.").section(
            "weights"
        )
        if weights.has("num_bits"):
            targets = [str(one) for one in Keys(group, block.where).items("targets")] or ["Linear"]
            inputs = Keys(group, block.where, f"config_groups.{name}.").section("input_activations")
            found.append((NamePatterns(targets), "Linear" in targets, compressed_scheme(weights, inputs)))
    if not found:
        return Scheme(WIDE), lambda names: None

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        named = (scheme for targets, _, scheme in found if targets.have(names))
        return next(named, next((scheme for _, every, scheme in found if every), None))

    return min((scheme for _, _, scheme in found), key=lambda scheme: scheme.stored_bits), find


def _matrices(layer: Fields, fields: Fields, *, routed: bool) -> set[str]:
    """Matrices that a layer has."""
    names: set[str] = set()
    if layer.get("attention", True):
        latent = fields.get("mla") or fields.get("compression")
        names |= _LATENT if latent else {"qkv", "attention_output"}
        names |= {"index_query"} if layer.get("index") or fields.get("index") else set()
        names |= {"output_gate"} if latent and fields.get("output_gate") else set()
    if "state" in layer:
        names |= {"state_input", "state_output"}
    if layer.get("mlp") == "none":
        return names
    if not routed or layer.get("mlp") == "dense":
        return names | {"gate_up", "down"}
    moe = fields["moe"]
    names |= {"expert_gate_up", "expert_down"}
    names |= {"expert_input", "expert_output"} if moe.get("latent_size") else set()
    shared = moe.get("shared_experts") or moe.get("shared_intermediate_size")
    return names | ({"shared_gate_up", "shared_down"} if shared else set())


def _unread(block: Keys) -> list[str]:
    """What the block tells that changes no weight."""
    found = [name for name in ("kv_cache_scheme", "kv_cache_quant_algo") if block.has(name)]
    return [f"quantization of the KV cache ({name}; set deployment.kv_bits)" for name in found[:1]]
