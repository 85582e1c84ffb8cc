"""What a pass consists of, by hand on a toy model, and what prices do to it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.cost.attention import attention_kernels
from specsim.cost.exchanges import collective_kernels
from specsim.cost.forward import (
    SOURCES,
    Group,
    Kernel,
    Precision,
    token_kernels,
)
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import DEFAULT, REACHED, Roofline
from specsim.errors import InvalidInput
from specsim.profiles.schema import Row
from specsim.profiles.store import Profile, load_profile, profile_names
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.specs.model import LayerKind, MixtureOfExperts, ModelSpec

BF16 = Precision(16, 16, "bfloat16")
TOY = ModelSpec(
    name="toy", source="test", num_layers=2, hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=4,
    intermediate_size=16, vocab_size=40,
)  # fmt: skip


def kernels(model: ModelSpec, *groups: Group) -> list[Kernel]:
    """The kernels of one pass over ``groups``."""
    tokens, rows = sum(g.tokens for g in groups), sum(g.sequences * g.logit_rows for g in groups)
    return [*token_kernels(model, tokens, rows, BF16), *(k for g in groups for k in attention_kernels(model, g, BF16))]


def test_gemms_see_the_tokens_of_all_groups_and_the_head_only_wanted_rows() -> None:
    """4 sequences verifying 3 tokens and a 10-token prompt chunk: M = 22; logits for 12 rows and the chunk's last."""
    found = [k for k in kernels(TOY, Group(4, 3, 50, 3), Group(1, 10, 10, 1)) if k.kind == "gemm"]
    assert {k.shape[0] for k in found if k.part == "gemm"} == {22.0}
    assert [k.shape for k in found if k.part == "lm_head"] == [(13.0, 40, 8)]


def test_engines_add_the_residual_in_the_norm_that_follows() -> None:
    """2 layers of 2 sublayers: 5 norms and 4 adds become 4 kernels, which move 2·8 values a token in and out, and 1.

    An add and the norm after it move 3 + 2 widths, in one kernel 4.
    """
    plain, fused = (
        {k.operation: k for k in token_kernels(TOY, 10, 0, BF16, fused=fused) if k.kind == "elementwise"}
        for fused in (False, True)
    )
    assert {k.operation: k.count for k in plain.values()} == {
        "embedding": 1,
        "norm": 5,
        "add": 4,
        "rotary": 2,
        "kv_write": 2,
        "activation": 2,
    }
    assert {k.operation: k.count for k in fused.values()} == {
        "embedding": 1,
        "add_norm": 4,
        "norm": 1,
        "rotary": 2,
        "kv_write": 2,
        "activation": 2,
    }
    assert fused["add_norm"].bytes == 10 * 4 * 8 * 2 < plain["add"].bytes + plain["norm"].bytes


def test_decode_bytes_are_the_weights_and_the_cache() -> None:
    """Llama-3.1-8B, one token at 1000 of context: 15.0 GB of matrices, 131 MB of cache, 2·7.5e9 FLOPs."""
    llama = load_model("llama-3.1-8b")
    found = kernels(llama, Group(1, 1, 1000, 1))
    matrices = sum(k.bytes * k.count for k in found if k.kind == "gemm")
    embedding = llama.vocab_size * llama.hidden_size
    assert matrices == pytest.approx(2 * (llama.parameter_count() - embedding), rel=1e-3)
    attention = next(k for k in found if k.kind == "attention")
    assert attention.bytes * attention.count == pytest.approx(131_072 * 1000, rel=0.01)
    assert sum(k.flops * k.count for k in found if k.kind == "gemm") == pytest.approx(
        2 * llama.active_parameter_count(), rel=1e-9
    )


@given(st.integers(1, 16), st.floats(1e3, 1e6))
def test_verification_reads_the_cache_once_however_wide(width: int, context: float) -> None:
    one = next(k for k in kernels(TOY, Group(1, 1, context, 1)) if k.kind == "attention")
    wide = next(k for k in kernels(TOY, Group(1, width, context, width)) if k.kind == "attention")
    per_query = 2 * TOY.num_heads * TOY.head_dim * 2  # read the query, write its output
    assert wide.bytes - one.bytes == pytest.approx((width - 1) * per_query, rel=1e-6, abs=1e-3)


