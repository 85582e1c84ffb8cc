"""The attention launches a GPU chooses from, on a CPU: all that run here compute the same."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.device.timer import clock_and_capture  # noqa: E402
from specsim.profiling.kernels import attention  # noqa: E402

HEADS, KV_HEADS, SIZE, SEQUENCES = 6, 2, 16, 3


def buffers(
    width: int, keys: int, size: int = SIZE, kv_heads: int = KV_HEADS
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(width)
    queries = torch.randn(SEQUENCES, width, HEADS, size, generator=generator)
    return queries, [torch.randn(2, SEQUENCES, kv_heads, keys, size, generator=generator)]


def plain(queries: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """softmax(QKᵀ/√d)V with the last query at the last key, [n, width, heads, size]."""
    width, keys = queries.shape[1], cache.shape[3]
    wide = cache.repeat_interleave(HEADS // cache.shape[2], dim=2)
    scores = queries.transpose(1, 2) @ wide[0].transpose(2, 3) / math.sqrt(queries.shape[3])
    seen = torch.ones(width, keys, dtype=torch.bool).tril(keys - width)
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ wide[1]).transpose(1, 2)


@pytest.mark.parametrize(("width", "keys"), [(1, 24), (5, 24), (24, 24)])
def test_every_causal_kernel_that_runs_here_computes_causal_attention(width: int, keys: int) -> None:
    queries, caches = buffers(width, keys)
    expected = plain(queries, caches[0])
    ran = set()
    for name, launch in attention._gpu_launches("", queries, caches):
        try:
            found = launch(0)
        except RuntimeError:
            continue
        ran.add(name)
        if "mask" in name:  # sequences end at different keys there; the first at the last one
            assert torch.allclose(found.view(expected.shape)[0], expected[0], atol=1e-5), name
        else:
            assert torch.allclose(found.transpose(1, 2), expected, atol=1e-5), name
    assert "sdpa flash, causal" in ran


def test_the_fastest_is_one_of_them_and_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, caches = buffers(4, 24)
    _, name = attention.fastest_on_gpu("", queries, caches, *clock_and_capture("cpu"))
    assert name.startswith("sdpa ")

    def refused(turn: int) -> object:
        raise RuntimeError("No available kernel")

    monkeypatch.setattr(attention, "_gpu_launches", lambda *_: iter([("refused", refused)]))
    with pytest.raises(RuntimeError, match="no attention kernel"):
        attention.fastest_on_gpu("", queries, caches, *clock_and_capture("cpu"))


@pytest.mark.parametrize("width", [1, 4])
def test_absorbed_latent_attention_takes_its_values_from_its_keys(width: int) -> None:
    queries, caches = buffers(width, 20, size=576, kv_heads=1)
    (name, launch), *others = list(attention._gpu_launches("", queries, caches))
    assert (name, others) == ("matmul, softmax, matmul", [])
    found = launch(0).view(SEQUENCES, width, HEADS, 512)
    own = torch.stack([caches[0][0], caches[0][0]])
    assert torch.allclose(found[0], plain(queries, own)[0, ..., :512], atol=1e-4)


def test_the_draft_tree_is_binary_and_breadth_first() -> None:
    assert attention.parents_of(7) == [-1, 0, 0, 1, 1, 2, 2]


def test_one_token_alone_needs_no_mask() -> None:
    queries, _ = buffers(1, 8)
    assert attention.mask_of("", 1, 1, 8, 3, queries) is None
    mask = attention.mask_of("", 4, 1, 8, 3, queries)
    assert mask is not None
    assert [(row == 0).sum().item() for row in mask[:, 0, 0]] == [8, 7, 6, 5]
