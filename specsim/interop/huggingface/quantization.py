"""Format and bits of every matrix as a checkpoint stores it: scales and zero points counted, what is wide kept wide.

Read are ``quantization_config``, also as ``compression_config`` or ModelOpt's ``hf_quant_config.json``: one scheme for
all linear layers, or groups of them by name, and the layers that are left out. Names are matched as engines do,
without what stands before ``layers.`` (vLLM's ``is_layer_skipped``; compressed-tensors' ``re:`` targets).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.keys import Keys
from specsim.specs.formats import format_of

WIDE = 16.0
# What a matrix of a layer is called in checkpoints, inside its layer; several names where families differ.
_ATTENTION = ("self_attn", "attn", "attention", "mixer")
_MLP = ("mlp", "feed_forward", "ffn", "mixer", "block_sparse_moe")


def _inside(blocks: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{block}.{name}" for block in blocks for name in names)


def _experts(blocks: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{block}.{form}" for block in blocks for name in names for form in (f"experts.0.{name}", "experts"))


_NAMES = {
    "qkv": _inside(_ATTENTION, "q_proj", "qkv_proj", "k_proj", "W_pack", "query_key_value"),
    "attention_output": _inside(_ATTENTION, "o_proj", "out_proj", "dense", "wo_b"),
    "query": _inside(_ATTENTION, "q_proj"),
    "query_down": _inside(_ATTENTION, "q_a_proj", "wq_a"),
    "query_up": _inside(_ATTENTION, "q_b_proj", "wq_b"),
    "kv_down": _inside(_ATTENTION, "kv_a_proj_with_mqa"),
    "kv_up": _inside(_ATTENTION, "kv_b_proj"),
    "output_gate": _inside(_ATTENTION, "g_proj"),
    "output_down": _inside(_ATTENTION, "wo_a"),
    "index_query": _inside(_ATTENTION, "indexer.wq_b"),
    "state_input": ("linear_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "mixer.in_proj", "mamba.in_proj",
                    "self_attn.q_proj"),
    "state_output": ("linear_attn.out_proj", "mixer.out_proj", "mamba.out_proj", "self_attn.o_proj"),
    "gate_up": _inside(_MLP, "gate_proj", "up_proj", "gate_up_proj", "w1"),
    "down": _inside(_MLP, "down_proj", "w2"),
    "expert_gate_up": _experts(_MLP, "gate_proj", "up_proj", "gate_up_proj", "w1"),
    "expert_down": _experts(_MLP, "down_proj", "w2"),
    "expert_input": ("mixer.fc1_latent_proj",),
    "expert_output": ("mixer.fc2_latent_proj",),
    "shared_gate_up": _inside(_MLP, "shared_experts.gate_proj", "shared_experts.up_proj", "shared_expert.gate_proj",
                              "shared_expert.up_proj", "shared_experts.w1", "shared_mlp.gate_proj"),
    "shared_down": _inside(_MLP, "shared_experts.down_proj", "shared_expert.down_proj", "shared_experts.w2",
                           "shared_mlp.down_proj"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scheme:
    """``bits`` a weight, and for each ``group`` of weights a scale of ``scale_bits``; group 0: none that counts.

    ``format``: as specs/formats names it; None: whatever runs so many bits.
    """

    bits: float
    group: int = 0
    scale_bits: float = 0.0
    format: str | None = None

    @classmethod
    def of(cls, name: str, group: int | None = None, scale_bits: float | None = None) -> Scheme:
        """A format with its own group and scale, or others."""
        found = format_of(name)
        shared = found.group or 0 if group is None else group
        return cls(found.bits, shared, found.scale_bits if scale_bits is None else scale_bits, name)

    @property
    def stored_bits(self) -> float:
        return self.bits + (self.scale_bits / self.group if self.group else 0.0)

    @property
    def stored(self) -> dict[str, Any]:
        """As a layer's formats have it."""
        return {"format": self.format, "bits": self.stored_bits}


Find = Callable[[Sequence[str]], Scheme | None]  # of what a module may be called; None: it stays wide