def test_experts_are_read_as_often_as_tokens_touch_them() -> None:
    """8 experts, 2 a token: one token reads 2, four read 8(1 - 0.75^4) = 5.47, many read all; FLOPs count visits."""
    moe = TOY.model_copy(update={"moe": MixtureOfExperts(num_experts=8, experts_per_token=2, intermediate_size=24)})
    expert = 3 * 8 * 24  # gate, up and down
    for tokens, experts in ((1, 2.0), (4, 5.46875), (10_000, 8.0)):
        routed = [k for k in kernels(moe, Group(1, tokens, tokens, 1)) if k.kind == "moe"]
        assert len(routed) == 1
        traffic = 2 * tokens * 2 * (2 * 24 + 8 + 8 + 24)
        assert routed[0].bytes == pytest.approx(2 * experts * expert + traffic)
        assert routed[0].flops == 2 * 2 * tokens * expert
        assert routed[0].count == TOY.num_layers


def test_verification_over_experts_is_not_flat() -> None:
    """A peer's measured trap: at batch 1 a wider pass touches more experts (Mixtral: 2, 3.5, 5.5 of 8 at 1, 2, 4).

    Beside what the kernels of a layer take however few there are.
    """
    mixtral = load_model("mixtral-8x7b")
    prices = Roofline(load_hardware("h200"), "bfloat16")

    def experts_s(width: int) -> float:
        found = [k for k in kernels(mixtral, Group(1, width, 1000, width)) if k.kind == "moe"]
        return float(sum((prices.price(k, warm=False).seconds - REACHED["moe"].floor_s) * k.count for k in found))

    assert experts_s(2) / experts_s(1) == pytest.approx(3.5 / 2, rel=0.02)
    assert experts_s(4) / experts_s(1) == pytest.approx(8 * (1 - 0.75**4) / 2, rel=0.02)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 300))
def test_ranks_share_the_matrices_and_the_cache(ranks: int, tokens: int) -> None:
    """Llama-3.3-70B divides evenly by 1 to 8: FLOPs of all ranks together are those of one GPU."""
    llama = load_model("llama-3.3-70b")
    group = Group(tokens, 1, 500.0)

    def total(model: ModelSpec, field: str, kinds: tuple[str, ...]) -> float:
        return float(sum(getattr(k, field) * k.count for k in kernels(model, group) if k.kind in kinds))

    share = llama.shard(ranks)
    assert ranks * total(share, "flops", ("gemm", "attention")) == pytest.approx(
        total(llama, "flops", ("gemm", "attention")), rel=1e-9
    )
    assert ranks * share.kv_values_per_token() == llama.kv_values_per_token()
    reduced = list(collective_kernels(llama, ranks, tokens, tokens, BF16))
    if ranks == 1:
        assert reduced == []
    else:
        assert [(k.operation, k.count, k.bytes) for k in reduced] == [
            ("all_reduce", 2 * 80 + 1, tokens * 8192 * 2),
            ("all_gather", 1, tokens * llama.vocab_size * 2),
        ]


def test_ranks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InvalidInput, match="tensor_parallel 3 does not divide num_heads 32"):
        load_model("llama-3.1-8b").shard(3)
    assert load_model("llama-3.1-8b").shard(16).num_kv_heads == 1  # 8 KV heads: each stands on two ranks


def test_a_sliding_window_bounds_what_attention_reads() -> None:
    """One of two layers sees 100 tokens: at a context of 1000 it reads a tenth, below the window both read all."""
    half = TOY.model_copy(update={"layer_kinds": {"S": LayerKind(window=100)}, "layer_pattern": "SF"})
    keys = [(k.shape[2], k.count) for k in attention_kernels(half, Group(3, 1, 1000.0), BF16)]
    assert keys == [(100.0, 1), (1000.0, 1)]
    assert {k.shape[2] for k in attention_kernels(half, Group(3, 1, 60.0), BF16)} == {60.0}
    with pytest.raises(ValidationError, match="layer kind 'S' is in no place of layer_pattern"):
        ModelSpec.model_validate(TOY.model_dump() | {"layer_kinds": {"S": {"window": 100}}})


