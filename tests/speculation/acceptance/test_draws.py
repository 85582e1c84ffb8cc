"""Every law's draws against its exact expectation, and what all draws have in common."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    AcceptanceLaw,
    BetaLevels,
    ConditionalAcceptance,
    ConfidenceAcceptance,
    ConfidenceLevel,
    ConstantAcceptance,
    DiscreteLevels,
    EmpiricalRuns,
    GeometricRuns,
    HurdleAcceptance,
    LatentAcceptance,
    LayerIndexedAcceptance,
    PowerLawAcceptance,
    RecallAcceptance,
    RoundHistory,
    Spans,
    TraceAcceptance,
    UnconditionalAcceptance,
)
from specsim.speculation.tree import RecallTable

REQUESTS, TOKENS = 300, 1200
shares = st.floats(0.02, 0.98)
confidence_levels = (
    ConfidenceLevel(confidence=0.2, weight=1.0, rate=0.1),
    ConfidenceLevel(confidence=0.6, weight=2.0, rate=0.55),
    ConfidenceLevel(confidence=0.95, weight=3.0),
)
LAWS: list[AcceptanceLaw] = [
    ConstantAcceptance(rate=0.7),
    ConditionalAcceptance(rates=(0.9, 0.6, 0.8, 0.3, 0.9)),
    UnconditionalAcceptance(rates=(0.8, 0.5, 0.5, 0.1, 0.0)),
    PowerLawAcceptance(c=0.8, gamma=0.5),
    LayerIndexedAcceptance(rates={4: 0.4, 8: 0.8}, exit_layer=6),
    LatentAcceptance(requests=BetaLevels(mean=0.7, concentration=6.0)),
    LatentAcceptance(requests=DiscreteLevels(rates=(0.2, 0.9), weights=(1.0, 3.0)), decay=0.9),
    LatentAcceptance(requests=BetaLevels(mean=0.6, concentration=20.0), spans=Spans(mean_tokens=12, concentration=2)),
    HurdleAcceptance(hit_rate=0.15, runs=GeometricRuns(continue_rate=0.9)),
    HurdleAcceptance(hit_rate=0.3, runs=EmpiricalRuns(weights=(3, 0, 1, 0, 0, 0, 5)), match_factor=1.5, min_match=2),
    ConfidenceAcceptance(levels=confidence_levels, persistence=0.7),
    TraceAcceptance(runs=((3, 2, 1, 0, 0, 4, 3, 2, 1, 0), (0, 0, 1, 0, 5, 4, 3, 2, 1, 0, 0)), cap=6),
    RecallAcceptance(table=RecallTable(recall=((0.6, 0.2, 0.1), (0.5, 0.2), (0.5, 0.1))), tree="optimal"),
]


def agree(law: AcceptanceLaw, draft_tokens: int, seed: int) -> None:
    """Pooled rates within 5 standard errors, requests being the independent units; 2/TOKENS for the first round."""
    rounds = AcceptanceDraws(law, seed).replay(np.arange(REQUESTS), np.full(REQUESTS, TOKENS), draft_tokens)
    each = np.bincount(rounds.request, minlength=REQUESTS)
    for depth, expected in enumerate(law.survival(draft_tokens), start=1):
        reached = np.bincount(rounds.request, rounds.accepted >= depth, minlength=REQUESTS)
        share = reached.sum() / each.sum()
        error = np.sqrt(((reached - share * each) ** 2).sum()) / each.sum()
        assert abs(share - expected) <= 5 * error + 2 / TOKENS, (depth, share, expected, error)


@pytest.mark.parametrize("draft_tokens", [1, 5])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_draws_have_the_expected_survival(law: AcceptanceLaw, draft_tokens: int) -> None:
    agree(law, draft_tokens, seed=3)


@given(shares, st.floats(1.0, 50.0), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=10)
def test_any_beta_law_of_requests_is_drawn_as_expected(mean: float, spread: float, k: int, seed: int) -> None:
    agree(LatentAcceptance(requests=BetaLevels(mean=mean, concentration=spread)), k, seed)


@given(shares, shares, shares, st.floats(1.0, 40.0), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=10)
def test_any_spans_are_drawn_as_expected(
    low: float, high: float, share: float, tokens: float, k: int, seed: int
) -> None:
    levels = DiscreteLevels(rates=(low, high), weights=(share, 1 - share))
    agree(LatentAcceptance(requests=levels, spans=Spans(mean_tokens=tokens, concentration=3.0)), k, seed)


@given(shares, st.floats(0.0, 0.97), st.integers(1, 12), st.floats(0.3, 3.0) | st.none(), st.integers(0, 2**31))
@settings(max_examples=15)
def test_any_hurdle_is_drawn_as_expected(hit: float, go_on: float, k: int, factor: float | None, seed: int) -> None:
    runs = GeometricRuns(continue_rate=go_on)
    agree(HurdleAcceptance(hit_rate=hit, runs=runs, match_factor=factor, min_match=2), k, seed)


@given(shares, shares, shares, st.floats(0.0, 0.95), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=10)
def test_any_confidence_law_is_drawn_as_expected(
    low: float, high: float, share: float, persistence: float, k: int, seed: int
) -> None:
    levels = (ConfidenceLevel(confidence=low, weight=share), ConfidenceLevel(confidence=high, weight=1 - share))
    agree(ConfidenceAcceptance(levels=levels, persistence=persistence), k, seed)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_draws_do_not_depend_on_company_or_history(law: AcceptanceLaw) -> None:
    ids, positions, k = np.array([5, 9, 2, 5]), np.array([17, 4, 400, 40]), np.array([4, 2, 4, 3])
    together = AcceptanceDraws(law, 3).accepted(ids, positions, k)
    fresh = AcceptanceDraws(law, 3)
    alone = [int(fresh.accepted(ids[[i]], positions[[i]], k[[i]])[0]) for i in (3, 1, 0, 2)]
    assert alone == together[[3, 1, 0, 2]].tolist()


@pytest.mark.parametrize(
    "law", [law for law in LAWS if not isinstance(law, RecallAcceptance)], ids=lambda law: law.kind
)
def test_a_longer_draft_shares_its_beginning(law: AcceptanceLaw) -> None:
    ids, positions = np.arange(500), np.arange(500) % 50 + 1
    draws = AcceptanceDraws(law, 11)
    short, long = (draws.accepted(ids, positions, np.full(500, k)) for k in (2, 5))
    assert np.array_equal(np.minimum(long, 2), short)


def test_dropped_tracks_come_back_with_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    law = HurdleAcceptance(hit_rate=0.3, runs=GeometricRuns(continue_rate=0.9))
    ids, positions, k = np.arange(64), np.arange(64) * 7 + 1, np.full(64, 5)
    plenty = AcceptanceDraws(law, 1).accepted(ids, positions, k)
    monkeypatch.setattr("specsim.speculation.acceptance.draws.TRACK_NUMBERS", 4 * 512 * 2)
    draws = AcceptanceDraws(law, 1)
    assert [int(draws.accepted(ids[[i]], positions[[i]], k[[i]])[0]) for i in range(64)] == plenty.tolist()
    assert draws.accepted(ids, positions, k).tolist() == plenty.tolist()


def test_replay_commits_every_token_and_no_round_starts_after_the_last() -> None:
    lengths = np.array([1, 2, 30, 77])
    rounds = AcceptanceDraws(ConstantAcceptance(rate=0.6), 0).replay(np.arange(4), lengths, 4)
    for request, length in enumerate(lengths.tolist()):
        committed = 1 + np.cumsum(rounds.of(request).accepted + 1)
        if length == 1:
            assert committed.size == 0
        else:
            assert committed[-1] >= length
            assert np.all(committed[:-1] < length)
    assert rounds.counts().drafting_rounds() == rounds.accepted.size


def test_rounds_become_the_record() -> None:
    rounds = RoundHistory(np.array([0, 0, 1]), np.array([0, 3, 3]), np.array([0, 2, 2]))
    assert rounds.counts().rounds == {0: {0: 1}, 3: {2: 2}}


def test_only_a_law_with_confidences_gives_them() -> None:
    draws = AcceptanceDraws(ConfidenceAcceptance(levels=confidence_levels), 0)
    seen = draws.confidences(np.arange(4000), np.ones(4000, dtype=np.int64), 2)
    assert seen.shape == (4000, 2)
    for level, weight in ((0.2, 1 / 6), (0.6, 2 / 6), (0.95, 3 / 6)):
        assert (seen == level).mean() == pytest.approx(weight, abs=5 * np.sqrt(weight / 8000))
    with pytest.raises(InvalidInput, match="'constant' has no confidences"):
        AcceptanceDraws(ConstantAcceptance(rate=0.5), 0).confidences(np.array([0]), np.array([1]), 2)


@given(st.floats(0.0, 0.95), st.integers(1, 6), st.integers(2, 120))
@settings(max_examples=40)
def test_rounds_of_a_request_follow_renewal_theory(rate: float, k: int, tokens: int) -> None:
    """Against the exact recursion E_n = 1 + Σ P(X = x)·E_(n-x); the closed form is its limit for many rounds."""
    law = ConstantAcceptance(rate=rate)
    survival = np.concatenate(([1.0], law.survival(k), [0.0]))
    ends = survival[:-1] - survival[1:]  # P(accepted = j)
    exact = np.zeros(tokens)
    for n in range(1, tokens):
        exact[n] = 1 + sum(p * exact[max(n - 1 - j, 0)] for j, p in enumerate(ends))
    closed = law.expected_rounds(tokens, k)
    assert closed == pytest.approx(exact[-1], abs=0.5)  # never off by more than half a round
    if tokens > 20 * (k + 1) and rate < 0.9:
        assert closed == pytest.approx(exact[-1], rel=2e-3)


def test_first_token_needs_no_round() -> None:
    assert ConstantAcceptance(rate=0.5).expected_rounds(1, 3) == 0.0
    assert ConstantAcceptance(rate=0.0).expected_rounds(8, 3) == pytest.approx(7.0)
    assert ConstantAcceptance(rate=0.8).expected_rounds(33, 4) == pytest.approx(9.984, abs=0.001)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_expected_tokens_of_an_array_are_those_of_its_elements(law: AcceptanceLaw) -> None:
    lengths = np.array([[0, 3], [5, 1]])
    each = [[law.expected_tokens(int(k)) for k in row] for row in lengths]
    assert law.expected_tokens(lengths) == pytest.approx(np.array(each))
    assert law.expected_tokens(0) == 1.0
    survival = law.survival(5)
    assert np.all(np.diff(survival) <= 1e-12)
    assert np.cumprod(law.conditional_rates(5)) == pytest.approx(survival)