_ALGORITHMS = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "fp8_pb_wo": "fp8-block", "int8_sq": "int8",
    "experts_int8": "int8-weight", "nvfp4": "nvfp4", "nvfp4_awq": "nvfp4", "w4a16_nvfp4": "nvfp4-weight",
    "mxfp4": "mxfp4", "mxfp8": "mxfp8", "w4a16_awq": "int4-weight-g128", "w4a8_awq": "int4-fp8",
    "w8a16": "int8-weight",
}  # fmt: skip


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
    modules = _NAMES | family.get("modules", {})
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
    ignored = _Names([str(one) for name in ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules",
                                            "llm_int8_skip_modules") for one in block.items(name)])  # fmt: skip
    if block.has("quantized_layers"):
        return _by_name(block, ignored)
    groups = block.find("config_groups")
    if isinstance(groups, dict) and groups:
        return _by_group(block, groups, ignored)
    main = _single(block)

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        return experts if experts is not None and ".experts" in names[0] else main

    return (experts or main), find


def _by_name(block: Keys, ignored: _Names) -> tuple[Scheme, Find]:
    """Every quantized module is listed with its algorithm (ModelOpt's MIXED_PRECISION)."""
    given = block.section("quantized_layers")
    listed = {_bare(name): _algorithm(given.section(name)) for name in given.names()}
    if not listed:
        raise InvalidInput(f"{block.where}: quantized_layers names no layer; leave it out or name some")
    narrowest = min(listed.values(), key=lambda scheme: scheme.stored_bits)

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        return next((listed[name] for name in names if name in listed), None)

    return narrowest, find


def _by_group(block: Keys, groups: dict[str, Any], ignored: _Names) -> tuple[Scheme, Find]:
    """Groups of modules by name, and one of all that are Linear (compressed-tensors)."""
    found: list[tuple[_Names, bool, Scheme]] = []
    for name, group in groups.items():
        weights = Keys(group if isinstance(group, dict) else {}, block.where, f"config_groups.{name}.").section(
            "weights"
        )
        if weights.has("num_bits"):
            targets = [str(one) for one in Keys(group, block.where).items("targets")] or ["Linear"]
            inputs = Keys(group, block.where, f"config_groups.{name}.").section("input_activations")
            found.append((_Names(targets), "Linear" in targets, _weights_scheme(weights, inputs)))
    if not found:
        return Scheme(WIDE), lambda names: None

    def find(names: Sequence[str]) -> Scheme | None:
        if ignored.have(names):
            return None
        named = (scheme for targets, _, scheme in found if targets.have(names))
        return next(named, next((scheme for _, every, scheme in found if every), None))

    return min((scheme for _, _, scheme in found), key=lambda scheme: scheme.stored_bits), find


def _weights_scheme(weights: Keys, inputs: Keys) -> Scheme:
    """compressed-tensors: scales have 8 bits where they are powers of two or of FP4 groups of 16, else 16."""
    bits, group = weights.find("num_bits"), weights.count("group_size") if weights.find("group_size") != -1 else 0
    if not isinstance(bits, int | float) or not 0 < bits <= 64:
        raise weights.wrong("num_bits", bits, "it should be a number of bits")
    floats, narrow_inputs = weights.text("type") == "float", inputs.find("num_bits")
    block = weights.find("block_structure")
    if isinstance(block, list) and len(block) == 2:
        name = "fp8-block" if bits == 8 and floats else None
        return Scheme(float(bits), int(block[0]) * int(block[1]), 32.0, name)
    narrow = "uint8" in weights.text("scale_dtype") or (floats and group in (16, 32))
    zero = 0.0 if weights.flag("symmetric", default=True) else float(bits)
    name = _compressed(bits, floats, group, narrow_inputs, inputs.text("type") == "float")
    return Scheme(float(bits), group, (8.0 if narrow else 16.0) + zero if group else 0.0, name)


def _compressed(bits: float, floats: bool, group: int, inputs: object, float_inputs: bool) -> str | None:
    """The format of weights of so many bits, integers or floats, by ``inputs`` of so many (None: 16)."""
    if bits == 8:
        return ("fp8" if inputs == 8 else "fp8-weight") if floats else "int8" if inputs == 8 else "int8-weight"
    if bits != 4:
        return None
    if not floats:
        return "int4-fp8" if inputs == 8 and float_inputs else _int4(group)
    if group == 16:
        return "nvfp4" if inputs == 4 else "nvfp4-weight"
    return "mxfp4-mxfp8" if inputs == 8 else "mxfp4"


def _int4(group: int) -> str:
    return "int4-weight-g32" if 0 < group <= 32 else "int4-weight-g128"


