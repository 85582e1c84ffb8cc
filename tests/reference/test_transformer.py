"""The transformer against the same mathematics written plainly, and its cache against having none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.network import layers  # noqa: E402
from specsim.reference.network.kernels import attend, attention_mask, linear, pack, tree_mask  # noqa: E402
from specsim.reference.network.transformer import TokenGroup, Transformer, torch_dtype  # noqa: E402
from specsim.specs.model import LatentAttention, MixtureOfExperts, ModelSpec  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=2, hidden_size=48, num_heads=6, num_kv_heads=2, head_dim=8,
    intermediate_size=80, vocab_size=61,
)  # fmt: skip


def build(spec: ModelSpec = SPEC, dtype: torch.dtype = torch.float64, **changes: float) -> Transformer:
    size = {"max_sequences": 6, "max_length": 64, "seed": 3} | changes
    return Transformer(spec, device="cpu", dtype=dtype, **size)  # type: ignore[arg-type]


def group(slots: list[int], tokens: np.ndarray, starts: list[int], logit_rows: int) -> TokenGroup:
    return TokenGroup(np.array(slots), torch.from_numpy(np.atleast_2d(tokens)), np.array(starts), logit_rows)


def text(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SPEC.vocab_size, length)


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(QKᵀ/√d)V for [heads, q, d] on [heads, kv, d]; query i sees keys up to kv - q + i."""
    q, kv = queries.shape[1], keys.shape[1]
    scores = queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[2])
    seen = torch.ones(q, kv, dtype=torch.bool).tril(kv - q)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values


def plain_forward(model: Transformer, tokens: np.ndarray) -> Tensor:
    """Logits of every position, from the Llama equations: complex rotations, repeated KV heads, no cache."""
    spec, length = model.spec, len(tokens)
    half = spec.head_dim // 2
    angles = torch.outer(torch.arange(length).double(), 10_000.0 ** (-torch.arange(half).double() / half))
    turns = torch.polar(torch.ones_like(angles), angles)

    def norm(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def rotated(x: Tensor) -> Tensor:  # [heads, length, head_dim]
        y = torch.complex(x[..., :half], x[..., half:]) * turns
        return torch.cat((y.real, y.imag), -1)

    x = model._table[torch.from_numpy(tokens)].clone()
    for layer in model._layers:
        heads = (norm(x) @ layer.qkv.T).view(length, -1, spec.head_dim).transpose(0, 1)
        queries, keys, values = heads.split([spec.num_heads, spec.num_kv_heads, spec.num_kv_heads])
        share = spec.num_heads // spec.num_kv_heads
        keys, values = rotated(keys).repeat_interleave(share, 0), values.repeat_interleave(share, 0)
        x = (
            x
            + plain_attention(rotated(queries), keys, values).transpose(0, 1).reshape(length, -1)
            @ layer.attention_output.T
        )
        gate, up = (norm(x) @ layer.gate_up.T).split(spec.intermediate_size, -1)
        x = x + (gate / (1 + (-gate).exp()) * up) @ layer.down.T
    return norm(x) @ model._head.T


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_logits_are_those_of_the_equations(tied: bool, kv_heads: int) -> None:
    model = build(SPEC.model_copy(update={"tied_embeddings": tied, "num_kv_heads": kv_heads}))
    tokens = text(20)
    logits = model.forward([group([0], tokens, [0], 20)])
    assert torch.allclose(logits, plain_forward(model, tokens), rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [7, 1, 9, 3], [19, 1], [2, 18]])
def test_chunks_through_the_cache_equal_one_pass(chunks: list[int]) -> None:
    model, tokens = build(), text(20)
    expected = plain_forward(model, tokens)
    start = 0
    for width in chunks:
        logits = model.forward([group([4], tokens[start : start + width], [start], width)])
        assert torch.allclose(logits, expected[start : start + width], rtol=0, atol=1e-10)
        start += width


