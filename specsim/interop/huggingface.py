"""A Hugging Face ``config.json`` read into a ModelSpec, without transformers.

Answers what shape a checkpoint's own description states. It opens no weights and downloads nothing. Read are
the decoder-only families whose parameters a ModelSpec counts exactly; draft heads, encoders, hybrid and
state-space models get one line that says so. ``weight_bits`` is nominal: scales and zero points of a
quantized checkpoint, and the layers it leaves in 16 bits, are not counted.

Field names follow transformers' configuration classes; their aliases, vLLM's ``model_arch_config_convertor``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PositiveInt

from specsim.errors import InvalidInput
from specsim.json_file import read_json_object
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import build


@dataclass(frozen=True, slots=True)
class _Family:
    """What a model_type fixes in transformers' code, so that its config.json need not say it."""

    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    router_bias: bool = False
    gpt: bool = False  # LayerNorm, an ungated MLP of 4 hidden sizes, biases, and a learned position table
    extra_positions: int = 0  # rows of that table beyond max_position
    multi_query: bool = False  # one KV head unless the file says otherwise


_QWEN2 = _Family(qkv_bias=True)
_FAMILIES = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "phi3", "granite", "chatglm", "deepseek_v2"), _Family()),
    **dict.fromkeys(("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text"), _QWEN2),
    **dict.fromkeys(("qwen3", "qwen3_moe", "qwen3_vl_text"), _Family(qk_norm=True)),
    **dict.fromkeys(("deepseek_v3", "kimi_k2"), _Family(router_bias=True)),
    "gemma": _Family(tied=True),
    "opt": _Family(tied=True, gpt=True, extra_positions=2),
    "gpt2": _Family(tied=True, gpt=True),
    "gpt_bigcode": _Family(tied=True, gpt=True, multi_query=True),
}


_METHOD_BITS = {
    **dict.fromkeys(("fp8", "fbgemm_fp8", "ptpc_fp8", "fp8_pb_wo", "int8_sq", "experts_int8"), 8.0),
    **dict.fromkeys(("nvfp4", "mxfp4", "w4a16_awq", "w4a8_awq"), 4.0),
}


def _named(*names: str, default: Any = None) -> Any:
    """A field under the first of ``names`` that the file has."""
    return Field(default, validation_alias=AliasChoices(*names))


class _WeightBits(BaseModel):
    num_bits: float


class _WeightGroup(BaseModel):
    weights: _WeightBits | None = None


class _Quantization(BaseModel):
    """``quantization_config``, also as ``compression_config`` or ModelOpt's ``hf_quant_config.json``."""

    method: str | None = _named("quant_algo", "quant_method")
    bits: float | None = _named("bits", "w_bit")
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    config_groups: dict[str, _WeightGroup] | None = None


