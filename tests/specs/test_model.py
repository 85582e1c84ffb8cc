"""Parameter, byte and FLOP formulas against published counts and closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.specs.catalog import load_model, model_names
from specsim.specs.model import LatentAttention, MixtureOfExperts, ModelSpec
from specsim.speculation.program import load_program

# Exact counts: the safetensors metadata of the checkpoints on huggingface.co, and for DeepSeek-V3 the tensors
# of its main model (README_WEIGHTS.md rounds them to 671B).
PUBLISHED = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.3-70b": 70_553_706_496,
    "llama-3.1-70b": 70_553_706_496,
    "llama-7b": 6_738_415_616,
    "qwen3-8b": 8_190_735_360,
    "qwen3-0.6b": 596_049_920,
    "opt-6.7b": 6_658_473_984,
    "opt-1.3b": 1_315_758_080,
    "opt-125m": 125_239_296,
    "vicuna-7b": 6_738_415_616,
    "vicuna-13b": 13_015_864_320,
    "vicuna-33b": 32_528_943_616,
    "mixtral-8x7b": 46_702_792_704,
    "deepseek-v3": 671_026_419_200,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "qwen3-4b": 4_022_468_096,
    "qwen3-1.7b": 1_720_574_976,
}
SHAPES = Path(__file__).parents[2] / "validation" / "studies" / "model-shapes" / "published.yaml"


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_parameter_count_is_the_published_one(name: str, parameters: int) -> None:
    assert load_model(name).parameter_count() == parameters


def test_every_preset_has_a_published_count() -> None:
    """Exact here, or to a percent in the table of shapes, which tests/interop/test_published_models.py reads."""
    unknown = {"vicuna-68m", "apertus-1.5-8b", "minicpm5-2b"}  # told by their names alone
    rows = {row["preset"] for row in yaml.safe_load(SHAPES.read_text(encoding="utf-8")) if "preset" in row}
    assert set(PUBLISHED) | rows | unknown == set(model_names())


def test_vicuna_68m_has_the_size_of_its_checkpoint() -> None:
    drafter = load_model("vicuna-68m")
    assert round(drafter.parameter_count() / 1e6) == 68
    assert round(drafter.weight_bytes(bits=32) / 1e6) == 272


def test_an_untied_head_adds_one_embedding_matrix() -> None:
    # Qwen3-0.6B's checkpoint stores the head a second time and lists 751,632,384 parameters.
    tied = load_model("qwen3-0.6b")
    assert tied.model_copy(update={"tied_embeddings": False}).parameter_count() == 751_632_384


@pytest.mark.parametrize(
    ("name", "billions", "with_embedding"),
    [
        ("deepseek-v3", 36.6, False),  # README_WEIGHTS.md: 36.6B, 0.9B of it the output head
        ("mixtral-8x7b", 12.9, True),  # mistral.ai, Mixtral of experts: 12.9B a token
    ],
)
def test_active_parameters_of_experts_models(name: str, billions: float, with_embedding: bool) -> None:
    model = load_model(name)
    embedding = model.vocab_size * model.hidden_size if with_embedding else 0
    assert round((model.active_parameter_count() + embedding) / 1e9, 1) == billions


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("llama-3.1-8b", 32 * 2 * 8 * 128 * 2),  # 131,072
        ("llama-7b", 32 * 2 * 32 * 128 * 2),  # 524,288: no grouped queries
        ("opt-6.7b", 524_288),
        ("qwen3-0.6b", 28 * 2 * 8 * 128 * 2),  # heads wider than hidden/heads
        ("llama-3.3-70b", 80 * 2 * 8 * 128 * 2),
        ("deepseek-v3", 61 * (512 + 64) * 2),  # 70,272: one latent vector a layer (arXiv 2412.19437)
    ],
)
def test_kv_bytes_a_token(name: str, kv_bytes: int) -> None:
    assert load_model(name).kv_bytes_per_token() == kv_bytes
    assert load_model(name).kv_bytes_per_token(bits=8) == kv_bytes / 2


def test_weight_bytes_follow_the_bits() -> None:
    llama = load_model("llama-3.1-8b")
    assert llama.weight_bytes() == 2 * 8_030_261_248
    assert llama.weight_bytes(bits=4) == 8_030_261_248 / 2
    assert load_model("deepseek-v3").weight_bytes() == 671_026_419_200


def test_a_token_of_a_dense_model_meets_all_its_matrices() -> None:
    # Llama-3.1-8B without its embedding table (look-up) and its 65 norm vectors.
    assert load_model("llama-3.1-8b").active_parameter_count() == 8_030_261_248 - 128_256 * 4096 - 65 * 4096


def test_attention_flops_are_two_products_a_head() -> None:
    # QK^T and PV: 2·(2·head_dim) a head, query, key and layer; 32 layers, 32 heads of 128.
    llama = load_model("llama-3.1-8b")
    assert llama.attention_flops(query_tokens=3, kv_tokens=1000) == 32 * 32 * 4 * 128 * 3 * 1000


def test_latent_attention_flops_meet_the_latent_vector() -> None:
    # Absorbed form: scores over 512 + 64 values, output over 512, for 128 heads and 61 layers.
    assert load_model("deepseek-v3").attention_flops(1, 1) == 61 * 128 * 2 * (576 + 512)


def test_expected_experts_meets_its_limits() -> None:
    moe = MixtureOfExperts(num_experts=8, experts_per_token=2, intermediate_size=1)
    assert moe.expected_experts(0) == 0
    assert moe.expected_experts(1) == pytest.approx(2)
    assert moe.expected_experts(4) == pytest.approx(8 * (1 - 0.75**4))
    assert moe.expected_experts(1000) == pytest.approx(8)


@given(st.integers(1, 64), st.data(), st.floats(0, 1e4), st.floats(0, 1e4))
@settings(max_examples=50)
def test_more_tokens_touch_more_experts_but_never_more_than_all(
    experts: int, data: st.DataObject, tokens: float, further: float
) -> None:
    chosen = data.draw(st.integers(1, experts))
    moe = MixtureOfExperts(num_experts=experts, experts_per_token=chosen, intermediate_size=1)
    fewer, more = moe.expected_experts(tokens), moe.expected_experts(tokens + further)
    assert 0 <= fewer <= more <= experts


@given(
    layers=st.integers(1, 8),
    groups=st.integers(1, 4),
    kv_heads=st.integers(1, 4),
    head_dim=st.sampled_from([16, 64]),
    intermediate=st.integers(1, 300),
)
@settings(max_examples=50)
def test_layers_add_up(layers: int, groups: int, kv_heads: int, head_dim: int, intermediate: int) -> None:
    def model(count: int) -> ModelSpec:
        return ModelSpec(
            name="any",
            source="test",
            num_layers=count,
            hidden_size=64,
            num_heads=groups * kv_heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate_size=intermediate,
            vocab_size=100,
        )

    one_layer = model(2).parameter_count() - model(1).parameter_count()
    attention = 64 * head_dim * (2 * groups * kv_heads + 2 * kv_heads)
    assert one_layer == attention + 3 * 64 * intermediate + 2 * 64
    outside = model(1).parameter_count() - one_layer
    assert outside == 2 * 100 * 64 + 64
    assert model(layers).parameter_count() == outside + layers * one_layer
    assert model(layers).kv_bytes_per_token() == layers * 2 * kv_heads * head_dim * 2


def test_query_projection_may_be_undivided() -> None:
    # DeepSeek-V2-Lite has no query compression; 15,706,484,224 parameters in its safetensors metadata.
    lite = ModelSpec(
        name="DeepSeek-V2-Lite",
        source="config.json",
        num_layers=27,
        hidden_size=2048,
        num_heads=16,
        num_kv_heads=16,
        head_dim=192,
        intermediate_size=10944,
        vocab_size=102400,
        moe=MixtureOfExperts(
            num_experts=64, experts_per_token=6, intermediate_size=1408, shared_experts=2, first_dense_layers=1
        ),
        mla=LatentAttention(kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128),
    )
    assert lite.parameter_count() == 15_706_484_224


def test_heads_must_share_kv_heads_evenly() -> None:
    fields = load_model("llama-3.1-8b").model_dump() | {"num_kv_heads": 7}
    with pytest.raises(ValidationError, match="num_heads 32 is not a multiple of num_kv_heads 7"):
        ModelSpec.model_validate(fields)


def test_a_token_cannot_choose_more_experts_than_there_are() -> None:
    with pytest.raises(ValidationError, match="experts_per_token 3 exceeds num_experts 2"):
        MixtureOfExperts(num_experts=2, experts_per_token=3, intermediate_size=1)


@pytest.mark.parametrize(
    ("name", "bits"), [("gpt-oss-20b", 16), ("deepseek-v4-flash", 8), ("deepseek-v3", 8), ("llama-3.1-8b", 16)]
)
def test_a_drafter_is_stored_as_the_attention_of_its_target(name: str, bits: float) -> None:
    target = load_model(name)
    assert int(target.attention_stored.bits) == bits
    parts = load_program("eagle3").own_parts(target, None)
    assert {part.model.weight_bits for part in parts} == {bits}
