"""Attention over windows, chunks, chosen and compressed keys, and states: bytes and FLOPs against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.cost.attention import attention_kernels
from specsim.cost.forward import Group, Kernel, Precision
from specsim.cost.measured import MeasuredPrices
from specsim.cost.passes import PassCost
from specsim.profiles.store import find_profile
from specsim.scenario import load_scenario
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.layer_kind import Compression, LatentAttention, LayerKind, Recurrence, SparseIndex
from specsim.specs.model import ModelSpec

BF16 = Precision(16, 16, "bfloat16")
TOY = ModelSpec(
    name="toy", source="test", num_layers=4, hidden_size=64, num_heads=8, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=100,
)  # fmt: skip


def kernels(group: Group, **changes: object) -> list[Kernel]:
    return list(attention_kernels(TOY.model_copy(update=changes), group, BF16))


def pairs(kernel: Kernel) -> float:
    """Queries times the keys that each sees, by the kernel's FLOPs: 4·heads·head_dim a pair."""
    return float(kernel.flops) / (4 * 8 * 16)


@pytest.mark.parametrize(("queries", "keys"), [(1, 5000.0), (4, 5000.0)])
def test_a_decoding_query_sees_its_window(queries: int, keys: float) -> None:
    (one,) = kernels(Group(3, queries, keys, queries), sliding_window=128)
    assert pairs(one) == 3 * queries * (128 + (queries - 1) / 2)
    assert one.bytes == pytest.approx(3 * (2 * 64 * (128 + queries - 1) + 4 * queries * 128))


def test_a_prompt_longer_than_its_window_sees_no_more_than_the_window() -> None:
    (windowed,) = kernels(Group(1, 4096, 4096.0), sliding_window=128)
    assert pairs(windowed) / 4096 == pytest.approx(128, rel=0.01)
    (chunked,) = kernels(Group(1, 4096, 4096.0), layer_kinds={"C": LayerKind(chunk=512)}, layer_pattern="C")
    assert pairs(chunked) == 4096 * (512 + 1) / 2  # causal within each of eight chunks


def test_a_chunk_is_half_full_on_average() -> None:
    chunk = {"layer_kinds": {"C": LayerKind(chunk=512)}, "layer_pattern": "C"}
    (short,) = kernels(Group(1, 1, 300.0, 1), **chunk)
    (long,) = kernels(Group(1, 1, 30_000.0, 1), **chunk)
    assert (pairs(short), pairs(long)) == (300, 256.5)


def test_sparse_attention_reads_all_index_keys_and_the_chosen_keys_of_every_query() -> None:
    index = SparseIndex(num_heads=4, head_dim=32, top_k=2048, cache_bytes=36)
    scores, choice, attention = kernels(Group(2, 3, 10_000.0, 3), index=index)
    assert (scores.operation, choice.operation) == ("index", "top_k")
    assert choice.bytes == 6 * 10_000 * 4  # a score a query and key
    assert scores.flops == 2 * 3 * 9999 * 2 * 4 * 32
    assert scores.bytes == 2 * 10_000 * 36 + 2 * 3 * 9999 * 4
    assert pairs(attention) == 2 * 3 * 2048
    _, dense = kernels(Group(2, 1, 500.0, 1), index=index)
    assert pairs(dense) == 2 * 500
    shared = index.model_copy(update={"own": False})
    assert [one.operation for one in kernels(Group(2, 1, 500.0, 1), index=shared)] == [""]


def test_chosen_latent_vectors_are_met_in_absorbed_form_even_by_prompts() -> None:
    mla = LatentAttention(kv_lora_rank=64, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16)
    index = SparseIndex(num_heads=4, head_dim=32, top_k=100, cache_bytes=36)
    _, _, attention = kernels(Group(1, 1000, 1000.0), mla=mla, index=index)
    assert attention.shape[3:] == (8.0, 1.0, 72.0)
    assert attention.flops == 1000 * 100 * 2 * 8 * (64 + 72)


def test_compressed_attention_sees_the_window_and_a_vector_for_every_ratio() -> None:
    index = SparseIndex(num_heads=4, head_dim=32, top_k=64, cache_bytes=9)
    shape = Compression(q_lora_rank=16, o_lora_rank=16, o_groups=2, window=128)
    kinds = {"A": LayerKind(compress_ratio=4, index=index), "B": LayerKind(compress_ratio=128)}
    found = kernels(Group(1, 1, 12_800.0, 1), compression=shape, layer_kinds=kinds, layer_pattern="CAB", num_layers=3)
    window, scores, _, chosen, every = found
    assert [pairs(one) for one in (window, chosen, every)] == [128, 128 + 64, 128 + 100]
    assert scores.flops == 3200 * 2 * 4 * 32
    model = TOY.model_copy(
        update={"compression": shape, "layer_kinds": kinds, "layer_pattern": "CAB", "num_layers": 3}
    )
    assert model.kv_bytes_per_token() == 16 * 2 / 4 + 9 + 16 * 2 / 128


