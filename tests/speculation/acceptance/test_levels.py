"""Latent levels and confidences: quadrature, closed forms, pooled against per-request means, confidence stops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.speculation.acceptance import (
    AcceptanceDraws,
    BetaLevels,
    ConfidenceAcceptance,
    ConfidenceLevel,
    ConstantAcceptance,
    DiscreteLevels,
    LatentAcceptance,
    Spans,
)
from specsim.speculation.acceptance.levels import beta_levels, round_statistics

shares = st.floats(0.02, 0.98)


@given(shares, st.floats(0.05, 2000.0), st.integers(4, 48))
def test_quadrature_has_the_moments_of_a_beta_law(mean: float, concentration: float, count: int) -> None:
    """E[x^(i+1)]/E[x^i] = (a + i)/(a + b + i), exact below degree 2·count."""
    nodes, weights = beta_levels(np.array(mean), concentration, count)
    expected = 1.0
    for power in range(1, 8):
        expected *= (mean * concentration + power - 1) / (concentration + power - 1)
        assert weights @ nodes**power == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert weights.sum() == pytest.approx(1.0)


def test_acceptance_lengths_of_one_and_a_half_and_four_pool_to_2_18() -> None:
    levels = DiscreteLevels(rates=(1 / 3, 3 / 4), weights=(1.0, 1.0))  # AL 1.5 and 4 at unlimited k
    law = LatentAcceptance(requests=levels)
    found = law.by_request(80)
    assert found.acceptance_length == pytest.approx([1.5, 4.0])
    assert found.mean == pytest.approx(2.75)
    assert found.standard_deviation == pytest.approx(1.25)
    assert law.expected_tokens(80) == pytest.approx(2 / (1 / 1.5 + 1 / 4))  # 2.18


@given(shares, st.floats(0.5, 100.0), st.integers(1, 10))
def test_mean_over_requests_is_the_sum_of_beta_moments(mean: float, concentration: float, k: int) -> None:
    law = LatentAcceptance(requests=BetaLevels(mean=mean, concentration=concentration))
    moments = np.cumprod((mean * concentration + np.arange(k)) / (concentration + np.arange(k)))
    assert law.by_request(k).mean == pytest.approx(1 + moments.sum())
    assert law.expected_tokens(k) <= law.by_request(k).mean + 1e-12  # slow requests take more rounds


@given(shares, st.integers(1, 8))
def test_requests_that_hardly_differ_are_constant_acceptance(mean: float, k: int) -> None:
    law = LatentAcceptance(requests=BetaLevels(mean=mean, concentration=1e7))
    assert law.expected_tokens(k) == pytest.approx(ConstantAcceptance(rate=mean).expected_tokens(k), rel=1e-5)


@given(shares, st.floats(0.5, 20.0), st.integers(1, 8))
def test_spans_of_one_token_are_constant_acceptance_within_a_request(
    mean: float, concentration: float, k: int
) -> None:
    """A level drawn anew for each token leaves independent drafts of the mean rate."""
    levels = DiscreteLevels(rates=(mean,), weights=(1.0,))
    law = LatentAcceptance(requests=levels, spans=Spans(mean_tokens=1.0, concentration=concentration))
    assert law.survival(k) == pytest.approx(ConstantAcceptance(rate=mean).survival(k))


def test_long_spans_are_like_requests_of_their_own() -> None:
    one_kind = DiscreteLevels(rates=(0.6,), weights=(1.0,))
    long = LatentAcceptance(requests=one_kind, spans=Spans(mean_tokens=1e6, concentration=4.0))
    apart = LatentAcceptance(requests=BetaLevels(mean=0.6, concentration=4.0))
    assert long.survival(5) == pytest.approx(apart.survival(5), rel=1e-4)


def test_spans_make_conditional_rates_rise_and_rounds_correlate() -> None:
    """A mix of easy and hard spans: reaching the third draft says that the span is an easy one."""
    one_kind = DiscreteLevels(rates=(0.6,), weights=(1.0,))
    law = LatentAcceptance(requests=one_kind, spans=Spans(mean_tokens=30.0, concentration=1.5))
    assert np.all(np.diff(law.conditional_rates(6)) > 0)
    rounds = AcceptanceDraws(law, 0).replay(np.array([0]), np.array([40_000]), 4).accepted
    assert np.corrcoef(rounds[:-1], rounds[1:])[0, 1] > 0.2


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=4), st.floats(0.0, 0.95), st.integers(1, 5))
@settings(max_examples=30)
def test_chain_of_levels_against_brute_force(levels: list[tuple[float, float]], persistence: float, k: int) -> None:
    """Follow one token at a time instead: the chain over (level, drafts accepted in this round)."""
    rates = np.array([rate for rate, _ in levels])
    weights = np.array([weight for _, weight in levels])
    weights /= weights.sum()
    move = persistence * np.eye(len(rates)) + (1 - persistence) * np.ones((len(rates), 1)) * weights
    size = len(rates)
    step = np.zeros(((k + 1) * size,) * 2)  # state j·size + level: j drafts accepted, the next token at this level
    for j in range(k + 1):
        for level in range(size):
            right = rates[level] if j < k else 0.0
            row = j * size + level
            if j < k:
                step[row, (j + 1) * size : (j + 2) * size] += right * move[level]
            step[row, :size] += (1 - right) * move[level]
    system = step.T - np.eye(len(step)) + 1.0
    stationary = np.linalg.solve(system, np.ones(len(step))).reshape(k + 1, size).sum(axis=1)
    found = round_statistics(rates, weights, persistence, k)
    assert found.survival == pytest.approx(stationary[1:] / stationary[0])


LEVELS = (
    ConfidenceLevel(confidence=0.2, weight=1.0, rate=0.15),
    ConfidenceLevel(confidence=0.6, weight=1.0),
    ConfidenceLevel(confidence=0.95, weight=2.0, rate=0.98),
)


def test_independent_confidences_accept_the_mean_rate() -> None:
    law = ConfidenceAcceptance(levels=LEVELS)
    mean = (0.15 + 0.6 + 2 * 0.98) / 4
    assert law.expected_tokens(5) == pytest.approx(ConstantAcceptance(rate=mean).expected_tokens(5))


def test_a_stop_at_zero_never_stops_and_one_above_all_never_drafts() -> None:
    law = ConfidenceAcceptance(levels=LEVELS, persistence=0.5)
    free = law.stopped(6, 0.0)
    assert (free.tokens, free.drafted, free.passes) == pytest.approx((law.expected_tokens(6), 6.0, 6.0))
    never = law.stopped(6, 1.1)
    assert (never.tokens, never.drafted, never.passes) == pytest.approx((1.0, 0.0, 1.0))
    kept = law.stopped(6, 1.1, keep_last=True)
    assert (kept.tokens, kept.drafted, kept.passes) == pytest.approx((law.expected_tokens(1), 1.0, 1.0))


def test_a_stop_by_hand() -> None:
    """Half the drafts at 0.9, half at 0.1, k = 2, stop below 0.5, the low one dropped."""
    levels = (ConfidenceLevel(confidence=0.9, weight=1.0), ConfidenceLevel(confidence=0.1, weight=1.0))
    found = ConfidenceAcceptance(levels=levels).stopped(2, 0.5)
    assert found.tokens == pytest.approx(1 + 0.45 + 0.45**2)
    assert found.drafted == pytest.approx(0.5 + 0.25)
    assert found.passes == pytest.approx(1.5)


@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_stopped_rounds_against_drawn_ones(keep_last: bool, persistence: float) -> None:
    law, k, threshold, requests = ConfidenceAcceptance(levels=LEVELS, persistence=persistence), 5, 0.5, 400
    draws, ids = AcceptanceDraws(law, 9), np.arange(requests)
    positions = np.ones(requests, dtype=np.int64)
    tokens, drafted, passes = [], [], []
    for _ in range(300):
        low = draws.confidences(ids, positions, k) < threshold
        stop = np.where(low.any(axis=1), low.argmax(axis=1), k)
        offered = np.minimum(stop + keep_last, k)
        accepted = draws.accepted(ids, positions, offered)
        positions += accepted + 1
        tokens.append(accepted + 1)
        drafted.append(offered)
        passes.append(np.minimum(stop + 1, k))
    expected = law.stopped(k, threshold, keep_last=keep_last)
    for drawn, mean in ((tokens, expected.tokens), (drafted, expected.drafted), (passes, expected.passes)):
        by_request = np.array(drawn).mean(axis=0)
        assert abs(by_request.mean() - mean) <= 5 * by_request.std() / np.sqrt(requests) + 1e-3 * mean


def test_a_stop_saves_drafts_at_little_loss_where_confidence_is_calibrated() -> None:
    """Accepted per drafted token rises with the threshold, tokens per round fall."""
    law = ConfidenceAcceptance(levels=LEVELS)
    found = [law.stopped(8, threshold) for threshold in (0.0, 0.5, 0.7)]
    per_draft = [(one.tokens - 1) / one.drafted for one in found]
    assert per_draft == sorted(per_draft)
    assert [one.tokens for one in found] == sorted((one.tokens for one in found), reverse=True)
