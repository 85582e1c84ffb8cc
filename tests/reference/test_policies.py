"""The engine follows the policies that the simulator follows: each request as if it were alone, and no other text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.generate import Engine, generate  # noqa: E402
from specsim.reference.drafters import DraftModel, NGram  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.results import AcceptanceCounts  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import (  # noqa: E402
    AcceptanceDraws,
    AcceptanceLaw,
    ConfidenceAcceptance,
    ConfidenceLevel,
    ConstantAcceptance,
    GeometricRuns,
    HurdleAcceptance,
)
from specsim.speculation.policy import (  # noqa: E402
    ConfidencePolicy,
    Decider,
    FixedPolicy,
    PlusMinusPolicy,
    ProfiledPolicy,
    Rounds,
    Setting,
    ThroughputPolicy,
    Tier,
    TieredPolicy,
    VerifyBudgetPolicy,
)

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=37,
)  # fmt: skip
OUTPUT_TOKENS = (30, 7, 40, 1, 20, 60)
K, SEED = 5, 9
CONFIDENCE = ConfidenceAcceptance(
    levels=(ConfidenceLevel(confidence=0.9, weight=3), ConfidenceLevel(confidence=0.4, weight=2)), persistence=0.5
)


class Flat:
    """Rounds of one second and a tenth more a draft."""

    def step(self, groups: Any, *, drafting: Any, draft_tokens: int, drafting_kv_tokens: Any) -> Any:
        return self.decode_round(sum(g.sequences for g in groups), draft_tokens, drafting_kv_tokens)

    def decode_round(self, batch: Any, draft_tokens: int, context_tokens: Any) -> Any:
        class Price:
            seconds = np.asarray(batch) * 0.0 + 1.0 + 0.1 * draft_tokens

        return Price()


def start(policy: Any, law: AcceptanceLaw) -> Decider:
    decider: Decider = policy.start(Setting(Flat(), law, tuple(range(K + 1)), 8, 50.0))
    return decider


def prompts() -> list[Any]:
    generator = np.random.default_rng(11)
    return [generator.integers(0, SPEC.vocab_size, length) for length in (1, 2, 5, 9, 20, 33)]


def transformer(noise: float = 0.0) -> Transformer:
    return Transformer(SPEC, device="cpu", dtype=torch.float64, max_sequences=6, max_length=120, seed=5, noise=noise)


def decode(law: AcceptanceLaw | None, policy: Any, *, ngram: bool = False, noise: float = 0.05) -> Any:
    drafter = NGram() if ngram else DraftModel(transformer(noise))
    engine = Engine(transformer(), drafter, AcceptanceDraws(law, SEED) if law else None)
    decider = start(policy, law or ConstantAcceptance(rate=0.5))
    return generate(engine, prompts(), OUTPUT_TOKENS, draft_tokens=K, decider=decider)


def alone(law: AcceptanceLaw, policy: Any) -> AcceptanceCounts:
    """Each request by itself, with draws and nothing else."""
    draws, counts = AcceptanceDraws(law, SEED), AcceptanceCounts()
    for number, length in enumerate(OUTPUT_TOKENS):
        decider, request, position = start(policy, law), np.array([number]), 1
        while position < length:
            k = decider.draft_tokens(1, 1.0)
            here = np.array([position])
            confidences = draws.confidences(request, here, k) if decider.needs_confidences else None
            drafted = draws.proposed(request, here, decider.lengths(request, k, confidences).lengths)
            accepted = draws.accepted(request, here, drafted)
            counts.add(int(drafted[0]), int(accepted[0]))
            if drafted[0]:
                decider.observe(Rounds(request, drafted, accepted, 1))
            position += int(accepted[0]) + 1
    return counts


HURDLE = HurdleAcceptance(hit_rate=0.3, runs=GeometricRuns(continue_rate=0.8), false_match_rate=0.2)


@pytest.mark.parametrize(
    ("law", "policy"),
    [
        (CONFIDENCE, ConfidencePolicy(threshold=0.6)),
        (CONFIDENCE, ConfidencePolicy(threshold=0.6, keep_last=True)),
        (ConstantAcceptance(rate=0.6), PlusMinusPolicy(initial=2)),
        (HURDLE, PlusMinusPolicy(initial=2)),
    ],
    ids=["stop", "stop-keeping", "plus-minus", "plus-minus-copying"],
)
def test_each_request_s_rounds_are_those_it_would_have_alone(law: AcceptanceLaw, policy: Any) -> None:
    _, counts = decode(law, policy)
    assert counts.as_table() == alone(law, policy).as_table()


def test_rounds_without_a_match_draft_nothing() -> None:
    """The record h[d][j] of imposed copying is that of the draws, rounds without drafts among them."""
    _, counts = decode(HURDLE, FixedPolicy(k=K), ngram=True)
    ids, lengths = np.arange(6), np.array(OUTPUT_TOKENS)
    expected = AcceptanceDraws(HURDLE, SEED).replay(ids, lengths, K).counts()
    assert counts.as_table() == expected.as_table()
    assert counts.rounds[0][0] > 0


@pytest.mark.parametrize(
    "policy",
    [
        PlusMinusPolicy(initial=2),
        ProfiledPolicy(),
        ThroughputPolicy(explore=0.5),
        TieredPolicy(tiers=(Tier(first_batch=1, choices=(0, 1, 4), interval=1, warmup=0),)),
    ],
    ids=lambda policy: policy.kind,
)
@pytest.mark.parametrize("ngram", [False, True])
def test_no_policy_changes_the_text(policy: Any, ngram: bool) -> None:
    plain, _ = generate(Engine(transformer()), prompts(), OUTPUT_TOKENS)
    outputs, counts = decode(None, policy, ngram=ngram)
    assert [o.tolist() for o in outputs] == [o.tolist() for o in plain]
    assert counts.drafted() > 0


def test_a_budget_over_the_batch_is_kept() -> None:
    _, counts = decode(CONFIDENCE, VerifyBudgetPolicy(k=K, tokens=1))
    rounds = {d: sum(row.values()) for d, row in counts.rounds.items()}
    assert rounds[1] > 0
    assert rounds[0] > rounds[1]  # one draft a step for up to six sequences
    assert sum(n for d, n in rounds.items() if d > 1) == 0


def test_confidences_must_come_from_somewhere() -> None:
    with pytest.raises(InvalidInput, match="impose acceptance of kind confidence"):
        decode(None, ConfidencePolicy(threshold=0.5), ngram=True)


@pytest.mark.parametrize("policy", [ConfidencePolicy(threshold=0.15), VerifyBudgetPolicy(k=K, tokens=4)])
def test_a_drafter_s_own_confidences_serve_where_none_are_imposed(policy: Any) -> None:
    """The text stays, and fewer drafts than without the policy are verified."""
    plain, _ = generate(Engine(transformer()), prompts(), OUTPUT_TOKENS)
    outputs, counts = decode(None, policy, noise=0.5)
    _, always = decode(None, FixedPolicy(k=K), noise=0.5)
    assert [o.tolist() for o in outputs] == [o.tolist() for o in plain]
    assert 0 < counts.drafted() < always.drafted()
