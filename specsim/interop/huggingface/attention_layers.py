"""Which layers of a config.json attend to what: windows, chunks, latent and compressed vectors, indexers.

Each reader changes the list of layer kinds (fields of ``LayerKind`` by layer) and the model's own fields.
"""

from __future__ import annotations

from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.keys import Keys

Fields = dict[str, Any]
LayerFields = list[Fields]

INDEX_KEY_BYTES = 132  # of 128 FP8 values with a float32 scale (vLLM's DeepseekV32IndexerCache)
_WINDOW_NAMES = {"sliding_attention", "sliding", "swa", "window", "local_attention", "L", "S"}
_CHUNK_NAMES = {"chunked_attention"}
_FULL_NAMES = {"full_attention", "full", "global_attention", "global", "attention", "G"}


def windows(keys: Keys, fields: Fields, layers: LayerFields, pattern: int = 0) -> None:
    """Layers with a sliding window, by ``layer_types``, or every layer but each ``pattern``-th (0: all have it).

    Qwen has a window only where ``use_sliding_window`` says so, and only from ``max_window_layers`` on.
    """
    window = keys.optional("sliding_window", "sliding_window_size", "sliding_window_length")
    chunk = keys.optional("attention_chunk_size")
    kinds = keys.per_layer(len(layers), "layer_types")
    pattern = _pattern(keys, len(layers), kinds, pattern)
    if not kinds and (window is None or not keys.flag("use_sliding_window", default=True)):
        return
    for index, layer in enumerate(layers):
        sliding = index >= keys.count("max_window_layers") if not pattern else (index + 1) % pattern != 0
        kind = str(kinds[index]) if kinds else ("sliding_attention" if sliding else "full_attention")
        if kind in _WINDOW_NAMES and window is not None:
            layer["window"] = window
        elif kind in _CHUNK_NAMES and chunk is not None:
            layer["chunk"] = chunk
        elif kind not in _FULL_NAMES:
            raise InvalidInput(f"{keys.where}: layers of {kind[:40]!r} are not covered in {keys.text('model_type')}")


def _pattern(keys: Keys, count: int, kinds: list[Any], pattern: int) -> int:
    """``sliding_window_pattern`` is a number, or letters for the first layers (EXAONE 4: LLLG)."""
    given = keys.find("sliding_window_pattern", "_sliding_window_pattern")
    if isinstance(given, str) and given and not kinds:
        kinds.extend(given[index % len(given)] for index in range(count))
        return 0
    return keys.count("sliding_window_pattern", "_sliding_window_pattern", default=pattern) if given else pattern


