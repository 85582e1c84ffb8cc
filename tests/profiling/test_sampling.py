"""Sampling kernels draw from the distributions they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.kernels.experts import ExpertWeights, visits  # noqa: E402
from specsim.profiling.kernels.sampling import reject, sample, softmax  # noqa: E402

ROWS, VOCAB = 40_000, 12
SURELY_WRONG = 1e-4  # p value; draws are seeded


def distributions(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(2, VOCAB, generator=generator).mul(1.5).softmax(-1)
    return p, q


@pytest.mark.parametrize("seed", range(3))
def test_rejection_keeps_the_target_distribution(seed: int) -> None:
    torch.manual_seed(seed)
    p, q = distributions(seed)
    drafted = torch.multinomial(q, ROWS, replacement=True)
    tokens = reject(p.expand(ROWS, -1), q.expand(ROWS, -1), drafted)
    counts = torch.bincount(tokens, minlength=VOCAB).numpy()
    assert chisquare(counts, ROWS * p.double().numpy() / float(p.double().sum())).pvalue > SURELY_WRONG
    # Drafts alone would fail the same test, so it can tell.
    drafts = torch.bincount(drafted, minlength=VOCAB).numpy()
    assert chisquare(drafts, ROWS * p.double().numpy() / float(p.double().sum())).pvalue < SURELY_WRONG


def test_the_accepted_share_is_the_overlap_of_the_two_distributions() -> None:
    """P(accept) = Σ min(p, q), and a rejected draft is never drawn again where the target had less."""
    torch.manual_seed(5)
    p, q = distributions(5)
    drafted = torch.multinomial(q, ROWS, replacement=True)
    tokens = reject(p.expand(ROWS, -1), q.expand(ROWS, -1), drafted)
    overlap = float(torch.minimum(p, q).sum())
    changed = tokens != drafted
    assert 1 - float(changed.float().mean()) == pytest.approx(overlap, abs=4 * (overlap * (1 - overlap) / ROWS) ** 0.5)
    assert (p > q)[tokens[changed]].all()


def test_equal_distributions_accept_every_draft() -> None:
    p, _ = distributions(0)
    drafted = torch.multinomial(p, ROWS, replacement=True)
    assert torch.equal(reject(p.expand(ROWS, -1), p.expand(ROWS, -1), drafted), drafted)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_tempered_softmax(temperature: float) -> None:
    torch.manual_seed(7)
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(7)).mul(2)
    tokens = sample(logits.expand(ROWS, -1), torch.full((ROWS, 1), temperature))
    expected = (logits.double() / temperature).softmax(-1).numpy()
    assert chisquare(torch.bincount(tokens, minlength=VOCAB).numpy(), ROWS * expected).pvalue > SURELY_WRONG


def test_softmax_is_float32_whatever_comes_in() -> None:
    found = softmax(torch.randn(3, VOCAB).to(torch.bfloat16))
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(-1), torch.ones(3))


@pytest.mark.parametrize(("tokens", "experts", "chosen"), [(1, 8, 2), (16, 8, 2), (64, 128, 8), (5, 4, 4)])
def test_routing_visits_distinct_experts(tokens: int, experts: int, chosen: int) -> None:
    counts = visits(tokens, experts, chosen, seed=0)
    assert sum(counts) == tokens * chosen
    assert max(counts) <= tokens  # a token visits an expert at most once
    touched = np.mean([sum(c > 0 for c in visits(tokens, experts, chosen, seed)) for seed in range(200)])
    expected = experts * (1 - (1 - chosen / experts) ** tokens)
    assert touched == pytest.approx(expected, abs=0.05 * experts)


def test_an_expert_layer_computes_each_expert_on_its_own_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.randn(3, 2 * 16, 8, generator=generator)
    down = torch.randn(3, 8, 16, generator=generator)
    x = torch.randn(6, 8, generator=generator)
    counts = [4, 0, 2]
    found = ExpertWeights(gate_up, down).run(x, counts, torch.tensor([4, 4, 6], dtype=torch.int32))
    for rows, expert in ((slice(0, 4), 0), (slice(4, 6), 2)):
        gate, up = (x[rows] @ gate_up[expert].T).chunk(2, -1)
        expected = (torch.nn.functional.silu(gate) * up) @ down[expert].T
        assert torch.allclose(found[rows], expected, atol=1e-4)