def _single(block: Keys) -> Scheme:
    """One scheme for all."""
    if block.flag("load_in_4bit") or block.flag("load_in_8bit"):
        doubled = block.flag("bnb_4bit_use_double_quant")
        # NF4 blocks of 64 share a float32 scale, itself in 8 bits with one float32 for 256 where quantized twice
        narrow = Scheme.of("int4-weight-g128", 64, 8.125 if doubled else 32.0)
        return narrow if block.flag("load_in_4bit") else Scheme.of("int8-weight")
    bits = block.find("bits", "w_bit")
    if bits is not None:
        if isinstance(bits, bool) or not isinstance(bits, int | float) or not 0 < bits <= 64:
            raise block.wrong("bits", bits, "it should be a number of bits")
        named = block.has("quant_method", "w_bit", "sym", "desc_act", "zero_point")
        return _grouped(block, float(bits)) if named else _mlx(block, float(bits))
    return _algorithm(block)


def _grouped(block: Keys, bits: float) -> Scheme:
    """GPTQ and AWQ: a 16-bit scale for each group, and a zero point as wide as a weight unless it is symmetric."""
    told = block.find("group_size", "q_group_size")
    group = 0 if told in (-1, None) else block.count("group_size", "q_group_size")
    awq = block.text("quant_method").lower() == "awq"
    zero = block.flag("zero_point", default=True) if awq else True  # GPTQ stores zero points even where they are alike
    name = {4.0: _int4(group), 8.0: "int8-weight"}.get(bits)
    return Scheme(bits, group, 16.0 + (bits if zero else 0.0) if group else 0.0, name)


def _mlx(block: Keys, bits: float) -> Scheme:
    """MLX names no method: each group has a scale and a bias of 16 bits, or as ``mode`` says."""
    mode, group = block.text("mode", default="affine").lower(), block.count("group_size", default=64)
    if mode in _ALGORITHMS:
        return Scheme.of(_ALGORITHMS[mode])
    name = {4.0: _int4(group), 8.0: "int8-weight"}.get(bits)
    return Scheme(bits, group, 32.0 if group else 0.0, name)


def _algorithm(block: Keys) -> Scheme:
    name = block.text("quant_algo", "quant_method").lower()
    if name in ("", "compressed-tensors"):
        return Scheme(WIDE)
    if name not in _ALGORITHMS:
        raise InvalidInput(
            f"{block.where}: quantization {block.text('quant_algo', 'quant_method')[:60]!r} is not covered; "
            "write the model as YAML with its weight_bits"
        )
    scheme, shape = Scheme.of(_ALGORITHMS[name]), block.items("weight_block_size")
    if name == "fp8" and len(shape) == 2 and all(isinstance(one, int) and one > 0 for one in shape):
        return Scheme.of("fp8-block", shape[0] * shape[1])
    if scheme.group and (group := block.optional("group_size")):
        return replace(scheme, group=group)
    return scheme


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


def _bare(name: str) -> str:
    """A module's name from ``layers.`` on, experts all alike."""
    start = name.find("layers.")
    bare = name[start:] if start >= 0 else name
    return re.sub(r"\.experts\.\d+\.", ".experts.0.", bare)


class _Names:
    """Modules that patterns name: whole names or beginnings, with ``*``, or regular expressions after ``re:``."""

    def __init__(self, patterns: list[str]) -> None:
        self._exact: set[str] = set()
        self._globs: list[str] = []
        self._regexes = []
        for pattern in patterns:
            if pattern.startswith("mtp"):
                continue  # drafting layers, numbered anew
            if pattern.startswith("re:"):
                try:
                    self._regexes.append(re.compile(pattern[3:]))
                except re.error:
                    continue
            elif "*" in pattern or "layers." not in pattern:
                bare = _bare(pattern)
                self._globs += [bare, f"{bare}.*"] + ([] if "layers." in pattern else [f"*.{bare}", f"*.{bare}.*"])
            else:
                self._exact.add(_bare(pattern))

    def have(self, names: Sequence[str]) -> bool:
        """Whether one of the names that a module may have is among them."""
        return any(name in self for name in names)

    def __contains__(self, name: str) -> bool:
        parts = name.split(".")
        if any(".".join(parts[:end]) in self._exact for end in range(1, len(parts) + 1)):
            return True
        if any(fnmatchcase(name, pattern) for pattern in self._globs):
            return True
        return any(regex.match(f"model.{name}") or regex.match(name) for regex in self._regexes)
