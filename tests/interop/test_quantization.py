"""Bits of a checkpoint's matrices: scales counted, what is left out kept wide, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.cost.memory import resident_weight_bytes
from specsim.errors import InvalidInput
from specsim.interop.huggingface import model_from_config

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
}
EXPERTS = TINY | {
    "model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16, "v_head_dim": 16,
}  # fmt: skip


def stored(block: dict[str, Any], base: dict[str, Any] = TINY) -> dict[str, set[float]]:
    """Stored bits of each matrix, over all layers."""
    model = model_from_config(base | {"quantization_config": block})
    found: dict[str, set[float]] = {}
    for linear in model.linears():
        found.setdefault(linear.name, set()).add((linear.stored or model.stored).bits)
    return found


def format_of_gate(block: dict[str, Any]) -> str | None:
    return model_from_config(TINY | {"quantization_config": block}).stored.format


def weights(inputs: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": fields, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("block", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4 + (16 + 4) / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + (16 + 4) / 128),
        ({"w_bit": 4, "q_group_size": 128, "zero_point": True}, 4 + (16 + 4) / 128),  # AWQ's own file
        ({"bits": 4, "group_size": 64}, 4 + (16 + 16) / 64),  # MLX: a scale and a bias
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, 4.25),
        ({"quant_method": "mxfp4"}, 4.25),
        ({"quant_algo": "NVFP4", "group_size": 16}, 4.5),
        ({"quant_algo": "MXFP8"}, 8.25),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 16384),
        ({"quant_method": "fp8"}, 8),
        (weights(num_bits=4, group_size=32, type="int", symmetric=True), 4.5),
        (weights(num_bits=4, group_size=16, type="float"), 4.5),
        (weights(num_bits=4, group_size=32, type="float", scale_dtype="torch.uint8"), 4.25),
        (weights(num_bits=4, group_size=128, type="int", symmetric=False), 4 + (16 + 4) / 128),
        (weights(num_bits=8, type="float", strategy="channel"), 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
    ],
)
def test_scales_and_zero_points_are_counted(block: dict[str, Any], bits: float) -> None:
    assert stored(block)["gate_up"] == {bits}


INT8 = {"num_bits": 8, "type": "int"}
FLOAT8 = {"num_bits": 8, "type": "float"}


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4-weight-g128"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "int4-weight-g32"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "int8-weight"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fp8"}, "fp8"),
        (weights(num_bits=4, type="int", group_size=128), "int4-weight-g128"),
        (weights(num_bits=4, type="float", group_size=16), "nvfp4-weight"),
        (weights(num_bits=4, type="float", group_size=16, inputs={"num_bits": 4, "type": "float"}), "nvfp4"),
        (weights(**INT8, strategy="channel", inputs=INT8), "int8"),
        (weights(**INT8, strategy="channel"), "int8-weight"),
        (weights(**FLOAT8, strategy="channel", inputs=FLOAT8), "fp8"),
        (weights(**FLOAT8, block_structure=[128, 128], inputs=FLOAT8), "fp8-block"),
        (weights(**FLOAT8), "fp8-weight"),
        (weights(num_bits=4, type="int", group_size=128, inputs=FLOAT8), "int4-fp8"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8-weight"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, None),
    ],
)
def test_a_checkpoint_tells_its_format_not_its_bits_alone(block: dict[str, Any], name: str | None) -> None:
    """By narrow activations too: 8 bits a weight alone do not say what multiplies them."""
    assert format_of_gate(block) == name


@pytest.mark.parametrize(
    "ignored",
    [
        {"ignore": ["re:.*self_attn.*"]},
        {"exclude_modules": ["*self_attn*"]},
        {"modules_to_not_convert": ["model.layers.*.self_attn"]},
        {"ignored_layers": ["self_attn"]},
    ],
)
def test_what_every_layer_leaves_out_stays_wide(ignored: dict[str, Any]) -> None:
    found = stored({"quant_method": "mxfp4"} | ignored)
    assert found["qkv"] == found["attention_output"] == {16}
    assert found["gate_up"] == found["down"] == {4.25}


def test_layers_are_left_out_one_by_one() -> None:
    names = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.3*", "lm_head"]
    model = model_from_config(TINY | {"quantization_config": {"quant_algo": "NVFP4", "exclude_modules": names}})
    wide = [sorted(kind.formats) for kind in map(model.kind_of, range(4))]
    assert wide == [["qkv"], [], [], ["attention_output", "down", "gate_up", "qkv"]]
    qkv, others = 3 * 64 * 64, 64 * 64 + 3 * 64 * 128
    narrow = 3 * (qkv + others) - qkv
    spare = model.parameter_count() - narrow + 4096 * 16  # and the rotary table
    assert resident_weight_bytes(model) == pytest.approx((narrow * 4.5 + spare * 16) / 8)


def test_routed_experts_alone_are_narrow() -> None:
    found = stored(
        weights(num_bits=4, group_size=32, type="int")
        | {
            "ignore": [
                "lm_head",
                "re:.*self_attn.*",
                "re:.*shared_experts.*",
                r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
            ]
        },
        EXPERTS,
    )
    assert found["expert_gate_up"] == found["expert_down"] == {4.5}
    assert {*found["query_up"], *found["kv_down"], *found["shared_down"], *found["gate_up"]} == {16}


def test_listed_layers_have_their_own_algorithms() -> None:
    listed = {
        **{
            f"model.layers.{i}.mlp.{name}": {"quant_algo": "NVFP4", "group_size": 16}
            for i in range(4)
            for name in ("gate_proj", "up_proj", "down_proj")
        },
        **{f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(4)},
    }
    found = stored({"quant_algo": "MIXED_PRECISION", "quantized_layers": listed, "exclude_modules": ["mtp.layers.0*"]})
    assert (found["gate_up"], found["qkv"], found["attention_output"]) == ({4.5}, {8}, {16})


def test_experts_may_have_a_format_of_their_own() -> None:
    found = stored({"quant_method": "fp8", "weight_block_size": [128, 128]}, EXPERTS | {"expert_dtype": "fp4"})
    assert found["expert_gate_up"] == {4.25}
    assert found["query_up"] == found["shared_gate_up"] == {8 + 32 / 16384}


def test_what_is_not_read_is_said() -> None:
    block = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    model = model_from_config({"text_config": TINY, "vision_config": {}, "quantization_config": block})
    assert model.source.endswith(
        "not read: vision_config, quantization of the KV cache (kv_cache_quant_algo; set deployment.kv_bits)"
    )


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"quant_method": "magic"}, "quantization 'magic' is not covered"),
        ({"bits": "four"}, "bits is 'four'; it should be a number of bits"),
        (weights(num_bits=400), "num_bits is 400; it should be a number of bits"),
        ({"quant_algo": "MIXED_PRECISION", "quantized_layers": {}}, "quantized_layers names no layer"),
    ],
)
def test_a_wrong_block_gets_one_line(block: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as raised:
        stored(block)
    assert "\n" not in str(raised.value)