class _Config(BaseModel):
    """The facts of a config.json that decide shapes; a null in the file counts as absent."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    model_type: str
    hidden_size: PositiveInt = _named("hidden_size", "n_embd", "d_model", default=...)
    num_layers: PositiveInt = _named("num_hidden_layers", "n_layer", "num_layers", default=...)
    num_heads: PositiveInt = _named("num_attention_heads", "n_head", default=...)
    num_kv_heads: PositiveInt | None = _named(
        "num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num", "num_attention_groups"
    )
    multi_query: bool | None = _named("multi_query", "multi_query_attention")
    head_dim: PositiveInt | None = _named("head_dim", "hidden_size_per_head", "kv_channels")
    intermediate_size: PositiveInt | None = _named("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    vocab_size: PositiveInt = _named("padded_vocab_size", "vocab_size", default=...)
    max_position: PositiveInt = _named(
        "max_position_embeddings", "n_positions", "seq_length", "max_sequence_length", default=...
    )
    tied: bool | None = _named("tie_word_embeddings")
    dtype: str = _named("dtype", "torch_dtype", default="float16")
    quantization: _Quantization | None = _named("quantization_config", "compression_config")
    attention_bias: bool = _named("attention_bias", "add_qkv_bias", default=False)
    mlp_bias: bool = False
    enable_bias: bool = True  # OPT
    word_embed_proj_dim: int | None = None  # OPT
    do_layer_norm_before: bool = True  # OPT
    sliding_window: PositiveInt | None = None
    use_sliding_window: bool | None = None  # only Qwen has it, off where absent
    max_window_layers: int = 0  # Qwen: the first layers, which attend to everything
    layer_types: tuple[str, ...] = ()
    num_experts: int = _named("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", default=0)
    experts_per_token: int | None = _named("num_experts_per_tok", "num_experts_per_token", "moe_topk")
    expert_size: PositiveInt | None = _named("moe_intermediate_size")
    shared_experts: int = _named("n_shared_experts", "num_shared_experts", default=0)
    first_dense_layers: int = _named("first_k_dense_replace", default=0)
    moe_every: int = _named("moe_layer_freq", "decoder_sparse_step", default=1)
    mlp_only_layers: tuple[int, ...] = ()
    topk_method: str | None = None
    kv_lora_rank: PositiveInt | None = None
    q_lora_rank: PositiveInt | None = None
    qk_rope_head_dim: int | None = None
    qk_nope_head_dim: int | None = None
    v_head_dim: int | None = None
    is_encoder_decoder: bool = False


def model_from_config(config: Mapping[str, Any] | Path | str, name: str | None = None) -> ModelSpec:
    """The ModelSpec of a config.json: a path to it, to its folder, or its parsed content.

    ``name`` defaults to the folder's name or the file's ``_name_or_path``. A 32-bit checkpoint counts as 16
    bits, because engines load it so (vLLM's ``--dtype auto``). A bias on the attention output alone (Llama's
    ``attention_bias``), hidden_size parameters a layer, is not counted. The modules for multi-token
    prediction (``num_nextn_predict_layers``) are drafters and are left out.
    Raises InvalidInput, one line, for a file that is missing or malformed or an architecture not covered.
    """
    if isinstance(config, Mapping):
        raw, where, named = dict(config), "config.json", config.get("_name_or_path")
    else:
        raw, where, named = _read(Path(config))
    content = _text_part(raw)
    _refuse_draft_head(content, where)
    facts = {key: value for key, value in content.items() if value is not None}
    if facts.get("head_dim") == 0:
        del facts["head_dim"]
    parsed = build(_Config, facts, where)
    family = _family(parsed, where)
    fields = {
        "name": name or str(named or parsed.model_type).split("/")[-1],
        "source": f"{where}, model_type {parsed.model_type}",
        **_shape(parsed, family, where),
        "moe": _moe(parsed, family, where),
        "mla": _mla(parsed),
    }
    return build(ModelSpec, {key: value for key, value in fields.items() if value is not None}, where)


def _read(path: Path) -> tuple[dict[str, Any], str, str]:
    """The file's content, its path, and the name of its folder."""
    file = path / "config.json" if path.is_dir() else path
    content = _json(file)
    side_file = file.parent / "hf_quant_config.json"
    if "quantization_config" not in content and side_file.is_file():
        content["quantization_config"] = _json(side_file).get("quantization")
    return content, str(file), file.resolve().parent.name


def _json(file: Path) -> dict[str, Any]:
    return read_json_object(file, "a model's config.json")


def _text_part(raw: dict[str, Any]) -> dict[str, Any]:
    """The language model of a multimodal file, with what the file states once for all its parts."""
    outer = raw.get("thinker_config") or raw
    inner = outer.get("text_config")
    if not isinstance(inner, dict):
        return raw
    shared = ("quantization_config", "compression_config", "dtype", "torch_dtype", "tie_word_embeddings")
    kept = {key: raw[key] for key in shared if key in raw}
    return kept | {key: value for key, value in inner.items() if value is not None}


def _refuse_draft_head(content: dict[str, Any], where: str) -> None:
    keys = ("speculators_model_type", "draft_vocab_size", "medusa_num_heads", "eagle_config")
    marks = [key for key in keys if content.get(key) is not None]
    marks += [name for name in content.get("architectures") or () if re.search("eagle|medusa", name, re.I)]
    if marks:
        raise InvalidInput(
            f"{where} describes a draft head ({marks[0]}), not a whole model; "
            "choose its technique as the draft program instead"
        )


def _family(config: _Config, where: str) -> _Family:
    family = _FAMILIES.get(config.model_type)
    if family is None or config.is_encoder_decoder:
        raise InvalidInput(
            f"{where}: architecture {config.model_type!r} is not covered (known: "
            f"{', '.join(sorted(_FAMILIES))}); write the model's shape as a YAML file instead"
        )
    return family


