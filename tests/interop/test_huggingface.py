"""config.json to ModelSpec: the presets again from the facts of their files, aliases, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.errors import InvalidInput
from specsim.interop.huggingface import model_from_config
from specsim.specs.catalog import load_model
from specsim.specs.model import ModelSpec


def llama(layers: int, hidden: int, heads: int, intermediate: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "torch_dtype": "float16",
        **more,
    }


def opt(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "word_embed_proj_dim": hidden,
        "do_layer_norm_before": True,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "torch_dtype": "float16",
    }


def qwen3(layers: int, hidden: int, heads: int, intermediate: int, **more: Any) -> dict[str, Any]:
    return {
        **llama(layers, hidden, heads, intermediate, 151936, torch_dtype="bfloat16"),
        "model_type": "qwen3",
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_bias": False,
        "max_position_embeddings": 40960,
        "max_window_layers": layers,
        "sliding_window": None,
        "use_sliding_window": False,
        **more,
    }


LLAMA_3 = {"num_key_value_heads": 8, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}
MIXTRAL = {
    **llama(32, 4096, 32, 14336, 32000),
    "model_type": "mixtral",
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "sliding_window": None,
}
DEEPSEEK_V3 = {
    **llama(61, 7168, 128, 18432, 129280, num_key_value_heads=128, max_position_embeddings=163840),
    "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "num_nextn_predict_layers": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}
CONFIGS = {
    "llama-3.1-8b": llama(32, 4096, 32, 14336, 128256, **LLAMA_3),
    "llama-3.2-1b": llama(16, 2048, 32, 8192, 128256, **LLAMA_3, head_dim=64, tie_word_embeddings=True),
    "llama-3.3-70b": llama(80, 8192, 64, 28672, 128256, **LLAMA_3),
    "llama-7b": llama(32, 4096, 32, 11008, 32000),
    "vicuna-7b": llama(32, 4096, 32, 11008, 32000),
    "vicuna-13b": llama(40, 5120, 40, 13824, 32000),
    "vicuna-33b": llama(60, 6656, 52, 17920, 32000),
    "vicuna-68m": llama(2, 768, 12, 3072, 32000, torch_dtype="float32"),
    "qwen3-8b": qwen3(36, 4096, 32, 12288),
    "qwen3-0.6b": qwen3(28, 1024, 16, 3072, tie_word_embeddings=True),
    "opt-125m": opt(12, 768, 12),
    "opt-1.3b": opt(24, 2048, 32),
    "opt-6.7b": opt(32, 4096, 32),
    "mixtral-8x7b": MIXTRAL,
    "deepseek-v3": DEEPSEEK_V3,
}
TINY = llama(2, 64, 4, 128, 100)
EXPERTS = {**TINY, "model_type": "mixtral"}


def shape(model: ModelSpec) -> dict[str, Any]:
    return model.model_dump(exclude={"name", "source"})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_gives_the_preset(name: str) -> None:
    """But for layers that predict further tokens, which older presets leave out."""
    read, preset = shape(model_from_config(CONFIGS[name])), shape(load_model(name))
    assert read | {"mtp_layers": preset["mtp_layers"]} == preset


@pytest.mark.parametrize(
    "alias", ["num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num", "num_attention_groups"]
)
def test_kv_heads_have_many_names(alias: str) -> None:
    assert model_from_config({**TINY, alias: 2}).num_kv_heads == 2
    assert model_from_config({**TINY, alias: None}).num_kv_heads == 4


@pytest.mark.parametrize(
    ("more", "head_dim"),
    [({}, 16), ({"head_dim": None}, 16), ({"head_dim": 0, "hidden_size_per_head": 8}, 8), ({"head_dim": 32}, 32)],
)
def test_head_dim_may_be_absent_null_or_zero(more: dict[str, Any], head_dim: int) -> None:
    assert model_from_config({**TINY, **more}).head_dim == head_dim


@pytest.mark.parametrize("alias", ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"])
def test_experts_have_many_names(alias: str) -> None:
    moe = model_from_config({**EXPERTS, alias: 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}).moe
    assert moe is not None
    assert (moe.num_experts, moe.experts_per_token, moe.intermediate_size) == (6, 2, 32)


@pytest.mark.parametrize(
    ("more", "bits"),
    [
        ({"torch_dtype": "bfloat16"}, 16),
        ({"dtype": "float32", "torch_dtype": None}, 16),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, 4),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, 4),
        ({"quantization_config": {"quant_method": "fp8"}}, 8),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, 4),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}}, 8),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, 4),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                }
            },
            8,
        ),
        ({"compression_config": {"config_groups": {"g": {"weights": {"num_bits": 4}}, "kv": {"weights": None}}}}, 4),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": None}}, 16),
    ],
)
def test_weight_bits_come_from_the_quantization(more: dict[str, Any], bits: float) -> None:
    assert model_from_config({**TINY, **more}).weight_bits == bits


@pytest.mark.parametrize(
    ("more", "window"),
    [
        ({"sliding_window": 1024}, 1024),
        ({"sliding_window": None}, None),
        ({"sliding_window": 1024, "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "sliding_window": 1024}, None),
        ({"sliding_window": 1024, "use_sliding_window": True, "max_window_layers": 2}, None),
        ({"sliding_window": 1024, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 1024, "layer_types": ["sliding_attention"] * 2}, 1024),
    ],
)
def test_a_window_counts_only_where_it_is_used(more: dict[str, Any], window: int | None) -> None:
    assert model_from_config({**TINY, **more}).sliding_window == window


def test_biases_are_counted() -> None:
    bare = model_from_config(TINY).parameter_count()
    both = model_from_config({**TINY, "attention_bias": True, "mlp_bias": True}).parameter_count()
    assert both - bare == 2 * (3 * 64 + 64 + 2 * 128 + 64)  # qkv, output, gate and up, down in each of two layers
    assert model_from_config({**TINY, "model_type": "qwen2"}).parameter_count() - bare == 2 * 3 * 64


@pytest.mark.parametrize("nest", [lambda c: {"text_config": c}, lambda c: {"thinker_config": {"text_config": c}}])
def test_the_language_model_of_a_multimodal_file_is_found(nest: Any) -> None:
    quantization = {"quant_method": "fp8"}
    outer = {"model_type": "many", "vision_config": {"hidden_size": 1}, "quantization_config": quantization}
    nested = model_from_config({**outer, **nest(TINY)})
    assert shape(nested) == shape(model_from_config({**TINY, "quantization_config": quantization}))


def test_a_file_and_its_folder_give_the_same_model(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model-7B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    model = model_from_config(folder)
    assert model == model_from_config(folder / "config.json") == model_from_config(str(folder))
    assert model.name == "My-Model-7B"
    assert model_from_config(folder, name="mine").name == "mine"
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8", "exclude_modules": []}}')
    assert model_from_config(folder).weight_bits == 8


def test_the_name_comes_from_the_file() -> None:
    assert model_from_config({**TINY, "_name_or_path": "org/Tiny-1"}).name == "Tiny-1"
    assert model_from_config(TINY).name == "llama"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model_type": "rwkv", "num_hidden_layers": "many"}, "'rwkv' is not covered; [0-9]+ are; .*YAML file"),
        ({"model_type": "qwen4"}, "'qwen4' is not covered; [0-9]+ are, by name the nearest .*qwen3.*; .*YAML file"),
        ({"model_type": "longcat_flash"}, r"'longcat_flash' is not covered \(its layers have two"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "architecture 't5' is not covered"),
        ({"model_type": None}, "field model_type is missing"),
        ({"hidden_size": None}, "field hidden_size is missing"),
        ({"intermediate_size": None}, "field intermediate_size is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; it should be greater than 0"),
        ({"num_attention_heads": 5}, "hidden_size 64 is not a multiple of num_attention_heads 5; state head_dim"),
        ({"num_key_value_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
        ({"model_type": "mixtral", "num_experts": [2]}, r"num_experts is \[2\]; it should be a whole number"),
        ({"model_type": "mixtral", "num_experts": 4}, "field num_experts_per_tok is missing"),
        ({"num_experts": 4}, "num_experts is 4; model_type llama has none"),
        ({"model_type": "deepseek_v2", "kv_lora_rank": 8}, "field qk_rope_head_dim is missing"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "'linear_attention' are not covered in llama"),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, r"a draft head \(LlamaForCausalLMEagle3\), not a whole model"),
        ({"speculators_model_type": "eagle3"}, r"a draft head \(eagle3\)"),
        ({"quantization_config": {"quant_method": "magic"}}, "quantization 'magic' is not covered"),
        ({"mlp_bias": True}, "mlp_bias without attention_bias"),
        ({"model_type": "opt", "word_embed_proj_dim": 32}, "opt-350m"),
    ],
)
def test_what_is_not_covered_gets_one_line(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        model_from_config({**TINY, **more})
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("config.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"peft_type": "LORA", "base_model_name_or_path": "m"},
            "is a LoRA adapter's configuration; give the config.json",
        ),
        ({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}, "is a tokenizer's configuration; give the config"),
        ({"metadata": {}, "weight_map": {}}, "is a checkpoint's index; give the config.json beside it"),
        ({"dim": 4096, "n_layers": 32, "n_kv_heads": 8}, "is the params.json of Mistral's or Meta's own format; give"),
        ({"temperature": 0.6, "eos_token_id": 2}, "is a generation configuration; give the config.json beside it"),
        ({}, "field model_type is missing; give the config.json of a model"),
    ],
)
def test_another_file_of_a_checkpoint_is_known_as_such(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        model_from_config(content)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*config\.json"):
        model_from_config(tmp_path)
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(InvalidInput, match=r"config\.json is not JSON: Expecting"):
        model_from_config(file)
    file.write_text("[]")
    with pytest.raises(InvalidInput, match=r"holds a list, no JSON object; give the path of a model's config\.json"):
        model_from_config(file)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        # google/gemma-3-4b-it, whose text part has 3,209 + 675 million (arXiv 2503.19786, table 1)
        (
            {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
             "sliding_window": 1024},
            3.88e9,
        ),
        # google/gemma-3-27b-it as it stands, without a vocabulary: 25,600 + 1,416 million
        (
            {"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62,
             "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "sliding_window": 1024},
            27.01e9,
        ),
        # llava-hf/llava-1.5-7b-hf: Vicuna-7B with 64 more tokens
        ({"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064}, 6.738e9 + 2 * 64 * 4096),
    ],
)  # fmt: skip
def test_a_text_part_may_leave_out_what_its_class_has(text: dict[str, Any], parameters: float) -> None:
    model = model_from_config({"model_type": "many", "text_config": text, "vision_config": {}})
    assert model.parameter_count() == pytest.approx(parameters, rel=0.001)
    with pytest.raises(InvalidInput, match=r"field (num_attention_heads|vocab_size|hidden_size|num_\w+) is missing"):
        model_from_config(text)


def test_layers_of_drafting_beyond_the_models_own_are_left_out() -> None:
    """Step 3.5's lists go on into its prediction layers, and name expert layers as text."""
    listed = ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    model = model_from_config(
        {
            **TINY,
            "model_type": "step3p5",
            "num_hidden_layers": 4,
            "num_nextn_predict_layers": 1,
            "layer_types": listed,
            "sliding_window": 8,
            "num_attention_groups": 2,
            "moe_num_experts": 6,
            "moe_top_k": 2,
            "moe_intermediate_size": 32,
            "moe_layers_enum": "2,3",
            "share_expert_dim": 32,
            "attention_other_setting": {"num_attention_heads": 6, "num_attention_groups": 2},
        }
    )
    assert model.mtp_layers == 1
    assert [getattr(layer.mixers[0], "window", None) for layer in model.layers()] == [None, 8, 8, None]
    assert [getattr(layer.mixers[0], "num_heads", None) for layer in model.layers()] == [4, 6, 6, 4]
    assert [type(layer.feed_forward[0]).__name__ for layer in model.layers()] == ["Dense"] * 2 + ["Experts"] * 2
