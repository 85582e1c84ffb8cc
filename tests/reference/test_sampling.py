"""Sampled output has the target's own distribution whoever drafts, and the test that says so catches planted bugs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import stats  # noqa: E402
from torch import Tensor  # noqa: E402

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import generate  # noqa: E402
from specsim.reference.decoding.sampling import Sampler  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    Drafter,
    DraftModel,
    Eagle,
    EarlyExit,
    Grown,
    Medusa,
    NGram,
    SkippedLayers,
)
from specsim.reference.drafters.drafter_weights import random_feature_head, random_heads  # noqa: E402
from specsim.reference.network.layers import Sublayers  # noqa: E402
from specsim.reference.network.passes import TokenGroup  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import ConstantAcceptance  # noqa: E402
from specsim.speculation.policy import ConfidencePolicy, Setting  # noqa: E402
from specsim.speculation.tree import DraftTree  # noqa: E402

pytestmark = pytest.mark.torch

VOCABULARY, TEMPERATURE = 4, 1.3
SPEC = ModelSpec(
    name="tiny", source="test", num_layers=2, hidden_size=16, num_heads=2, num_kv_heads=1, head_dim=8,
    intermediate_size=16, vocab_size=VOCABULARY,
)  # fmt: skip
PROMPT = np.array([1, 3, 0, 1, 3])
DRAFTED_TOKENS = 3  # of each output, after a first one that the prompt gives
BATCH, BATCHES = 1000, 4
LEAST_P = 1e-3  # a right sampler fails one fixed seed in a thousand
STOP = ConfidencePolicy(threshold=0.4)
NODES = 6  # of a tree that numbers a child before its parent's sibling, and has three siblings in one place


def tree(nodes: int) -> DraftTree:
    return DraftTree((-1, 0, -1, 0, -1, 2)[:nodes])


def build(noise: float = 0.0, sequences: int = BATCH) -> Transformer:
    return Transformer(
        SPEC, device="cpu", dtype=torch.float64, max_sequences=sequences, max_length=20, seed=2, noise=noise
    )


Make = Callable[[Transformer, Sampler], Drafter]
DRAFTERS: dict[str, Make] = {
    "draft model": lambda target, sampler: DraftModel(build(0.7), sampler=sampler),
    "draft model, stop": lambda target, sampler: DraftModel(build(0.7), sampler=sampler),
    "draft model, greedy": lambda target, sampler: DraftModel(build(0.7)),
    "n-gram": lambda target, sampler: NGram(),
    "skipped layers": lambda target, sampler: SkippedLayers(
        target, Sublayers((True, False), (False, True)), sampler=sampler
    ),
    "early exit": lambda target, sampler: EarlyExit(target, 1, sampler=sampler),
    "features": lambda target, sampler: Eagle(target, random_feature_head(target, 1), sampler=sampler),
    "draft model, tree": lambda target, sampler: DraftModel(build(0.7), tree, sampler=sampler),
    "draft model, greedy tree": lambda target, sampler: DraftModel(build(0.7), tree),
    "features, tree": lambda target, sampler: Eagle(target, random_feature_head(target, 1), tree, sampler=sampler),
    "features, grown tree": lambda target, sampler: Grown(Eagle(target, random_feature_head(target, 1)), 3, 2, tree),
    "heads, tree": lambda target, sampler: Medusa(target, random_heads(target, 2, seed=1), tree),
}


@pytest.fixture(scope="module")
def law() -> np.ndarray:
    """P(tokens 2, 3, 4 of the output), [vocab, vocab, vocab], summed over the first."""
    target, joint = build(sequences=1), np.ones(1)
    for length in range(DRAFTED_TOKENS + 1):
        rows = []
        for number in range(VOCABULARY**length):
            drawn = np.array(np.unravel_index(number, (VOCABULARY,) * length), dtype=np.int64)
            text = torch.from_numpy(np.concatenate((PROMPT, drawn)))[None]
            logits = target.forward([TokenGroup(np.array([0]), text, np.array([0]), 1)])[0]
            rows.append(torch.softmax(logits / TEMPERATURE, -1).numpy())
        joint = (joint[:, None] * np.array(rows)).ravel()
    return joint.reshape((VOCABULARY,) * (DRAFTED_TOKENS + 1)).sum(axis=0)


def p_value(
    make: Make | None, law: np.ndarray, sampler: Sampler, policy: ConfidencePolicy | None = None, k: int = 3
) -> tuple[float, float]:
    """Chi-square of what the engine samples against the law, and the share of drafts accepted."""
    counts, drafted, accepted = np.zeros(law.shape, dtype=np.int64), 0, 0
    for _ in range(BATCHES):
        target = build()
        engine = Engine(target, make(target, sampler) if make else None, sampler=sampler)
        decider = None
        if policy is not None:
            decider = policy.start(
                Setting(None, ConstantAcceptance(rate=0.5), tuple(range(4)), BATCH, 8.0)  # type: ignore[arg-type]
            )
        outputs, record = generate(
            engine, [PROMPT] * BATCH, [DRAFTED_TOKENS + 1] * BATCH, draft_tokens=k if make else 0, decider=decider
        )
        np.add.at(counts, tuple(np.array(outputs)[:, 1:].T), 1)
        drafted, accepted = drafted + record.drafted(), accepted + record.accepted()
    assert counts.sum() == BATCH * BATCHES
    expected = (law * counts.sum()).ravel()
    often = expected >= 5  # the usual condition of the chi-square law; what is rarer is counted together
    assert expected[~often].sum() < 0.05 * counts.sum()
    cells = [np.append(x[often], max(x[~often].sum(), 1e-9)) for x in (counts.ravel(), expected)]
    return float(stats.chisquare(*cells).pvalue), accepted / max(1, drafted)


def test_sampling_without_drafts_follows_the_law(law: np.ndarray) -> None:
    assert p_value(None, law, Sampler(TEMPERATURE, seed=1))[0] > LEAST_P


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafts_leave_the_distribution_alone(name: str, law: np.ndarray) -> None:
    policy, k = STOP if "stop" in name else None, NODES if "tree" in name else 3
    p, rate = p_value(DRAFTERS[name], law, Sampler(TEMPERATURE, seed=3), policy, k)
    assert p > LEAST_P
    assert 0.05 < rate < 0.98


class TakesTheLikely(Sampler):
    """Keeps a draft whenever it is the target's most likely token."""

    def kept(self, target: Tensor, drafts: Tensor, drafted: Tensor) -> Tensor:
        return (target.argmax(-1) == drafts) | super().kept(target, drafts, drafted)