def qwen_windows(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    if keys.has("layer_types") or keys.flag("use_sliding_window"):
        windows(keys, fields, layers)


def alternating(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every second layer attends to everything (Gemma 2)."""
    windows(keys, fields, layers, pattern=2)


def every_fourth(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every fourth layer attends to everything (Command-R7B, EXAONE 4, OLMo 3)."""
    windows(keys, fields, layers, pattern=4)


def every_sixth(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every sixth layer attends to everything (Gemma 3)."""
    windows(keys, fields, layers, pattern=6)


def chunks(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Layers without rotary embedding attend to everything, the others to their chunk (Llama 4: every fourth)."""
    if keys.has("layer_types"):
        windows(keys, fields, layers)
        return
    chunk = keys.size("attention_chunk_size")
    rotary = keys.per_layer(len(layers), "no_rope_layers")
    interval = keys.size("no_rope_layer_interval", default=4)
    for index, layer in enumerate(layers):
        if rotary[index] if rotary else (index + 1) % interval != 0:
            layer["chunk"] = chunk


def shared_caches(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """The last layers read the keys and values of earlier ones (Gemma 3n)."""
    for layer in layers[len(layers) - keys.count("num_kv_shared_layers") :]:
        layer["shared_cache"] = True


def cross_layer_caches(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Each first of ``cla_share_factor`` layers keeps keys and values for those after it (Hunyuan-Large)."""
    factor = keys.size("cla_share_factor", default=1) if keys.flag("use_cla") else 1
    for index, layer in enumerate(layers):
        if index % factor:
            layer["shared_cache"] = True


def global_heads(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Layers that attend to everything have heads of another width, keys and values in one (Gemma 4)."""
    for layer in layers:
        if "window" in layer:
            continue
        if width := keys.optional("global_head_dim"):
            layer["head_dim"] = width
        if keys.flag("attention_k_eq_v"):
            layer["one_projection"] = True
            if heads := keys.optional("num_global_key_value_heads"):
                layer["num_kv_heads"] = heads


def window_heads(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Layers with a window have heads of their own, and sinks (MiMo-V2; 1 in the pattern is a window)."""
    window = keys.size("sliding_window", "sliding_window_size")
    fields["sinks"] = keys.flag("add_full_attention_sink_bias")
    for layer, sliding in zip(layers, keys.per_layer(len(layers), "hybrid_layer_pattern"), strict=False):
        if sliding == 1:
            layer |= {
                "window": window,
                "sinks": keys.flag("add_swa_attention_sink_bias"),
                "num_heads": keys.optional("swa_num_attention_heads"),
                "head_dim": keys.optional("swa_head_dim"),
                "num_kv_heads": keys.optional("swa_num_key_value_heads"),
                "value_dim": keys.optional("swa_v_head_dim"),
            }


def other_heads(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Layers with a window have another number of heads (Step 3.5), or each layer has its own (OpenELM-like lists)."""
    windows(keys, fields, layers)
    other = keys.section("attention_other_setting")
    for layer in layers:
        if "window" in layer and other.has("num_attention_heads"):
            layer["num_heads"] = other.size("num_attention_heads")
            layer["num_kv_heads"] = other.optional("num_attention_groups")
    if keys.flag("use_head_wise_attn_gate"):
        fields["output_gate"] = 1


def latent(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Multi-head latent attention where the file has its ranks."""
    if not keys.has("kv_lora_rank"):
        return
    fields["mla"] = {
        "kv_lora_rank": keys.size("kv_lora_rank"),
        "q_lora_rank": keys.optional("q_lora_rank"),
        "qk_rope_head_dim": keys.size("qk_rope_head_dim"),
        "qk_nope_head_dim": keys.size("qk_nope_head_dim"),
        "v_head_dim": keys.size("v_head_dim"),
    }
    if keys.flag("mla_use_output_gate"):
        fields["output_gate"] = keys.size("v_head_dim")


def lightning_index(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """An indexer in every layer (DeepSeek-V3.2), or in those that are ``full``, whose choice others take (GLM-5.2)."""
    index = {
        "num_heads": keys.size("index_n_heads"),
        "head_dim": keys.size("index_head_dim"),
        "top_k": keys.size("index_topk"),
        "cache_bytes": INDEX_KEY_BYTES * keys.size("index_head_dim") / 128,
    }
    fields["index"] = index
    for layer, kind in zip(layers, keys.per_layer(len(layers), "indexer_types"), strict=False):
        if kind == "shared":
            layer["index"] = index | {"own": False}


def block_index(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Blocks of keys chosen by small heads, in the layers that ``sparse_attention_freq`` marks (MiniMax-M3)."""
    sparse = keys.section("sparse_attention_config")
    if not sparse.flag("use_sparse_attention"):
        return
    width = sparse.size("sparse_index_dim")
    index = {
        "num_heads": sparse.size("sparse_num_index_heads"),
        "head_dim": width,
        "weighted": False,
        "top_k": sparse.size("sparse_topk_blocks") * sparse.size("sparse_block_size"),
        "cache_bytes": 2.0 * width,
    }
    marks = sparse.per_layer(len(layers), "sparse_attention_freq") or [1] * len(layers)
    for layer, mark in zip(layers, marks, strict=True):
        if mark:
            layer["index"] = index


def compressed(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """A cached vector for each 4 tokens, chosen by an indexer, or for each 128; the last tokens beside (DeepSeek-V4).

    Four residual streams are mixed before and after every sublayer (``hc_mult``; vLLM's ``DeepseekV4DecoderLayer``).
    """
    ratios = keys.per_layer(len(layers), "compress_ratios")
    if not ratios:
        raise InvalidInput(f"{keys.where}: field compress_ratios is missing; add it")
    fields["compression"] = {
        "q_lora_rank": keys.size("q_lora_rank"),
        "o_lora_rank": keys.size("o_lora_rank"),
        "o_groups": keys.size("o_groups"),
        "window": keys.size("sliding_window"),
    }
    width = keys.size("index_head_dim")
    index = {
        "num_heads": keys.size("index_n_heads"),
        "head_dim": width,
        "top_k": keys.size("index_topk"),
        "cache_bytes": INDEX_KEY_BYTES * width / 128 / 4,
    }
    for layer, ratio in zip(layers, ratios, strict=True):
        if ratio:
            layer["compress_ratio"] = ratio
        if ratio == 4:
            layer["index"] = index
    if streams := keys.count("hc_mult"):
        mixed = streams * fields["hidden_size"]
        fields["layer_matrices"] = [((2 + streams) * streams, mixed)] * 2
