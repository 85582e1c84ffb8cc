"""Attention over windows, chunks, chosen and compressed keys, and states: bytes and FLOPs against closed forms."""

from __future__ import annotations

import pytest

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import Group, Kernel, Precision
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
    found = kernels(
        Group(1, 1, 12_800.0, 1), compression=shape, layer_kinds=kinds, layer_pattern="CAB", num_layers=3
    )  # fmt: skip
    window, scores, _, chosen, every = found
    assert [pairs(one) for one in (window, chosen, every)] == [128, 128 + 64, 128 + 100]
    assert scores.flops == 3200 * 2 * 4 * 32
    model = TOY.model_copy(
        update={"compression": shape, "layer_kinds": kinds, "layer_pattern": "CAB", "num_layers": 3}
    )  # fmt: skip
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