def test_latent_attention_reads_one_vector_a_token_whatever_the_heads() -> None:
    """DeepSeek-V3: 512 + 64 values a token and layer, one head of 576 for 128 query heads; prompts expand to 192."""
    deepseek = load_model("deepseek-v3")
    decode = next(iter(attention_kernels(deepseek, Group(4, 1, 1000.0), BF16)))
    prefill = next(iter(attention_kernels(deepseek, Group(1, 512, 512.0), BF16)))
    assert decode.shape == (4, 1.0, 1000.0, 128.0, 1.0, 576.0)
    assert prefill.shape[3:] == (128.0, 128.0, 192.0)
    assert decode.bytes == 4 * 1000 * 576 * 2 + 2 * 4 * 128 * 576 * 2


def test_narrow_weights_and_caches_move_fewer_bytes() -> None:
    """Int4 in groups of 128 streams 4.125 bits a weight, the LM head stays at 16; an 8-bit cache is half as long."""
    h200, llama = load_hardware("h200"), load_model("llama-3.1-8b")
    four = Precision.on(h200, 4, 8)
    assert (four.weights, four.kv, four.weight_bits) == ("int4-weight-g128", "fp8", 4.125)
    assert Precision.on(h200, 8).weights == "fp8"
    assert Precision.on(load_hardware("a100-80gb"), 8).weights == "int8-weight"

    def matrices(precision: Precision, part: str) -> float:
        return float(
            sum(k.bytes * k.count for k in token_kernels(llama, 0, 0, precision) if k.part == part)
            or sum(
                (k.bytes - k.shape[0] * (k.shape[1] + k.shape[2]) * 2) * k.count
                for k in token_kernels(llama, 1, 1, precision)
                if k.part == part
            )
        )

    assert matrices(four, "gemm") / matrices(BF16, "gemm") == pytest.approx(4.125 / 16)
    assert matrices(four, "lm_head") == matrices(BF16, "lm_head")
    wide, narrow = (next(iter(attention_kernels(llama, Group(1, 1, 1e6), p))) for p in (BF16, four))
    assert narrow.bytes / wide.bytes == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("bits", [5, 6, 7.5, 12])
def test_bits_that_no_engine_multiplies_are_refused(bits: float) -> None:
    with pytest.raises(InvalidInput, match=f"weight_bits is {bits:g} and engines multiply weights of 16, 8, 4"):
        Precision.on(load_hardware("h200"), bits)


def test_roofline_takes_the_slower_of_compute_and_memory() -> None:
    hardware = Hardware(
        name="t",
        source="t",
        memory_bytes=1e9,
        bandwidth_bytes_per_s=1e12,
        flops_per_s={"bfloat16": 1e15},
        last_level_cache_bytes=1,
    )
    prices = Roofline(hardware, "bfloat16")
    memory = prices.price(Kernel("gemm", "gemm", (1, 1, 1), "", "bfloat16", 1, flops=1.0, bytes=8e9), warm=False)
    compute = prices.price(Kernel("gemm", "gemm", (1, 1, 1), "", "bfloat16", 1, flops=7e12, bytes=1.0), warm=False)
    reached = REACHED["gemm"]
    assert memory.seconds == pytest.approx(reached.floor_s + 8e9 / (1e12 * reached.memory))
    assert compute.seconds == pytest.approx(reached.floor_s + 7e12 / (1e15 * reached.compute))
    with pytest.raises(InvalidInput, match="has no fp8 rate"):
        Roofline(hardware, "fp8")


def rows(bytes_per_s: float, flops_per_s: float, efficiency: float) -> tuple[Row, ...]:
    """A made-up machine that reaches a constant share of its roofline on every GEMM."""
    made = []
    for m in (1.0, 4.0, 16.0, 64.0):
        for n in (256.0, 1024.0, 4096.0):
            for k in (256.0, 1024.0):
                moved, flops = work("gemm", (m, n, k))
                seconds = max(moved / bytes_per_s, flops / flops_per_s) / efficiency
                made.append(Row((m, n, k), "", "bfloat16", "made", "cold", "eager", seconds, seconds, seconds, 9))
    return tuple(made)


