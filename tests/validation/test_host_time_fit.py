"""Host times fitted to synthetic rounds of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from tests.validation.studies import study_module

study = study_module("spec-bench", "host_time_fit")
fit_host_time, round_ratio, with_host_time = study.fit_host_time, study.round_ratio, study.with_host_time
PASSES = np.array([1.0, 2.0, 3.0, 5.0, 7.0])
KERNELS_S = np.array([9e-3, 12e-3, 10e-3, 14e-3, 30e-3])
PLAIN_S = 9e-3
MOST_S = 0.1


def ratios(host_s: float) -> Floats:
    """Rounds of several passes over plain steps of one, each pass waiting for the host."""
    return (KERNELS_S + PASSES * host_s) / (PLAIN_S + host_s)


def overlapped(host_s: float) -> Floats:
    """Passes that take their kernels or their launches, whichever is longer."""
    return np.maximum(KERNELS_S, PASSES * host_s) / max(PLAIN_S, host_s)


@given(st.floats(1e-5, 0.05))
def test_the_truth_is_found(truth: float) -> None:
    fit = fit_host_time(ratios(truth), ratios, most_s=MOST_S)
    assert fit.seconds == pytest.approx(truth, rel=1e-4)
    assert fit.mean_absolute_error < 1e-6
    assert not fit.at_limit


@given(st.floats(5e-3, 8e-3))
def test_the_truth_is_found_through_kinks(truth: float) -> None:
    """Where some rounds hide their launches behind kernels and others do not."""
    fit = fit_host_time(overlapped(truth), overlapped, most_s=MOST_S)
    assert fit.seconds == pytest.approx(truth, rel=1e-3)


@given(st.floats(1e-3, 0.02), st.floats(0.1, 10.0))
@settings(max_examples=30)
def test_round_times_serve_as_well_as_ratios(truth: float, unit: float) -> None:
    def times(host_s: float) -> Floats:
        return unit * (KERNELS_S + PASSES * host_s)

    assert fit_host_time(times(truth), times, most_s=MOST_S).seconds == pytest.approx(truth, rel=1e-4)


def test_no_host_time_is_found_as_none() -> None:
    assert fit_host_time(ratios(0.0), ratios, most_s=MOST_S).seconds < 1e-6


def test_the_fit_is_a_minimum_among_all_others() -> None:
    """Data that no host time explains: nothing on a fine grid does better."""
    measured = np.array([1.1, 1.9, 1.3, 2.4, 4.4])
    fit = fit_host_time(measured, ratios, most_s=MOST_S)
    grid = [float((np.log(ratios(host_s) / measured) ** 2).sum()) for host_s in np.linspace(0, MOST_S, 4001)]
    assert float((fit.errors**2).sum()) <= min(grid) * (1 + 1e-9)
    np.testing.assert_allclose(fit.errors, np.log(ratios(fit.seconds) / measured), atol=1e-12)


def test_the_standard_error_is_the_spread_of_repeats() -> None:
    """400 data sets with 3 % noise: mean of the fits on the truth, their spread what each of them states."""
    truth, noise, generator = 4e-3, 0.03, np.random.default_rng(11)
    fits = [
        fit_host_time(ratios(truth) * np.exp(generator.normal(0, noise, len(PASSES))), ratios, most_s=MOST_S)
        for _ in range(400)
    ]
    found = np.array([fit.seconds for fit in fits])
    # s from four degrees of freedom is low by 6 % in the mean; 10 % more for the curve's bend and for 400 sets.
    stated = np.mean([fit.standard_error_s for fit in fits if fit.standard_error_s is not None])
    assert abs(found.mean() - truth) < 0.03 * truth
    assert found.std() == pytest.approx(stated, rel=0.16)


def test_rows_that_do_not_depend_on_the_host_leave_it_open() -> None:
    fit = fit_host_time([2.0, 3.0], lambda host_s: np.array([2.1, 2.9]), most_s=MOST_S)
    assert fit.standard_error_s is None


def test_one_row_states_no_error() -> None:
    fit = fit_host_time(ratios(2e-3)[3:4], lambda host_s: ratios(host_s)[3:4], most_s=MOST_S)
    assert fit.seconds == pytest.approx(2e-3, rel=1e-4)
    assert fit.standard_error_s is None


def test_a_host_slower_than_allowed_is_reported() -> None:
    fit = fit_host_time(ratios(0.3), ratios, most_s=MOST_S)
    assert fit.at_limit
    assert fit.standard_error_s is None
    assert fit.seconds == pytest.approx(MOST_S, rel=1e-3)


@pytest.mark.parametrize(("measured", "shown"), [([], "no measured rows"), ([1.2, -1.0], "-1"), ([np.nan], "nan")])
def test_what_cannot_be_a_time_is_refused(measured: list[float], shown: str) -> None:
    with pytest.raises(InvalidInput, match=shown):
        fit_host_time(measured, ratios, most_s=MOST_S)


# -- through a scenario ---------------------------------------------------------------------------------------------


def two_models(**engine: object) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "pair",
            "model": "llama-7b",
            "gpu": "rtx-3090",
            "engine": {"kind": "reference"} | engine,
            "cost": {"source": "roofline"},
            "speculation": {
                "program": "draft-model",
                "draft_model": "vicuna-68m",
                "max_draft_tokens": 4,
                "acceptance": {"kind": "constant", "rate": 0.5},
            },
            "workload": {
                "kind": "synthetic",
                "requests": 1,
                "arrivals": {"kind": "closed_loop", "concurrency": 1},
                "lengths": {"kind": "fixed", "prompt_tokens": 400, "output_tokens": 200},
            },
        }
    )


def ratio(scenario: Scenario, draft_tokens: int = 4) -> float:
    return round_ratio(scenario, draft_tokens, context_tokens=500.0)


def test_a_pass_of_the_host_is_paid_once_by_a_step_and_once_by_each_draft_pass() -> None:
    """(round + 5h) / (step + h) with four draft passes, from two ratios without and with a host."""
    bare, slow = (with_host_time(two_models(), "pass", seconds) for seconds in (0.0, 7e-3))
    step_s = assemble(bare.without_speculation()).cost.decode_round(1, 0, 500.0).seconds
    assert ratio(slow) == pytest.approx((ratio(bare) * step_s + 5 * 7e-3) / (step_s + 7e-3))


def test_launches_are_free_until_they_outlast_the_kernels() -> None:
    free, quick, slow = (ratio(with_host_time(two_models(), "launch", x)) for x in (0.0, 1e-6, 1e-3))
    assert quick == pytest.approx(free, rel=0.01)
    # Far beyond: a round is its launches. A draft pass has 2 of 32 layers and as many launches outside of them.
    assert 1 + 4 * 2 / 32 < slow < 1 + 4 * 3 / 32


@pytest.mark.parametrize("kind", ["pass", "launch"])
def test_a_scenario_s_own_host_is_recovered(kind: str) -> None:
    truth = {"pass": 3e-3, "launch": 60e-6}[kind]
    asked = two_models(graph_sizes=(8, 16), host_step_s=1.0, host_draft_pass_s=1.0)  # all of which it replaces

    def predict(seconds: float) -> Floats:
        there = with_host_time(asked, kind, seconds)
        return np.array([ratio(there, k) for k in (1, 2, 4)])

    assert fit_host_time(predict(truth), predict, most_s=0.05).seconds == pytest.approx(truth, rel=1e-3)
