"""A config.json as a ModelSpec: the family's facts, then the file's, then its layers, then the bits of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.interop.huggingface import attention_layers, expert_layers, family_facts, state_layers
from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.config_file import read_config, refuse_other_files, text_part
from specsim.interop.huggingface.draft_head import refuse_draft_head
from specsim.interop.huggingface.keys import Keys
from specsim.interop.huggingface.quantization import store_weights
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import build, read_mapping

LayerReader = Callable[[Keys, Fields, LayerFields], None]
_MODULES = (attention_layers, expert_layers, state_layers, family_facts)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_OTHER_PARTS = ("vision_config", "audio_config", "vit_config", "talker_config", "encoder_config")


def model_from_config(config: Mapping[str, Any] | Path | str, name: str | None = None) -> ModelSpec:
    """The ModelSpec of a config.json: a path to it, to its folder, or its parsed content.

    ``name`` defaults to the folder's name or the file's ``_name_or_path``. A 32-bit checkpoint counts as 16 bits,
    because engines load it so (vLLM's ``--dtype auto``). Layers for multi-token prediction are drafters:
    ``mtp_layers`` tells how many, and they are not counted. ``source`` names what the file holds and was not read.
    Raises InvalidInput, one line, for a file that is missing or malformed or an architecture that is not covered.
    """
    raw, where, named = read_config(config)
    content = text_part(raw)
    refuse_draft_head(raw, where)
    refuse_draft_head(content, where)
    family = _family(content, where)
    keys = Keys((family.get("class", {}) if content != raw else {}) | content, where)
    layers: LayerFields = [{} for _ in range(_num_layers(keys))]
    fields = _usual(keys, family, len(layers))
    for reader in family.get("readers", ()):
        _reader(reader)(keys, fields, layers)
    _refuse_unread_layers(keys, fields)
    unread = [part for part in _OTHER_PARTS if part in raw and content != raw]
    unread += store_weights(keys, fields, layers, family)
    model_type = keys.text("model_type")
    fields |= {
        "name": name or str(named or model_type).split("/")[-1],
        "source": f"{where}, model_type {model_type}" + (f"; not read: {', '.join(unread)}" if unread else ""),
        **_kinds(layers, fields),
    }
    return build(ModelSpec, {key: value for key, value in fields.items() if value is not None}, where)


def covered_families() -> tuple[str, ...]:
    """The values of ``model_type`` that are read."""
    return tuple(sorted(name for name, entry in _families().items() if "refused" not in entry))


@cache
def _families() -> dict[str, dict[str, Any]]:
    return read_mapping(Path(__file__).parent / "families.yaml")


def _family(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the file's model_type fixes.

    Raises InvalidInput for one that is not covered, before any field is looked at.
    """
    refuse_other_files(content, where)
    model_type = str(content["model_type"])
    entry = _families().get(model_type)
    if entry is None or "refused" in entry or content.get("is_encoder_decoder"):
        reason = f" ({entry['refused']})" if entry and "refused" in entry else ""
        near = get_close_matches(model_type, covered_families(), n=4, cutoff=0.6)
        nearest = f", by name the nearest {', '.join(near)}" if near else ""
        raise InvalidInput(
            f"{where}: architecture {shown(model_type)} is not covered{reason}; "
            f"{len(covered_families())} are{nearest}; write the model's shape as a YAML file instead"
        )
    named = content.get("architectures")
    for name in named if isinstance(named, list) else ():
        entry = _families()[entry["architectures"].get(name, model_type)] if "architectures" in entry else entry
    if "as" in entry:
        base = _families()[entry["as"]]
        return base | entry | {"fields": base.get("fields", {}) | entry.get("fields", {})}
    return entry


def _reader(name: str) -> LayerReader:
    found: LayerReader = next(getattr(module, name) for module in _MODULES if hasattr(module, name))
    return found


def _refuse_unread_layers(keys: Keys, fields: Fields) -> None:
    """Raises InvalidInput for experts or latent vectors in a family that has none: they would be left out."""
    for name, part in (
        ("num_experts", "moe"),
        ("num_local_experts", "moe"),
        ("n_routed_experts", "moe"),
        ("kv_lora_rank", "mla"),
    ):
        if keys.find(name) not in (None, 0, 1) and not fields.get(part) and not fields.get("compression"):
            raise keys.wrong(name, keys.find(name), f"model_type {keys.text('model_type')} has none; correct either")


def _num_layers(keys: Keys) -> int:
    listed = keys.find("layers_block_type", "hybrid_override_pattern", "block_configs")
    default = len(listed) if isinstance(listed, list | str) else None
    count = keys.size("num_hidden_layers", "n_layer", "n_layers", "num_layers", default=default)
    if count > 10_000:
        raise keys.wrong("num_hidden_layers", count, "no model has so many")
    return count


def _usual(keys: Keys, family: Mapping[str, Any], num_layers: int) -> Fields:
    """The fields of the usual layer."""
    gpt = bool(family.get("gpt"))
    hidden = keys.size("hidden_size", "n_embd", "d_model", "model_dim")
    stateful = bool({"mamba", "mamba2"} & set(family.get("readers", ())))
    heads = keys.size("num_attention_heads", "n_head", "n_heads", default=max(1, hidden // 64) if stateful else None)
    positions = keys.size(
        "max_position_embeddings",
        "n_positions",
        "seq_length",
        "max_sequence_length",
        "model_max_length",
        default=4096 if stateful or not gpt else None,
    )
    given = dict(family.get("fields", {}))
    if "moe" in given:
        given["moe"] = dict(given["moe"])
    return given | {
        "num_layers": num_layers,
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": _kv_heads(keys, family, heads),
        "head_dim": _head_dim(keys, hidden, heads),
        "value_dim": None if keys.has("kv_lora_rank") else keys.optional("v_head_dim"),
        "intermediate_size": _intermediate(keys, hidden, quadruple=gpt or "quadruple" in family),
        "vocab_size": keys.size("padded_vocab_size" if keys.has("padded_vocab_size") else "vocab_size"),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=given.get("tied_embeddings", False)),
        "max_position": positions,
        "learned_positions": positions + family.get("extra_positions", 0) if gpt else 0,
        "mtp_layers": keys.count("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers"),
        **_biases(keys, family, given),
    }


def _kv_heads(keys: Keys, family: Mapping[str, Any], heads: int) -> int:
    multi_query = keys.find("multi_query", "multi_query_attention")
    if multi_query is False:
        return heads
    usual = 1 if multi_query or family.get("multi_query") else heads
    return keys.size(
        "num_key_value_heads",
        "n_head_kv",
        "num_kv_heads",
        "multi_query_group_num",
        "num_attention_groups",
        default=usual,
    )


def _head_dim(keys: Keys, hidden: int, heads: int) -> int:
    """Width of a query head; with latent attention, of both its parts."""
    if keys.has("qk_nope_head_dim") and keys.has("qk_rope_head_dim"):
        return keys.count("qk_nope_head_dim") + keys.count("qk_rope_head_dim")
    for name in ("head_dim", "attention_head_dim", "hidden_size_per_head", "kv_channels"):
        if width := keys.count(name):
            return width
    width, rest = divmod(hidden, heads)
    if rest:
        raise InvalidInput(
            f"{keys.where}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}; state head_dim"
        )
    return width


def _intermediate(keys: Keys, hidden: int, *, quadruple: bool) -> int:
    """A list has one for each layer; the usual layer is the most frequent (Gemma 3n)."""
    names = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    found = keys.find(*names)
    if isinstance(found, list) and found and all(isinstance(one, int) for one in found):
        return int(max(set(found), key=found.count))
    if keys.has(*names):
        return keys.size(*names)
    if quadruple or keys.has("block_configs", "state_size"):
        return 4 * hidden
    return keys.size("intermediate_size", "moe_intermediate_size")


def _biases(keys: Keys, family: Mapping[str, Any], given: Fields) -> Fields:
    """On the four projections of attention, or on three of them, or on every linear layer of a block."""
    if keys.count("word_embed_proj_dim", default=keys.size("hidden_size", "n_embd", "d_model")) != keys.size(
        "hidden_size", "n_embd", "d_model"
    ) or not keys.flag("do_layer_norm_before", default=True):
        raise InvalidInput(f"{keys.where}: OPT with projected embeddings or post-norm (opt-350m) is not covered")
    attention, mlp = keys.flag("attention_bias", "add_qkv_bias", "qkv_bias"), keys.flag("mlp_bias")
    if mlp and not attention:
        raise InvalidInput(f"{keys.where}: mlp_bias without attention_bias is not covered")
    if given.get("linear_bias"):
        return {"linear_bias": keys.flag("enable_bias", default=True)}
    return {
        "linear_bias": attention and mlp,
        "qkv_bias": (attention and not mlp) or given.get("qkv_bias", False),
        "output_bias": (attention and not mlp and family.get("bias", "all") == "all")
        or keys.flag("attention_out_bias")
        or given.get("output_bias", False),
    }


def _kinds(layers: LayerFields, fields: Fields) -> Fields:
    """``layer_kinds`` and the shortest ``layer_pattern`` that gives these layers."""
    plain = [{key: value for key, value in layer.items() if value is not None} for layer in layers]
    if all(layer == {"window": layer.get("window")} == plain[0] for layer in plain):
        return {"sliding_window": plain[0]["window"]}
    names: dict[str, str] = {}
    letters = ""
    for layer in plain:
        key = repr(sorted(layer.items()))
        names.setdefault(key, _LETTERS[len(names) % len(_LETTERS)])
        letters += names[key]
    kinds = {names[repr(sorted(layer.items()))]: layer for layer in plain if layer}
    if not kinds:
        return {}
    period = next(p for p in range(1, len(letters) + 1) if letters == (letters[:p] * len(letters))[: len(letters)])
    return {"layer_kinds": kinds, "layer_pattern": letters[:period]}
