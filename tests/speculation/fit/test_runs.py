"""Run laws found again from K-free traces and from counters, and what they then say about another k."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    EmpiricalRuns,
    GeometricRuns,
    HurdleAcceptance,
    TraceAcceptance,
)
from specsim.speculation.fit import counts_from_rates, fit_hurdle, fit_hurdle_counts

LAW = HurdleAcceptance(hit_rate=0.15, runs=GeometricRuns(continue_rate=0.9))


def trace_of(law: HurdleAcceptance, seed: int, *, requests: int, tokens: int, cap: int) -> TraceAcceptance:
    """What a recorder would see: at each position, right drafts up to the cap and the output's end."""
    runs = law.track(seed, np.arange(requests), tokens + 1)[:, 1:, 0].astype(int)
    left = np.arange(tokens, 0, -1)
    return TraceAcceptance(runs=tuple(map(tuple, np.minimum(np.minimum(runs, left), cap).tolist())), cap=cap)


def test_a_trace_by_hand() -> None:
    """Runs of 2, 0 and 1, then one cut by the end after 2: hits 3 of 4, 1 + 1 continuations against 2 ends."""
    found = fit_hurdle(TraceAcceptance(runs=((2, 1, 0, 0, 1, 0, 2, 1),), cap=8))
    assert found.hit_rate.value == pytest.approx(3 / 4)
    assert found.continue_rate.value == pytest.approx(2 / 4)
    assert found.lengths == (1, 2)


def test_a_run_is_followed_past_the_cap() -> None:
    short, long = (trace_of(LAW, 3, requests=50, tokens=400, cap=cap) for cap in (4, 400))
    assert fit_hurdle(short) == fit_hurdle(long)


def test_hit_and_continue_rates_are_covered() -> None:
    hits = []
    for seed in range(100):
        found = fit_hurdle(trace_of(LAW, seed, requests=20, tokens=300, cap=32))
        hits += [found.hit_rate.low <= 0.15 <= found.hit_rate.high]
        hits += [found.continue_rate.low <= 0.9 <= found.continue_rate.high]
    assert 0.90 <= np.mean(hits) <= 0.99


def test_run_lengths_as_seen() -> None:
    law = HurdleAcceptance(hit_rate=0.3, runs=EmpiricalRuns(weights=(1, 0, 0, 3)))
    found = fit_hurdle(trace_of(law, 1, requests=100, tokens=2000, cap=16)).empirical_law()
    assert set(np.flatnonzero(found.runs.weights) + 1) == {1, 4}
    for k in (1, 3, 6):
        assert found.expected_tokens(k) == pytest.approx(law.expected_tokens(k), rel=0.01)


def test_cut_runs_count_for_as_long_as_they_were_seen() -> None:
    """Runs of 1 and 2, and one cut after 2: of three that began one ended after 1, of the two left one is unknown."""
    found = fit_hurdle(TraceAcceptance(runs=((2, 1, 0, 0, 1, 0, 2, 1),), cap=8)).empirical_law()
    assert found.runs.weights == pytest.approx((1 / 3, 2 / 3))


def test_short_outputs_do_not_shorten_runs() -> None:
    """Outputs of 30 tokens and runs of 10 in the mean: a quarter of the runs are cut, the long ones."""
    found = fit_hurdle(trace_of(LAW, 2, requests=4000, tokens=30, cap=32))
    assert len(found.cut) > 0.25 * len(found.lengths + found.cut)
    dropped = EmpiricalRuns(weights=tuple(np.bincount(found.lengths)[1:].tolist()))
    assert HurdleAcceptance(hit_rate=0.15, runs=dropped).expected_tokens(6) < 0.9 * LAW.expected_tokens(6)
    for k in (1, 3, 6):
        assert found.empirical_law().expected_tokens(k) == pytest.approx(LAW.expected_tokens(k), rel=0.03)


def test_counters_at_one_k_answer_for_another() -> None:
    rounds = AcceptanceDraws(LAW, 5).replay(np.arange(200), np.full(200, 2000), 3)
    found = fit_hurdle_counts(rounds.counts())
    assert found.hit_rate.low <= 0.15 <= found.hit_rate.high
    assert found.continue_rate.low <= 0.9 <= found.continue_rate.high
    naive = rounds.counts().acceptance_length()
    assert naive is not None
    for k in (1, 8, 16):
        assert found.law().expected_tokens(k) == pytest.approx(LAW.expected_tokens(k), rel=0.02)


def test_counters_in_the_law_s_own_proportions_give_it_back() -> None:
    survival = np.concatenate(([1.0], LAW.survival(4), [0.0]))
    counts = AcceptanceCounts()
    for accepted in range(5):
        counts.add(4, accepted, round(1e8 * (survival[accepted] - survival[accepted + 1])))
    found = fit_hurdle_counts(counts)
    assert (found.hit_rate.value, found.continue_rate.value) == pytest.approx((0.15, 0.9), rel=1e-5)


@pytest.mark.parametrize(
    ("rates_at_5", "length_at_1", "length_at_3"),
    [
        ((0.305, 0.276, 0.249, 0.237, 0.222), 1.51, 2.03),  # InstructCoder
        ((0.132, 0.101, 0.083, 0.072, 0.063), 1.24, 1.39),  # ShareGPT
        ((0.123, 0.089, 0.068, 0.054, 0.043), 1.20, 1.33),  # CNN/DailyMail
        ((0.078, 0.044, 0.026, 0.017, 0.012), 1.11, 1.16),  # GSM8K
    ],
)
def test_an_n_gram_drafter_measured_at_5_is_foretold_at_1_and_3(
    rates_at_5: tuple[float, ...], length_at_1: float, length_at_3: float
) -> None:
    """Real n-gram look-up on Llama-3.1-8B: K-free traces of SpecDecode-Bench (arXiv 2601.11580), replayed at each k.

    Rates measured at 5 and read off at 1 would miss InstructCoder's length by 14 %.
    """
    law = fit_hurdle_counts(counts_from_rates(rates_at_5, 1_000_000)).law()
    assert law.expected_tokens(1) == pytest.approx(length_at_1, rel=0.01)
    assert law.expected_tokens(3) == pytest.approx(length_at_3, rel=0.01)


def test_too_little_to_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no run of accepted drafts"):
        fit_hurdle(TraceAcceptance(runs=((0, 0),), cap=2))
    counts = AcceptanceCounts()
    counts.add(1, 1, 10)
    with pytest.raises(InvalidInput, match="k = 1 hold no second draft"):
        fit_hurdle_counts(counts)