class KeepsTheWholeLaw(Sampler):
    """Draws from the target's law after a rejection, not from what the draft left of it."""

    def rest(self, target: Tensor, drafted: Tensor) -> Tensor:
        return target


class NormalisesNothing(Sampler):
    """Compares laws of which one does not add up to 1."""

    def kept(self, target: Tensor, drafts: Tensor, drafted: Tensor) -> Tensor:
        return super().kept(1.3 * target, drafts, drafted)


class ForgetsSiblings(Sampler):
    """Judges a later sibling as if it had been drawn first."""

    def without(self, law: Tensor, tokens: Tensor) -> Tensor:
        return law


class DrawsTwice(Sampler):
    """Draws siblings with replacement."""

    def draw_distinct(self, probabilities: Tensor, count: int) -> Tensor:
        return torch.stack([self.draw(probabilities) for _ in range(count)], dim=1)


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (TakesTheLikely, "draft model, greedy"),
        (KeepsTheWholeLaw, "draft model"),
        (KeepsTheWholeLaw, "draft model, greedy"),
        (NormalisesNothing, "draft model"),
        (TakesTheLikely, "draft model, greedy tree"),
        (KeepsTheWholeLaw, "draft model, tree"),
        (DrawsTwice, "draft model, tree"),
    ],
)
def test_the_distribution_test_catches_planted_bugs(planted: type[Sampler], name: str, law: np.ndarray) -> None:
    k = NODES if "tree" in name else 3
    assert p_value(DRAFTERS[name], law, planted(TEMPERATURE, seed=3), k=k)[0] < 1e-6


def test_rejection_keeps_the_law_whatever_the_draft() -> None:
    """One token, in closed form: q(x)·min(1, p/q) + P(rejected)·rest(x) = p(x) for every x."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 50, 6, generator=generator, dtype=torch.float64).pow(3)
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    rest = Sampler(1.0).rest(p, q)
    kept = torch.minimum(p, q)
    assert torch.allclose(rest.sum(-1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(kept + (1 - kept.sum(-1, keepdim=True)) * rest, p, atol=1e-12)


def test_a_drafter_that_is_the_target_is_never_rejected(law: np.ndarray) -> None:
    p, rate = p_value(lambda target, sampler: DraftModel(build(), sampler=sampler), law, Sampler(TEMPERATURE, seed=5))
    assert rate == 1.0
    assert p > LEAST_P


def with_siblings(sampler: Sampler, p: Tensor, q: Tensor) -> Tensor:
    """P(token) after three siblings, over all ways to draw them: Σ P(draws)·P(token | draws)."""
    total = torch.zeros(len(p), dtype=torch.float64)
    for drawn in itertools.permutations(range(len(p)), 3):
        left, true, offered, chance, refused = p, q, q, 1.0, 1.0
        output = torch.zeros(len(p), dtype=torch.float64)
        for token in drawn:
            chance *= float(true[token])
            keeps = min(1.0, float(left[token] / offered[token]))
            output[token] += refused * keeps
            refused *= 1 - keeps
            left, gone = sampler.rest(left[None], offered[None])[0], torch.tensor([[token]])
            true, offered = (s.without(law[None], gone)[0] for s, law in ((Sampler(1.0), true), (sampler, offered)))
        total += chance * (output + refused * left)
    return total


@pytest.mark.parametrize(("sampler", "right"), [(Sampler, True), (ForgetsSiblings, False), (KeepsTheWholeLaw, False)])
def test_siblings_keep_the_law_whatever_the_draft(sampler: type[Sampler], right: bool) -> None:
    generator, agree = torch.Generator().manual_seed(0), []
    for _ in range(10):
        p, q = (law / law.sum() for law in torch.rand(2, 5, generator=generator, dtype=torch.float64).pow(3))
        agree.append(torch.allclose(with_siblings(sampler(1.0), p, q), p, atol=1e-12))
    assert all(agree) == right


def test_distinct_draws_are_those_of_an_urn() -> None:
    """P(first a, then b) = q(a)·q(b)/(1 - q(a)), by chi-square; none is drawn twice."""
    q = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    drawn = Sampler(1.0, seed=4).draw_distinct(q.expand(40_000, -1), 3)
    assert (drawn.sort(dim=1).values.diff(dim=1) > 0).all()
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    counts = [int(((drawn[:, 0] == a) & (drawn[:, 1] == b)).sum()) for a, b in pairs]
    expected = [float(q[a] * q[b] / (1 - q[a])) * 40_000 for a, b in pairs]
    assert stats.chisquare(counts, expected).pvalue > LEAST_P


def test_a_cold_sampler_is_refused() -> None:
    with pytest.raises(InvalidInput, match="temperature 0"):
        Sampler(0.0)
