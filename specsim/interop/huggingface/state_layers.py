"""Which layers of a config.json keep a state: gated delta nets, Kimi delta attention, Mamba, lightning attention.

Sizes follow transformers' and vLLM's modules; what a layer's matrices are called there stands in each reader.
"""

from __future__ import annotations

from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.attention_layers import Fields, LayerFields
from specsim.interop.huggingface.keys import Keys

FLOAT32 = ("float32", "torch.float32")


def _state_bits(keys: Keys) -> float:
    """vLLM keeps states in the model's own format unless the file says otherwise."""
    return 32 if keys.text("mamba_ssm_cache_dtype", "mamba_ssm_dtype") in FLOAT32 else 16


def gated_delta(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Gated delta nets between full attention (Qwen3-Next: in_proj_qkvz, in_proj_ba, conv1d, out_proj)."""
    heads, values = keys.size("linear_num_key_heads"), keys.size("linear_num_value_heads")
    key_width = heads * keys.size("linear_key_head_dim")
    value_width = values * keys.size("linear_value_head_dim")
    state = {
        "input_width": 2 * key_width + 2 * value_width + 2 * values,
        "output_width": value_width,
        "conv_channels": 2 * key_width + value_width,
        "conv_kernel": keys.size("linear_conv_kernel_dim"),
        "heads": values,
        "rows": keys.size("linear_key_head_dim"),
        "columns": keys.size("linear_value_head_dim"),
        "operations": 7,
        "vectors": 2 * values + keys.size("linear_value_head_dim"),
        "state_bits": _state_bits(keys),
    }
    kinds = keys.per_layer(len(layers), "layer_types")
    interval = keys.size("full_attention_interval", default=4)
    for index, layer in enumerate(layers):
        linear = kinds[index] == "linear_attention" if kinds else (index + 1) % interval != 0
        if linear:
            layer |= {"attention": False, "state": state}
    if keys.flag("attn_output_gate", default=True):
        fields["output_gate"] = fields["head_dim"]


def kimi_delta(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Delta nets with a gate for each channel between latent attention (Kimi Linear); layers count from 1."""
    linear = keys.section("linear_attn_config")
    heads, width = linear.size("num_heads"), linear.size("head_dim")
    inner = heads * width
    narrow = [(inner, width)] if linear.flag("use_full_rank_gate") else [(inner, width), (inner, width)]
    gate = inner if linear.flag("use_full_rank_gate") else width
    state = {
        "input_width": 3 * inner + width + gate + heads,
        "inner": narrow,
        "output_width": inner,
        "conv_channels": 3 * inner,
        "conv_kernel": linear.size("short_conv_kernel_size"),
        "heads": heads,
        "rows": width,
        "columns": width,
        "operations": 7,
        "vectors": heads + inner + width,
        "state_bits": 32,
    }
    chosen = set(linear.items("kda_layers"))
    for index, layer in enumerate(layers):
        if index + 1 in chosen:
            layer |= {"attention": False, "state": state}


def mamba2_state(keys: Keys, hidden: int) -> Fields:
    """A Mamba-2 mixer: in_proj (gate, values, B, C, dt), conv1d, out_proj (arXiv 2405.21060)."""
    heads = keys.size("mamba_num_heads", "mamba_n_heads", "num_heads")
    width = keys.find("mamba_head_dim", "mamba_d_head", "head_dim")
    groups = keys.size("n_groups", "mamba_n_groups", default=1)
    size = keys.size("ssm_state_size", "mamba_d_state", "state_size")
    inner = heads * width if isinstance(width, int) else keys.size("mamba_expand", "expand") * hidden
    channels = inner + 2 * groups * size
    return {
        "input_width": inner + channels + heads,
        "output_width": inner,
        "conv_channels": channels,
        "conv_kernel": keys.size("conv_kernel", "mamba_d_conv", default=4),
        "conv_bias": keys.flag("use_conv_bias", "mamba_conv_bias", default=True),
        "heads": heads,
        "rows": inner // heads,
        "columns": size,
        "vectors": 3 * heads + inner,
        "state_bits": _state_bits(keys),
        "span": keys.size("chunk_size", "mamba_chunk_size", default=256),
    }


def mamba1_state(keys: Keys, hidden: int, *, norms: bool = False) -> Fields:
    """A Mamba mixer: in_proj, conv1d, x_proj, dt_proj, out_proj (arXiv 2312.00752); ``norms`` of dt, B, C: Jamba."""
    inner = keys.optional("intermediate_size") if keys.has("state_size") else None
    inner = inner or keys.size("mamba_expand", "expand", default=2) * hidden
    size = keys.size("mamba_d_state", "state_size", default=16)
    rank = keys.find("mamba_dt_rank", "time_step_rank")
    rank = rank if isinstance(rank, int) else -(-hidden // 16)
    return {
        "input_width": 2 * inner,
        "inner": [(rank + 2 * size, inner), (inner, rank)],
        "output_width": inner,
        "conv_channels": inner,
        "conv_kernel": keys.size("mamba_d_conv", "conv_kernel", default=4),
        "conv_bias": keys.flag("mamba_conv_bias", "use_conv_bias", default=True),
        "heads": inner,
        "rows": size,
        "vectors": inner * (size + 2) + (rank + 2 * size if norms else 0),
        "state_bits": _state_bits(keys),
    }


def mamba(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Nothing but Mamba mixers."""
    state = mamba1_state(keys, fields["hidden_size"])
    for layer in layers:
        layer |= {"attention": False, "state": state, "mlp": "none"}


def mamba2(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Nothing but Mamba-2 mixers."""
    state = mamba2_state(keys, fields["hidden_size"])
    for layer in layers:
        layer |= {"attention": False, "state": state, "mlp": "none"}


def jamba(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """One attention layer in each ``attn_layer_period``, Mamba in the others."""
    state = mamba1_state(keys, fields["hidden_size"], norms=True)
    period, offset = keys.size("attn_layer_period"), keys.count("attn_layer_offset")
    for index, layer in enumerate(layers):
        if index % period != offset:
            layer |= {"attention": False, "state": state}


def hybrid(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Mamba-2 mixers where ``layer_types`` says so, or where ``attn_layer_indices`` does not (Granite 4, Bamba)."""
    state = mamba2_state(keys, fields["hidden_size"])
    kinds = keys.per_layer(len(layers), "layer_types", "layers_block_type")
    attending = set(keys.items("attn_layer_indices"))
    for index, layer in enumerate(layers):
        if kinds[index] == "mamba" if kinds else index not in attending:
            layer |= {"attention": False, "state": state}


def parallel(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Attention and a Mamba-2 mixer side by side in every layer (Falcon-H1)."""
    state = mamba2_state(keys, fields["hidden_size"])
    if not keys.flag("mamba_rms_norm", default=False):
        state["vectors"] = 3 * state["heads"]
    for layer in layers:
        layer["state"] = state


def nemotron(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """One sublayer a layer, by letter or by name: M mamba, * attention, - mlp, E moe."""
    names = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
    pattern = keys.text("hybrid_override_pattern") or keys.per_layer(len(layers), "layers_block_type")
    if not pattern:
        raise InvalidInput(f"{keys.where}: field hybrid_override_pattern is missing; add it")
    state = mamba2_state(keys, fields["hidden_size"])
    for layer, kind in zip(layers, pattern, strict=False):
        letter = names.get(str(kind), str(kind))
        if letter == "M":
            layer |= {"attention": False, "state": state, "mlp": "none"}
        elif letter == "*":
            layer["mlp"] = "none"
        else:
            layer |= {"attention": False, "mlp": "dense" if letter == "-" else "usual"}


def lightning(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Lightning attention in the layers marked 0 (MiniMax-Text-01: qkv_proj, output_gate, norm, out_proj)."""
    heads, width = fields["num_heads"], fields["head_dim"]
    inner = heads * width
    state = {
        "input_width": 4 * inner,
        "output_width": inner,
        "heads": heads,
        "rows": width,
        "columns": width,
        "vectors": inner,
        "state_bits": 32,
        "span": 256,
    }
    marks: list[Any] = keys.per_layer(len(layers), "attn_type_list", "layer_types")
    for layer, mark in zip(layers, marks, strict=False):
        if mark in (0, "linear_attention"):
            layer |= {"attention": False, "state": state}


def short_convolution(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """A gated short convolution instead of attention (LFM2: in_proj, conv, out_proj)."""
    hidden, kernel = fields["hidden_size"], keys.size("conv_L_cache", default=3)
    state = {
        "input_width": 3 * hidden,
        "output_width": hidden,
        "conv_channels": hidden,
        "conv_kernel": kernel,
        "heads": 0,
    }
    attending = set(keys.items("full_attn_idxs"))
    kinds = keys.per_layer(len(layers), "layer_types")
    for index, layer in enumerate(layers):
        if kinds[index] == "conv" if kinds else index not in attending:
            layer |= {"attention": False, "state": state}


def searched(keys: Keys, fields: Fields, layers: LayerFields) -> None:
    """Layers found by architecture search, each with heads and width of its own or none (Llama-Nemotron)."""
    for layer, block in zip(layers, keys.items("block_configs"), strict=False):
        one = Keys(block, keys.where, "block_configs.")
        attention, mlp = one.section("attention"), one.section("ffn")
        if attention.flag("no_op") or attention.flag("replace_with_linear"):
            layer["attention"] = False
        elif group := attention.optional("n_heads_in_group"):
            layer["num_kv_heads"] = fields["num_heads"] // group
        if mlp.flag("no_op"):
            layer["mlp"] = "none"
        elif isinstance(factor := mlp.find("ffn_mult"), int | float):
            inner = int(2 * factor * fields["hidden_size"] / 3)
            layer["intermediate_size"] = -(-inner // 256) * 256