@cache
def load_shipped() -> Profile:
    return load_profile(profile_names()[0])


@pytest.fixture
def shipped() -> Profile:
    return load_shipped()


def made_profile(shipped: Profile, gemm: tuple[Row, ...]) -> Profile:
    header = shipped.header
    ceilings = header.ceilings.model_copy(update={"copy_bytes_per_s": 1e10, "flops_per_s": {"bfloat16": 1e12}})
    header = header.model_copy(update={"ceilings": ceilings})
    return Profile("made", shipped.folder, header, shipped.rows | {"gemm": gemm})


@cache
def constant_machine() -> MeasuredPrices:
    profile = made_profile(load_shipped(), rows(1e10, 1e12, 0.5))
    return MeasuredPrices(profile, profile.hardware(), "bfloat16")


@given(st.floats(1, 64), st.floats(256, 4096), st.floats(256, 1024))
def test_a_machine_of_constant_efficiency_is_predicted_between_its_shapes(m: float, n: float, k: float) -> None:
    """Only the latency floor, which this machine lacks, keeps the answer from being exact: it is the shortest row."""
    price = constant_machine().price(Kernel("gemm", "gemm", (m, n, k), "", "bfloat16", 1, 0.0, 0.0), warm=False)
    moved, flops = work("gemm", (m, n, k))
    truth = max(moved / 1e10, flops / 1e12) / 0.5
    assert price.seconds == pytest.approx(truth, rel=0.3)
    assert price.rank <= SOURCES.index("interpolated")


def test_measured_shapes_come_back_exactly_and_others_say_what_they_are(shipped: Profile) -> None:
    profile = made_profile(shipped, rows(1e10, 1e12, 0.5))
    prices = MeasuredPrices(profile, profile.hardware(), "bfloat16")
    row = profile.rows["gemm"][7]

    def price(*shape: float) -> Any:
        return prices.price(Kernel("gemm", "gemm", shape, "", "bfloat16", 1, 0.0, 0.0), warm=False)

    def source(*shape: float) -> str:
        return SOURCES[int(price(*shape).rank)]

    assert price(*row.shape).seconds == pytest.approx(row.median_s, rel=1e-9)
    assert source(*row.shape) == "measured"
    assert source(5, 1024, 256) == "interpolated"
    assert source(5, 100_000, 256) == "extrapolated"
    assert price(5, 100_000, 256).relative_error > price(5, 1024, 256).relative_error


def test_a_narrow_cache_is_read_as_a_wide_one_where_nothing_multiplies_it() -> None:
    """An A100 widens FP8 values before it multiplies, an H100 does not; memory holds half as much on both."""
    found = {name: Precision.on(load_hardware(name), 16, 8) for name in ("a100-80gb", "h100-sxm")}
    assert [found[name].kv for name in found] == ["bfloat16", "fp8"]
    assert [found[name].kv_read_bytes for name in found] == [2.0, 1.0]
    assert [found[name].kv_bits for name in found] == [8, 8]


def test_what_the_cache_holds_between_two_kernels_is_read_at_its_rate() -> None:
    """Up to half of the H100's 50 MiB twice as fast as memory; beyond it each byte more is memory's."""
    card = load_hardware("h100-sxm")
    half, rate = card.last_level_cache_bytes / 2, card.bandwidth_bytes_per_s * DEFAULT.memory

    def moving(size: float, part: Any = "elementwise") -> float:
        kernel = Kernel("elementwise", part, (1.0, size), "norm", "bfloat16", 1, 0.0, size)
        return float(Roofline(card, "bfloat16").price(kernel, warm=False).seconds) - DEFAULT.floor_s

    assert moving(half) == pytest.approx(half / rate / 2)
    assert moving(3 * half) == pytest.approx(moving(half) + 2 * half / rate)
    assert moving(half, "attention") == pytest.approx(half / rate)  # states and keys come from memory
