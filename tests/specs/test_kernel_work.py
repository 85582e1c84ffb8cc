"""Bytes and FLOPs of kernels, by hand, and that a pass and a profile count them alike."""

from __future__ import annotations

import pytest

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import Group, Kernel, Precision, token_kernels
from specsim.specs.catalog import load_model
from specsim.specs.kernel_work import distinct_experts, product_work, work
from specsim.specs.model import MixtureOfExperts, ModelSpec

BF16 = Precision(16, 16, "bfloat16")
FLOAT32 = Precision(32, 32, "float32", "float32", "float32")
ROUTED = ModelSpec(
    name="routed", source="test", num_layers=3, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=40,
    moe=MixtureOfExperts(num_experts=8, experts_per_token=2, intermediate_size=128),
)  # fmt: skip


def experts_of(model: ModelSpec, tokens: int) -> Kernel:
    return next(kernel for kernel in token_kernels(model, tokens, 0, BF16) if kernel.kind == "moe")


def test_narrower_formats_move_fewer_bytes() -> None:
    """8-bit weights and activations move half; 4-bit weights with a scale of 16 bits for 32 of them 4.5 bits each."""
    wide, _ = work("gemm", (1.0, 4096.0, 4096.0))
    assert wide == 2 * (4096 * 4096 + 2 * 4096)
    assert work("gemm", (1.0, 4096.0, 4096.0), "fp8")[0] == wide / 2
    weights = 4096 * 4096
    grouped, _ = work("gemm", (1.0, 4096.0, 4096.0), "int4-weight-g32")
    assert grouped == pytest.approx(weights * (4 + 16 / 32) / 8 + 2 * 2 * 4096)


def test_a_decode_pass_over_experts_by_hand() -> None:
    """8 experts, 2 a token: 4 tokens touch 8(1 - 0.75^4) = 5.47 of them, each of 3·64·128 weights of 2 bytes.

    Each of 8 rows goes in (64) and out (2·128) of the first product, in (128) and out (64) of the second.
    """
    moved, flops = work("moe", (4.0, 64.0, 128.0, 8.0, 2.0))
    assert distinct_experts(8, 2, 4) == 5.46875
    assert moved == 2 * (5.46875 * 3 * 64 * 128 + 8 * (64 + 256 + 128 + 64)) == 276_992
    assert flops == 8 * 2 * (64 * 256 + 128 * 64)


def test_many_tokens_read_every_expert_once() -> None:
    moved, _ = work("moe", (1e6, 64.0, 128.0, 8.0, 2.0))
    assert moved == pytest.approx(2 * (8 * 3 * 64 * 128 + 2e6 * 512))


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_a_single_expert_is_the_dense_layers_two_products(tokens: int) -> None:
    moved, flops = work("moe", (tokens, 64.0, 128.0, 1.0, 1.0))
    first, second = (product_work(tokens, n, k, weight_bytes=2, value_bytes=2) for n, k in ((256, 64), (64, 128)))
    assert (moved, flops) == (first[0] + second[0], first[1] + second[1])


@pytest.mark.parametrize("tokens", [1, 5, 64, 2048])
def test_a_pass_counts_experts_as_a_profile_does(tokens: int) -> None:
    kernel = experts_of(ROUTED, tokens)
    assert kernel.count == 3
    assert (kernel.bytes, kernel.flops) == work("moe", kernel.shape)
    whole = experts_of(load_model("mixtral-8x7b"), tokens)
    assert (whole.bytes, whole.flops) == work("moe", whole.shape)


def test_ungated_experts_have_one_matrix_less_to_go_in_by() -> None:
    ungated = ROUTED.model_copy(update={"gated_mlp": False})
    kernel = experts_of(ungated, 4)
    assert kernel.bytes == 2 * (5.46875 * 2 * 64 * 128 + 8 * (2 * 64 + 2 * 128))
    assert kernel.flops == 8 * 2 * 2 * 64 * 128


@pytest.mark.parametrize("group", [Group(1, 1, 500), Group(16, 5, 2000, 5), Group(1, 700, 700), Group(2, 64, 900, 0)])
def test_a_pass_counts_products_and_attention_as_a_profile_does(group: Group) -> None:
    llama = load_model("llama-3.1-8b")
    for precision in (BF16, FLOAT32, Precision(16, 8, "bfloat16", kv="fp8")):
        kernels = [*token_kernels(llama, group.tokens, 4, precision), *attention_kernels(llama, group, precision)]
        for kernel in (kernel for kernel in kernels if kernel.kind in ("gemm", "attention")):
            moved, flops = work(kernel.kind, kernel.shape, kernel.dtype)
            assert (kernel.bytes, kernel.flops) == (pytest.approx(moved, rel=1e-12), pytest.approx(flops, rel=1e-12))


def test_a_causal_prompt_computes_half_of_the_square() -> None:
    _, flops = work("attention", (1.0, 1001.0, 1001.0, 4.0, 4.0, 64.0))
    assert flops == 4 * 1001 * 501 * 4 * 64
