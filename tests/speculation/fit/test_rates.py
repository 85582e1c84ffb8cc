"""Rates fitted from h[d][j]: by hand, back from known laws, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    AcceptanceLaw,
    BetaLevels,
    ConditionalAcceptance,
    ConstantAcceptance,
    LatentAcceptance,
    PowerLawAcceptance,
)
from specsim.speculation.fit import (
    counts_from_rates,
    fit_conditional,
    fit_constant,
    fit_power_law,
    pooled_acceptance_length,
)


def record(table: dict[int, list[int]]) -> AcceptanceCounts:
    counts = AcceptanceCounts()
    for drafted, row in table.items():
        for accepted, rounds in enumerate(row):
            counts.add(drafted, accepted, rounds)
    return counts


def drawn(law: AcceptanceLaw, seed: int, *, requests: int, tokens: int, k: int) -> list[AcceptanceCounts]:
    rounds = AcceptanceDraws(law, seed).replay(np.arange(requests), np.full(requests, tokens), k)
    return [rounds.of(request).counts() for request in range(requests)]


def test_a_histogram_by_hand() -> None:
    found = fit_conditional(record({0: [99], 3: [10, 20, 30, 40]}))
    assert found.law().survival(3) == pytest.approx([0.9, 0.7, 0.4])
    assert found.trials == (100, 90, 70)
    assert found.acceptance_length(3).value == pytest.approx(3.0)


def test_mixed_draft_lengths_by_hand() -> None:
    """a_2 counts only rounds that drafted a second token: of 60 that got there 45 accepted it."""
    found = fit_conditional(record({1: [20, 80], 2: [40, 15, 45]}))
    assert [rate.value for rate in found.rates] == pytest.approx([140 / 200, 45 / 60])
    assert found.trials == (200, 60)


def test_the_error_of_the_acceptance_length_is_that_of_a_mean() -> None:
    """At one k the fitted length is 1 + the mean of j, so its error is sd(j)/√n."""
    ends = [10, 20, 30, 40]
    spread = np.repeat(np.arange(4), ends).std()
    assert fit_conditional(record({3: ends})).acceptance_length(3).standard_error == pytest.approx(spread / 10)


def test_a_rate_of_zero_and_one_still_have_an_interval() -> None:
    found = fit_conditional(record({2: [0, 10, 0]}))
    assert [rate.value for rate in found.rates] == [1.0, 0.0]
    assert found.rates[0].low == pytest.approx(1 / (1 + 1.96**2 / 10), abs=1e-4)  # Wilson at 10 of 10
    assert found.rates[1].high == pytest.approx(1 - 1 / (1 + 1.96**2 / 10), abs=1e-4)


def test_intervals_cover_the_truth_as_often_as_they_claim() -> None:
    law, inside = ConditionalAcceptance(rates=(0.8, 0.6, 0.7)), []
    for seed in range(200):
        found = fit_conditional(drawn(law, seed, requests=1, tokens=300, k=3)[0])
        length = found.acceptance_length(3)
        inside += [
            *(rate.low <= true <= rate.high for rate, true in zip(found.rates, law.rates, strict=True)),
            length.low <= law.expected_tokens(3) <= length.high,
        ]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_requests_that_differ_widen_the_interval_until_it_covers() -> None:
    law, apart, pooled = LatentAcceptance(requests=BetaLevels(mean=0.6, concentration=6.0)), [], []
    true = law.expected_tokens(4)
    for seed in range(100):
        requests = drawn(law, seed, requests=60, tokens=300, k=4)
        together = AcceptanceCounts()
        for one in requests:
            for j, n in one.rounds[4].items():
                together.add(4, j, n)
        for found, hits in ((fit_conditional(requests), apart), (fit_conditional(together), pooled)):
            length = found.acceptance_length(4)
            hits.append(length.low <= true <= length.high)
    assert np.mean(apart) >= 0.85
    assert np.mean(pooled) < 0.6  # rounds taken as independent: far too sure


@given(st.floats(0.1, 0.9), st.integers(1, 6))
def test_constant_rate_is_found_exactly_in_its_own_proportions(rate: float, k: int) -> None:
    counts = AcceptanceCounts()
    for accepted in range(k + 1):
        share = rate**accepted * (1 - rate if accepted < k else 1.0)
        counts.add(k, accepted, round(1e9 * share))
    found = fit_constant(counts)
    assert found.rate.value == pytest.approx(rate, rel=1e-6)
    assert found.rate.standard_error == pytest.approx(np.sqrt(rate * (1 - rate) / found.trials), rel=1e-5)


def test_constant_rate_is_covered() -> None:
    law = ConstantAcceptance(rate=0.7)
    fits = [fit_constant(drawn(law, seed, requests=1, tokens=400, k=5)[0]).rate for seed in range(200)]
    assert 0.91 <= np.mean([fit.low <= 0.7 <= fit.high for fit in fits]) <= 0.99


def test_power_law_is_found_and_covered() -> None:
    law, hits = PowerLawAcceptance(c=0.8, gamma=0.55), []
    for seed in range(100):
        found = fit_power_law(drawn(law, seed, requests=1, tokens=1500, k=6)[0])
        hits += [found.c.low <= 0.8 <= found.c.high, found.gamma.low <= 0.55 <= found.gamma.high]
    assert 0.90 <= np.mean(hits) <= 0.99
    assert found.law().expected_tokens(6) == pytest.approx(law.expected_tokens(6), rel=0.06)


def test_pooled_counters_weight_slow_requests_more() -> None:
    assert pooled_acceptance_length([1.5, 4.0], [1000, 1000]) == pytest.approx(2.1818, abs=1e-4)


def test_logged_rates_become_a_record() -> None:
    counts = counts_from_rates((0.5, 0.2), 10)
    assert counts.as_table() == {"2": [5, 3, 2]}
    assert fit_conditional(counts).law().survival(2) == pytest.approx([0.5, 0.2])
    with pytest.raises(InvalidInput, match="at position 2 exceeds the one before"):
        counts_from_rates((0.5, 0.6), 10)


def test_records_without_rounds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no round that drafted"):
        fit_conditional(record({0: [5]}))
    with pytest.raises(InvalidInput, match="record at k = 2 or more"):
        fit_power_law(record({1: [5, 5]}))
    with pytest.raises(InvalidInput, match="accepted 3 of 2 drafts"):
        fit_constant(record({2: [1, 1, 1, 1]}))