def test_a_state_is_read_once_and_written_for_every_token_that_may_be_rejected() -> None:
    state = Recurrence(input_width=200, output_width=64, conv_channels=96, conv_kernel=4, heads=4, rows=16, columns=8)
    kind = {"layer_kinds": {"L": LayerKind(attention=False, state=state)}, "layer_pattern": "L"}
    size = 2 * (3 * 96 + 4 * 16 * 8)
    token = 2 * 2 * (200 + 64)
    for queries in (1, 4):
        (one,) = kernels(Group(5, queries, 9999.0, queries), **kind)
        assert one.operation == "state"
        assert one.bytes == 5 * (size * (1 + queries) + queries * token)
        assert one.flops == 5 * queries * 4 * 5 * 16 * 8
    (prompt,) = kernels(Group(1, 640, 640.0), **kind)
    assert prompt.bytes == 10 * 2 * size + 640 * token
    assert TOY.model_copy(update=kind).kv_bytes_per_token() == 0
    assert TOY.model_copy(update=kind).state_bytes() == 4 * size


def test_a_tile_of_queries_multiplies_64_rows_and_reads_the_cache_once() -> None:
    """One and six tokens take a tile, 65 take two; keys and values are read once all the same."""
    for queries, rows in ((1, 64), (6, 64), (65, 128)):
        group = Group(3, queries, 5000.0, queries)
        (whole,) = attention_kernels(TOY, group, BF16)
        (tiled,) = attention_kernels(TOY, group, BF16, in_tiles=True)
        assert tiled.flops == pytest.approx(whole.flops * rows / queries)
        assert tiled.bytes == whole.bytes
        assert tiled.shape == (whole.shape[0], float(rows), *whole.shape[2:])


def attention_s(card: str, backend: str, *groups: Group) -> float:
    """Of one pass of Llama-3.1-8B."""
    hardware = load_hardware(card)
    profile = find_profile(hardware.name)
    assert profile is not None
    prices = MeasuredPrices(profile, hardware, "bfloat16")
    cost = PassCost(load_model("llama-3.1-8b"), prices, Precision.on(hardware, 16), attention_backend=backend)
    found = [charge.seconds for charge in cost.charges(groups, warm=False) if charge.part == "attention"]
    return float(sum(np.asarray(seconds) for seconds in found))


@pytest.mark.parametrize("sequences", [32, 64])
@pytest.mark.parametrize("keys", [4096.0, 16384.0])
def test_one_call_for_prompts_and_decoding_costs_more_than_both_apart(sequences: int, keys: float) -> None:
    """Published kernels of cards without FlashAttention 3: 1.3 to 2.8 times the sum. Nothing here is fitted to it."""
    prompt, decoding = Group(1, 512, 512.0, 1), Group(sequences, 1, keys, 1)
    together = attention_s("a100-80gb", "fa2", prompt, decoding)
    apart = attention_s("a100-80gb", "fa2", prompt) + attention_s("a100-80gb", "fa2", decoding)
    assert 1.3 < together / apart < 2.8


@pytest.mark.parametrize("backend", ["fa3", "flashinfer", "trtllm"])
def test_other_backends_call_prompts_and_decoding_apart_or_schedule_tiles(backend: str) -> None:
    prompt, decoding = Group(1, 512, 512.0, 1), Group(32, 1, 4096.0, 1)
    together = attention_s("h100-sxm", backend, prompt, decoding)
    apart = attention_s("h100-sxm", backend, prompt) + attention_s("h100-sxm", backend, decoding)
    assert together == pytest.approx(apart)


@pytest.mark.parametrize("card", ["a100-80gb", "l40s", "rtx-pro-6000"])
def test_a_mixed_step_never_costs_less_attention_than_its_parts(card: str) -> None:
    for chunk in (128, 2048):
        prompt, decoding = Group(1, chunk, float(chunk), 1), Group(16, 1, 2048.0, 1)
        apart = attention_s(card, "fa2", prompt) + attention_s(card, "fa2", decoding)
        assert attention_s(card, "fa2", prompt, decoding) >= apart * (1 - 1e-9)


def test_the_engine_tells_whose_attention_runs() -> None:
    """vLLM runs FlashAttention 2 on an A100 and 3 on an H100: the same mixed step, its attention against the sum."""
    ratios = {}
    for card in ("a100-80gb", "h100-sxm"):
        settings = [f"gpu={card}", "model=llama-3.1-8b", "engine.kind=vllm", "speculation=null"]
        cost = assemble(load_scenario("cpu-144m", settings)).cost
        groups = [Group(1, 512, 512.0, 1), Group(64, 1, 8192.0, 1)]
        steps = [
            cost.step(some, drafting=0, draft_tokens=0, drafting_kv_tokens=1.0).parts["attention"]
            for some in (groups, groups[:1], groups[1:])
        ]
        both, *each = [float(np.asarray(seconds)) for seconds in steps]
        ratios[card] = both / sum(each)
    assert ratios["a100-80gb"] > 1.3
    assert ratios["h100-sxm"] == pytest.approx(1.0)
