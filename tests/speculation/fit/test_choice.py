"""The law of a log: known laws found again, the choice between them, and what pooled counters do not tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    BetaLevels,
    ConstantAcceptance,
    DiscreteLevels,
    GeometricRuns,
    HurdleAcceptance,
    LatentAcceptance,
)
from specsim.speculation.fit import (
    choose_law,
    fit_decaying_levels,
    fit_hurdle_rounds,
    fit_request_levels,
    law_of_mean,
    observed,
    spread_given,
)
from tests.speculation.fit.logs import CASES, Case


@pytest.mark.full
def test_known_laws_are_recovered_from_logs_of_2000_requests(tmp_path: Path) -> None:
    missed = [case for case in CASES if not case.recovered(case.fitted(tmp_path))]
    assert len(CASES) == 20
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[9]], ids=lambda case: f"{case.kind} {case.written}")
def test_a_sample_of_them_is_recovered(case: Case, tmp_path: Path) -> None:
    found = case.fitted(tmp_path)
    assert case.recovered(found), found


def test_one_rate_is_taken_where_nothing_beats_it_surely() -> None:
    counts = AcceptanceDraws(ConstantAcceptance(rate=0.6), 3).replay(np.arange(300), np.full(300, 100), 3).counts()
    found = choose_law(observed(counts))
    assert found.name == "constant"
    refused = {one.name: one.refused for one in found.candidates if one.refused}
    assert refused["latent, requests"] == "needs rounds request by request"
    assert refused["hurdle, geometric runs"] == "needs rounds in order"


def test_pooled_counters_state_wider_intervals_than_their_rounds_alone_would() -> None:
    counts = AcceptanceCounts({1: {0: 400, 1: 600}})
    one = choose_law(observed(counts), level=0.95).numbers["rate"]
    # Two numbers hold together at 95 %: each at 97.5 %, z = 2.24; 2.4 times the binomial's standard error.
    half = 2.4 * 2.2414 * (0.6 * 0.4 / 1000) ** 0.5
    assert (one.high - one.low) / 2 == pytest.approx(half, rel=0.02)  # Wilson's is a little narrower


def test_counters_that_weight_by_rounds_become_the_law_of_the_requests() -> None:
    """Requests of a known spread: their own mean lies above the pooled one, as the law that drew them has it."""
    law = LatentAcceptance(requests=BetaLevels(mean=0.7, concentration=4.0))
    pooled = law.expected_tokens(4)
    found = spread_given(law_of_mean(pooled, 4, 50_000), 4.0).law
    assert isinstance(found, LatentAcceptance)
    assert isinstance(found.requests, BetaLevels)
    assert found.requests.mean == pytest.approx(0.7, abs=1e-6)
    assert found.by_request(4).mean == pytest.approx(law.by_request(4).mean)
    halves = LatentAcceptance(requests=DiscreteLevels(rates=(0.5, 1.0), weights=(1, 1)))  # AL 1.94 and 5 at k = 4
    assert halves.expected_tokens(4) == pytest.approx(2 / (1 / 1.9375 + 1 / 5))


def test_a_mean_alone_gives_its_constant_rate_and_an_interval_only_where_rounds_are_told() -> None:
    found = law_of_mean(2.44, 4, 10_000)
    assert found.numbers["rate"].value == pytest.approx(0.6312, abs=1e-4)  # (1 - 0.6312^5) / (1 - 0.6312) = 2.44
    assert found.numbers["rate"].low < 0.6312 < found.numbers["rate"].high
    assert np.isnan(law_of_mean(2.44, 4, None).numbers["rate"].low)


def test_without_decay_the_integral_over_levels_is_the_exact_one() -> None:
    law = LatentAcceptance(requests=BetaLevels(mean=0.6, concentration=5.0))
    rounds = AcceptanceDraws(law, 5).replay(np.arange(150), np.full(150, 60), 3)
    counts = [rounds.of(request).counts() for request in range(150)]
    exact, found = fit_request_levels(counts), fit_decaying_levels(counts)
    assert found.decay is not None
    assert found.decay.low <= 1.0 <= found.decay.high + 0.02
    assert found.mean.value == pytest.approx(exact.mean.value, abs=0.02)
    assert found.log_likelihood >= exact.log_likelihood - 0.1


def test_runs_of_a_copy_drafter_are_found_from_rounds_in_order_at_any_k() -> None:
    law = HurdleAcceptance(hit_rate=0.2, runs=GeometricRuns(continue_rate=0.9), false_match_rate=0.3)
    for k in (2, 8):
        rounds = AcceptanceDraws(law, 7).replay(np.arange(300), np.full(300, 150), k)
        found = fit_hurdle_rounds([rounds.of(request) for request in range(300)])
        assert found.false_match_rate is not None
        for one, truth in ((found.hit_rate, 0.2), (found.continue_rate, 0.9), (found.false_match_rate, 0.3)):
            assert abs(one.value - truth) < 3 * one.standard_error
    assert found.law().expected_tokens(8) == pytest.approx(law.expected_tokens(8), rel=0.03)


def test_rounds_that_never_drafted_have_no_law() -> None:
    with pytest.raises(InvalidInput, match="no round that drafted"):
        observed(AcceptanceCounts({0: {0: 5}}))
