"""Readers of single facts that one family, or a few, tell in keys of their own."""

from __future__ import annotations

from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.keys import Keys


def qk_norms(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Norms of queries and keys only where ``use_qk_norm`` says so; Cohere's are of all heads together."""
    usual = "heads" if fields.get("norms_per_layer") == 1 else "head"
    named = {"per_layer": "heads", "per_head": "head"}.get(keys.text("qk_norm_type"), fields.get("qk_norm") or usual)
    fields["qk_norm"] = named if keys.flag("use_qk_norm") else None


def element_gate(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every value of the attention output has a gate."""
    fields["output_gate"] = fields["head_dim"]


def gated_shared_expert(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """The shared expert's output is multiplied by a gate, one product a layer."""
    if fields.get("moe"):
        fields["moe"]["vectors"] = fields["hidden_size"]


def dense_beside_experts(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every token also runs a dense part beside the routed one (Gemma 4), as it would a shared expert."""
    if fields.get("moe"):
        fields["moe"] |= {
            "shared_intermediate_size": fields["intermediate_size"],
            "vectors": 3 * fields["hidden_size"],
        }


def other_width(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Dense layers have a width of their own."""
    fields["intermediate_size"] = keys.size("dense_intermediate_size", default=fields["intermediate_size"])


def llama4_widths(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """``intermediate_size`` is an expert's; one of that width is shared, and dense layers have ``_mlp``."""
    if fields.get("moe"):
        fields["moe"]["shared_experts"] = 1
    fields["intermediate_size"] = keys.size("intermediate_size_mlp", default=fields["intermediate_size"])


def shared_width_of_dense(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Without experts the shared part is the only one (Granite 4 micro)."""
    if not fields.get("moe"):
        fields["intermediate_size"] = keys.size("shared_intermediate_size", default=fields["intermediate_size"])


def lfm2_width(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """The width is cut to two thirds and rounded up, as in the family's MLP."""
    if keys.flag("block_auto_adjust_ff_dim", default=True):
        width = int(2 * keys.size("block_ff_dim", "intermediate_size") / 3)
        multiple = keys.size("block_multiple_of", default=256)
        factor = keys.find("block_ffn_dim_multiplier")
        width = int(factor * width) if isinstance(factor, int | float) else width
        fields["intermediate_size"] = -(-width // multiple) * multiple


def use_bias(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    fields["linear_bias"] = keys.flag("use_bias", default=True)


def use_qkv_bias(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    fields["qkv_bias"] = keys.flag("use_qkv_bias")


def falcon(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """One key head for all queries, or ``num_kv_heads``; attention and MLP side by side, after one norm or two."""
    new = keys.flag("new_decoder_architecture")
    if not new:
        fields["num_kv_heads"] = 1 if keys.flag("multi_query", default=True) else fields["num_heads"]
    side_by_side = keys.flag("parallel_attn", default=True)
    norms = keys.count("num_ln_in_parallel_attn", default=2 if new else 1) if side_by_side else 2
    fields |= {
        "gated_mlp": False,
        "norm_bias": True,
        "norms_per_layer": norms,
        "linear_bias": keys.flag("bias"),
        "tied_embeddings": keys.flag("tie_word_embeddings", default=True),
        "intermediate_size": keys.size("ffn_hidden_size", default=4 * fields["hidden_size"]),
    }


def layer_inputs(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Every layer looks a vector of its own up for a token and mixes it in (Gemma 3n; the small Gemma 4)."""
    width = keys.count("hidden_size_per_layer_input")
    if not width:
        return
    hidden, wide = fields["hidden_size"], width * len(layers)
    fields["layer_matrices"] = [*fields.get("layer_matrices", ()), (width, hidden), (hidden, width)]
    rows = keys.size("vocab_size_per_layer_input", default=fields["vocab_size"])
    fields["tables"] = fields.get("tables", 0) + rows * wide + hidden * wide
    for layer in layers:
        if keys.flag("use_double_wide_mlp") and layer.get("shared_cache"):
            layer["intermediate_size"] = 2 * fields["intermediate_size"]


def alternating_updates(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Several residual streams and a low-rank layer beside attention (Gemma 3n: AltUp, Laurel)."""
    hidden, streams = fields["hidden_size"], keys.size("altup_num_inputs", default=4)
    rank = keys.size("laurel_rank", default=64)
    fields["layer_matrices"] = [(rank, hidden), (hidden, rank), (streams, hidden)]
    fields["tables"] = 2 * (streams - 1) * hidden * hidden