def _shape(config: _Config, family: _Family, where: str) -> dict[str, Any]:
    """Every ModelSpec field but name, source, moe and mla."""
    if config.word_embed_proj_dim not in (None, config.hidden_size) or not config.do_layer_norm_before:
        raise InvalidInput(f"{where}: OPT with projected embeddings or post-norm (opt-350m) is not covered")
    if config.mlp_bias and not config.attention_bias:
        raise InvalidInput(f"{where}: mlp_bias without attention_bias is not covered")
    intermediate = config.intermediate_size or (4 * config.hidden_size if family.gpt else config.expert_size)
    return {
        "num_layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_heads": config.num_heads,
        "num_kv_heads": _kv_heads(config, family),
        "head_dim": _head_dim(config, where),
        "intermediate_size": intermediate,
        "vocab_size": config.vocab_size,
        "tied_embeddings": family.tied if config.tied is None else config.tied,
        "gated_mlp": not family.gpt,
        "qkv_bias": family.qkv_bias or (config.attention_bias and not config.mlp_bias),
        "linear_bias": (family.gpt and config.enable_bias) or (config.attention_bias and config.mlp_bias),
        "norm_bias": family.gpt,
        "qk_norm": "head" if family.qk_norm else None,
        "max_position": config.max_position,
        "learned_positions": config.max_position + family.extra_positions if family.gpt else 0,
        "sliding_window": _sliding_window(config, where),
        "weight_bits": _weight_bits(config, where),
    }


def _kv_heads(config: _Config, family: _Family) -> int:
    if config.multi_query is False:
        return config.num_heads
    if config.num_kv_heads is not None:
        return config.num_kv_heads
    return 1 if config.multi_query or family.multi_query else config.num_heads


def _head_dim(config: _Config, where: str) -> int:
    """Width of a query head; with latent attention, of both its parts."""
    if config.qk_nope_head_dim is not None and config.qk_rope_head_dim is not None:
        return config.qk_nope_head_dim + config.qk_rope_head_dim
    if config.head_dim is not None:
        return config.head_dim
    width, rest = divmod(config.hidden_size, config.num_heads)
    if rest:
        raise InvalidInput(
            f"{where}: hidden_size {config.hidden_size} is not a multiple of num_attention_heads "
            f"{config.num_heads}; state head_dim"
        )
    return width


def _sliding_window(config: _Config, where: str) -> int | None:
    """The window if every layer has it, None if none has; a mixture has no place in a ModelSpec."""
    enabled = config.use_sliding_window
    if enabled is None:
        enabled = not config.model_type.startswith("qwen")
    if config.layer_types:
        kinds = set(config.layer_types)
    elif config.sliding_window is None or not enabled:
        kinds = {"full_attention"}
    else:
        first = config.max_window_layers
        kinds = {f"{'sliding' if i >= first else 'full'}_attention" for i in range(config.num_layers)}
    if kinds not in ({"full_attention"}, {"sliding_attention"}):
        raise InvalidInput(f"{where}: layers of {' and '.join(sorted(kinds))} are not covered")
    return config.sliding_window if kinds == {"sliding_attention"} else None


def _moe(config: _Config, family: _Family, where: str) -> dict[str, Any] | None:
    if config.num_experts <= 0:
        return None
    dense = config.first_dense_layers or len(config.mlp_only_layers)
    if config.moe_every != 1 or (config.mlp_only_layers and config.mlp_only_layers != tuple(range(dense))):
        raise InvalidInput(f"{where}: dense layers between expert layers are not covered")
    if config.experts_per_token is None:
        raise InvalidInput(f"{where}: field num_experts_per_tok is missing; a model with experts needs it")
    corrected = family.router_bias if config.topk_method is None else config.topk_method == "noaux_tc"
    return {
        "num_experts": config.num_experts,
        "experts_per_token": config.experts_per_token,
        "intermediate_size": config.expert_size or config.intermediate_size,
        "shared_experts": config.shared_experts,
        "first_dense_layers": dense,
        "router_bias": corrected,
    }


def _mla(config: _Config) -> dict[str, Any] | None:
    if config.kv_lora_rank is None:
        return None
    names = ("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    return {name: value for name in names if (value := getattr(config, name)) is not None}


def _weight_bits(config: _Config, where: str) -> float:
    """Nominal bits a weight: the quantization's, else 8 for a float8 checkpoint, else 16."""
    stored = 8.0 if config.dtype.removeprefix("torch.").startswith(("float8", "int8")) else 16.0
    quantization = config.quantization
    if quantization is None:
        return stored
    if quantization.bits is not None:
        return quantization.bits
    if quantization.load_in_4bit or quantization.load_in_8bit:
        return 4.0 if quantization.load_in_4bit else 8.0
    method = (quantization.method or "").lower()
    widths = {group.weights.num_bits for group in (quantization.config_groups or {}).values() if group.weights}
    if not widths and method in {"", "compressed-tensors"}:
        return stored
    if len(widths) == 1:
        return widths.pop()
    if widths or method not in _METHOD_BITS:
        found = f"weights of {sorted(widths)} bits" if widths else f"quantization {quantization.method!r}"
        raise InvalidInput(f"{where}: {found} is not covered; write the model as YAML with its weight_bits")
    return _METHOD_BITS[method]