@pytest.mark.parametrize("width", range(1, 10))
def test_attention_aligns_its_mask_to_the_last_key(width: int) -> None:
    """torch's ``is_causal`` aligns to the first key, which is another function unless nothing was cached."""
    generator = torch.Generator().manual_seed(width)
    keys_seen, heads, kv_heads, head_dim = 17, 6, 2, 8
    queries = torch.randn(2, width, heads, head_dim, generator=generator, dtype=torch.float64)
    keys, values = torch.randn(2, 2, kv_heads, keys_seen, head_dim, generator=generator, dtype=torch.float64)
    positions = torch.arange(keys_seen - width, keys_seen).expand(2, width)
    mask = attention_mask(positions, keys_seen, heads // kv_heads, torch.float64) if width > 1 else None
    found = attend(queries, keys, values, mask)
    wide_keys, wide_values = (t.repeat_interleave(heads // kv_heads, 1) for t in (keys, values))
    upper_left = F.scaled_dot_product_attention(queries.transpose(1, 2), wide_keys, wide_values, is_causal=True)
    for row in range(2):
        expected = plain_attention(queries[row].transpose(0, 1), wide_keys[row], wide_values[row])
        assert torch.allclose(found[row], expected.transpose(0, 1).reshape(width, -1), rtol=0, atol=1e-12)
        assert not torch.allclose(upper_left[row], expected, atol=1e-2)


@st.composite
def trees(draw: st.DrawFn) -> list[int]:
    """Parents of a draft tree (or forest), each before its children."""
    nodes = draw(st.integers(1, 9))
    return [-1, *(draw(st.integers(-1, node - 1)) for node in range(1, nodes))]


@given(trees(), st.lists(st.integers(0, 6), min_size=1, max_size=3), st.sampled_from([1, 2, 4]), st.integers(0, 3))
def test_a_tree_node_sees_the_cache_itself_and_exactly_its_ancestors(
    parents: list[int], starts: list[int], fold: int, beyond: int
) -> None:
    nodes, keys = len(parents), max(starts) + len(parents) + beyond
    mask = tree_mask(parents, torch.tensor(starts), keys, fold, torch.float32)
    assert mask.shape == (len(starts), 1, nodes * fold, keys)
    for row, start in enumerate(starts):
        for node in range(nodes):
            seen, ancestor = set(range(start)), node
            while ancestor >= 0:
                seen.add(start + ancestor)
                ancestor = parents[ancestor]
            for head in range(fold):
                line = mask[row, 0, node * fold + head]
                assert {int(key) for key in (line == 0).nonzero()} == seen
                assert set(line.tolist()) <= {0.0, -math.inf}


def test_a_chain_is_a_tree_of_one_branch() -> None:
    starts = torch.tensor([3, 5])
    positions = starts[:, None] + torch.arange(4)
    chain = tree_mask([-1, 0, 1, 2], starts, 9, 2, torch.float64)
    assert torch.equal(chain, attention_mask(positions, 9, 2, torch.float64))


@pytest.mark.parametrize("spare_bytes", [0, math.inf])
def test_groups_that_share_a_pass_equal_passes_of_their_own(
    spare_bytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ragged starts, slots out of place, widths apart; each attention call alone or all sequences padded together."""
    monkeypatch.setattr(layers, "SPARE_KEY_BYTES", spare_bytes)
    model = build()
    texts = [text(30, seed) for seed in range(6)]
    starts = [12, 3, 20, 12, 0, 7]
    for slot, start in enumerate(starts):
        if start:
            model.forward([group([slot], texts[slot][:start], [0], 0)])
    spans = {
        slot: texts[slot][start : start + width]
        for slot, start, width in zip(range(6), starts, [4, 4, 4, 1, 9, 1], strict=True)
    }
    groups = [
        group([0, 1, 2], np.stack([spans[s] for s in (0, 1, 2)]), starts[:3], 4),
        group([5, 3], np.stack([spans[s] for s in (5, 3)]), [starts[5], starts[3]], 1),
        group([4], spans[4], [0], 2),
    ]
    logits = model.forward(groups)
    wanted = [(0, 4), (1, 4), (2, 4), (5, 1), (3, 1), (4, 2)]
    expected = [plain_forward(model, texts[slot][: starts[slot] + len(spans[slot])])[-rows:] for slot, rows in wanted]
    assert torch.allclose(logits, torch.cat(expected), rtol=0, atol=1e-10)


def test_a_pass_without_wanted_rows_has_no_logits_and_still_fills_the_cache() -> None:
    model, tokens = build(), text(9)
    assert model.forward([group([0], tokens[:8], [0], 0)]).shape == (0, SPEC.vocab_size)
    logits = model.forward([group([0], tokens[8:], [8], 1)])
    assert torch.allclose(logits[0], plain_forward(model, tokens)[-1], rtol=0, atol=1e-10)


def test_a_moved_sequence_goes_on_in_its_new_slot() -> None:
    model, tokens = build(), text(12)
    model.forward([group([5], tokens[:10], [0], 0)])
    model.move(5, 1, 10)
    logits = model.forward([group([1], tokens[10:], [10], 2)])
    assert torch.allclose(logits, plain_forward(model, tokens)[-2:], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_packed_weights_multiply_like_plain_ones(dtype: torch.dtype, error: float) -> None:
    weight, x = torch.randn(96, 64).to(dtype), torch.randn(5, 64).to(dtype)
    exact = x.double() @ weight.double().T
    assert ((linear(x, pack(weight)).double() - exact).abs() / 8).max() < error  # 8: the products' spread, √64


@pytest.mark.parametrize("layers", [1, 24])
def test_random_weights_keep_values_of_order_one(layers: int) -> None:
    model = build(SPEC.model_copy(update={"num_layers": layers, "hidden_size": 96}), torch.float32)
    logits = model.forward([group([0], text(60), [0], 60)])
    assert 0.5 < logits.std() < 2.0
    cached = model.cache[:, :, 0, :, :60]
    assert 0.3 < cached.std() < 3.0
    assert cached.abs()[cached != 0].min() > torch.finfo(torch.float32).tiny


def test_noise_makes_a_near_copy() -> None:
    tokens = [group([0], text(40), [0], 40)]
    exact, same, near = (build(noise=noise).forward(tokens) for noise in (0.0, 0.0, 0.05))
    assert torch.equal(exact, same)
    assert 0.01 < (exact - near).std() < 0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"moe": MixtureOfExperts(num_experts=4, experts_per_token=2, intermediate_size=32)}, "moe"),
        ({"mla": LatentAttention(kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8)}, "mla"),
        ({"learned_positions": 64, "norm_bias": True, "linear_bias": True, "gated_mlp": False}, "learned_positions"),
        ({"qk_norm": "head"}, "qk_norm"),
        ({"qkv_bias": True}, "qkv_bias"),
        ({"sliding_window": 32}, "sliding_window"),
    ],
)
def test_other_architectures_are_refused_in_one_line(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        build(SPEC.model_copy(update=change))
    assert "\n" not in str(caught.value)


def test_weights_of_other_widths_are_refused() -> None:
    assert torch_dtype(32) is torch.float32
    with pytest.raises(InvalidInput, match="4 bits"):
        torch_dtype(4)
