"""A small model in a large one computes what it did: exactly without noise, nearly always the same token with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.models import load_transformer  # noqa: E402
from specsim.reference.network.checkpoint import Checkpoint  # noqa: E402
from specsim.reference.network.inflate import embedding_of, inflate  # noqa: E402
from specsim.reference.network.transformer import TokenGroup  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402

pytestmark = pytest.mark.torch

Make = Callable[..., Checkpoint]
LARGE: dict[str, Any] = {
    "num_layers": 7,
    "hidden_size": 80,
    "num_heads": 12,
    "num_kv_heads": 4,
    "head_dim": 8,
    "intermediate_size": 104,
}


def shape(**changes: Any) -> ModelSpec:
    return ModelSpec(name="large", source="test", vocab_size=9, **(LARGE | changes))


def grown(small: Checkpoint, noise: float, dtype: torch.dtype = torch.float64, **changes: Any) -> Checkpoint:
    return inflate(small, embedding_of(small.spec, shape(**changes), early_layers=1), noise=noise, seed=3, dtype=dtype)


def logits(checkpoint: Checkpoint, tokens: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    rows, length = tokens.shape
    model = load_transformer(checkpoint, device="cpu", dtype=dtype, max_sequences=rows, max_length=length)
    return model.forward([TokenGroup(np.arange(rows), tokens, np.zeros(rows, dtype=np.int64), length)])


def text(rows: int, length: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 67, (rows, length)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head_dim": 16},  # rotary pairs move
        {"num_kv_heads": 3},  # more query heads a KV head than in the small model
        {"num_heads": 8, "num_kv_heads": 4},  # fewer: KV heads are repeated
        {"num_heads": 6, "num_kv_heads": 6, "head_dim": 24},
        {"num_layers": 3},
        {"hidden_size": 24},
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_without_noise_the_function_is_the_same(random_checkpoint: Make, changes: dict[str, Any], tied: bool) -> None:
    small, tokens = random_checkpoint(tie_word_embeddings=tied), text(2, 30)
    large = grown(small, 0.0, **changes)
    expected = shape(**changes).model_dump(exclude={"name", "source", "vocab_size", "tied_embeddings", "max_position"})
    assert large.spec.model_dump(include=set(expected)) == expected
    assert torch.allclose(logits(large, tokens), logits(small, tokens), rtol=0, atol=1e-9)


def test_an_epsilon_that_the_config_leaves_out_is_scaled_too(random_checkpoint: Make) -> None:
    """Tiny states make it matter: the norm of a state of 1e-3 divides by sqrt(1e-6 + epsilon)."""
    full, tokens = random_checkpoint(), text(2, 10)
    config = {key: value for key, value in full.config.items() if key != "rms_norm_eps"}
    table = {"model.embed_tokens.weight": full.tensors["model.embed_tokens.weight"] * 1e-3}
    small = Checkpoint(config, {**full.tensors, **table}, "tiny")
    assert torch.allclose(logits(grown(small, 0.0), tokens), logits(small, tokens), rtol=0, atol=1e-9)


def test_noise_is_heard_in_proportion_and_seldom_changes_a_token(random_checkpoint: Make) -> None:
    small, tokens = random_checkpoint(), text(20, 40)
    exact = logits(small, tokens)
    loud, soft = (logits(grown(small, noise), tokens) for noise in (1e-2, 1e-3))
    assert 0 < (soft - exact).abs().mean() < (loud - exact).abs().mean() / 5
    assert (soft.argmax(-1) == exact.argmax(-1)).double().mean() > 0.99


def test_entries_are_neither_zero_nor_denormal(random_checkpoint: Make) -> None:
    for name, tensor in grown(random_checkpoint(), 5e-4, torch.bfloat16).tensors.items():
        assert tensor.dtype == torch.bfloat16
        assert tensor.abs().min() > torch.finfo(torch.bfloat16).tiny, name


def test_early_layers_stay_first_and_the_last_stays_last(random_checkpoint: Make) -> None:
    small = random_checkpoint(num_hidden_layers=5).spec
    assert embedding_of(small, shape(num_layers=13), early_layers=2).layers == (0, 1, 4, 8, 12)
    assert embedding_of(small, shape(num_layers=5)).layers == (0, 1, 2, 3, 4)


def test_the_same_seed_gives_the_same_weights(random_checkpoint: Make) -> None:
    first, second = (grown(random_checkpoint(), 1e-3).tensors for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 16}, "hidden_size 16 of large is below the 24"),
        ({"head_dim": 12}, "head_dim 12 of large is not a multiple of 8"),
        ({"num_heads": 6, "num_kv_heads": 3}, "num_kv_heads 3 of large is below the 4"),
    ],
)
def test_shapes_that_do_not_hold_the_small_one_are_refused(
    random_checkpoint: Make, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        grown(random_checkpoint(), 0.0, **changes)


def test_unknown_weights_are_refused(random_checkpoint: Make) -> None:
    small = random_checkpoint()
    strange = Checkpoint(small.config, {"model.layers.0.router.weight": torch.ones(2, 2)})
    with pytest.raises(InvalidInput, match="router"):
        inflate(strange, embedding_of(small.spec, shape()), noise=0.0, seed=0)
