"""How much requests differ: found again from drawn records, and placed where only pooled counters are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from specsim.errors import InvalidInput, NoAnswer
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    AcceptanceLaw,
    BetaLevels,
    ConstantAcceptance,
    LatentAcceptance,
    RoundHistory,
    Spans,
)
from specsim.speculation.fit import autocorrelation, fit_request_levels, fit_spans, latent_from_pooled

LAW = LatentAcceptance(requests=BetaLevels(mean=0.65, concentration=8.0))


def drawn(law: AcceptanceLaw, seed: int, *, requests: int, tokens: int, k: int) -> list[RoundHistory]:
    rounds = AcceptanceDraws(law, seed).replay(np.arange(requests), np.full(requests, tokens), k)
    return [rounds.of(request) for request in range(requests)]


def test_mean_and_spread_of_requests_are_covered() -> None:
    hits = []
    for seed in range(60):
        found = fit_request_levels([one.counts() for one in drawn(LAW, seed, requests=80, tokens=150, k=4)])
        hits += [found.mean.low <= 0.65 <= found.mean.high]
        hits += [found.concentration.low <= 8.0 <= found.concentration.high]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_at_k_1_the_likelihood_is_a_beta_binomial() -> None:
    """Its optimum must be one of SciPy's beta-binomial too, whose likelihood differs by a constant."""
    requests = [one.counts() for one in drawn(LAW, 1, requests=60, tokens=80, k=1)]
    tried = np.array([one.drafted() for one in requests])
    right = np.array([one.accepted() for one in requests])
    found = fit_request_levels(requests)

    def likelihood(mean: float, concentration: float) -> float:
        return float(betabinom.logpmf(right, tried, mean * concentration, (1 - mean) * concentration).sum())

    best = likelihood(found.mean.value, found.concentration.value)
    for mean, spread in ((1.01, 1.0), (0.99, 1.0), (1.0, 1.05), (1.0, 0.95)):
        assert likelihood(found.mean.value * mean, found.concentration.value * spread) < best


def test_the_fitted_law_is_over_requests_and_pools_back() -> None:
    """Requests are counted alike in the fit; the law's round-weighted length is that of the pooled counters."""
    requests = drawn(LAW, 4, requests=600, tokens=400, k=4)
    found = fit_request_levels([one.counts() for one in requests]).law()
    pooled = 1 + np.concatenate([one.accepted for one in requests]).mean()
    alike = np.mean([1 + one.accepted.mean() for one in requests])
    assert found.expected_tokens(4) == pytest.approx(pooled, rel=0.01)
    assert found.by_request(4).mean == pytest.approx(alike, rel=0.01)
    assert alike > pooled + 0.1


def test_spans_within_requests_are_told_from_differences_between_them() -> None:
    spans = Spans(mean_tokens=15.0, concentration=2.0)
    law = LatentAcceptance(requests=BetaLevels(mean=0.6, concentration=25.0), spans=spans)
    requests = drawn(law, 7, requests=60, tokens=240, k=4)
    found = fit_spans(requests, level=0.999)
    assert found.span_tokens is not None
    assert found.span_concentration is not None
    assert found.mean.low <= 0.6 <= found.mean.high
    assert found.span_tokens.low <= 15.0 <= found.span_tokens.high
    assert found.span_concentration.low <= 2.0 <= found.span_concentration.high
    blurred = fit_request_levels([one.counts() for one in requests])
    assert found.concentration.value > 1.5 * blurred.concentration.value  # spans no longer pass for requests
    assert found.log_likelihood > blurred.log_likelihood + 50
    assert found.law().expected_tokens(4) == pytest.approx(law.expected_tokens(4), rel=0.08)


@given(st.floats(1.1, 4.5), st.floats(0.5, 100.0))
@settings(max_examples=25)
def test_a_pooled_length_places_the_mean_level(length: float, concentration: float) -> None:
    law = latent_from_pooled(length, 4, concentration)
    assert law.expected_tokens(4) == pytest.approx(length, rel=1e-6)
    assert law.by_request(4).mean >= length - 1e-9


def test_a_pooled_length_out_of_reach_is_refused() -> None:
    with pytest.raises(NoAnswer, match=r"no law has acceptance length 5\.5 at k = 4"):
        latent_from_pooled(5.5, 4, 8.0)


def test_autocorrelation_of_independent_and_of_alternating_rounds() -> None:
    independent = drawn(ConstantAcceptance(rate=0.6), 0, requests=50, tokens=600, k=4)
    pairs = sum(len(one.accepted) - 1 for one in independent)
    found = autocorrelation(independent)
    assert found is not None
    assert abs(found) < 4.5 / np.sqrt(pairs)
    flips = RoundHistory(np.zeros(6, dtype=np.int64), np.full(6, 4), np.array([0, 2, 0, 2, 0, 2]))
    assert autocorrelation([flips]) == pytest.approx(-1.0)
    assert autocorrelation([flips], lag=2) == pytest.approx(1.0)
    assert autocorrelation([]) is None


def test_too_few_requests_are_refused() -> None:
    with pytest.raises(InvalidInput, match="give at least two"):
        fit_request_levels([AcceptanceCounts()])
    with pytest.raises(InvalidInput, match="give at least two"):
        fit_spans([])
