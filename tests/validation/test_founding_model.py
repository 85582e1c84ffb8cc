"""Properties of the founding model (Su, Giannoula, Pekhimenko), and the general machine under its assumptions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.validation.studies import study_module

founding = study_module("founding-study", "founding_model")
FoundingModel, tokens_per_round = founding.FoundingModel, founding.tokens_per_round

ratios = st.floats(0.01, 3.0)  # A / β
cs = st.floats(0.1, 1.0)
gammas = st.floats(0.1, 0.9)


@given(ratios, cs, gammas)
def test_one_optimum(ratio: float, c: float, gamma: float) -> None:
    """Time a token falls up to the root and rises after it."""
    model = FoundingModel(slope_s=ratio, base_s=1.0, c=c, gamma=gamma)
    best = model.continuous_optimum()
    below = [model.seconds_per_token(best * f) for f in (0.2, 0.5, 0.8, 1.0)]
    above = [model.seconds_per_token(best * f) for f in (1.0, 1.3, 2.0, 5.0)]
    rounding = 1e-9  # where the optimum is next to 0 the curve around it is flat to the last digits
    assert all(nearer <= farther * (1 + rounding) for farther, nearer in pairwise(below))
    assert all(farther >= nearer * (1 - rounding) for nearer, farther in pairwise(above))
    assert min(below[0], above[-1]) > model.seconds_per_token(best) * (1 - rounding)


@given(ratios, st.floats(1.05, 5.0), cs, gammas)
def test_optimum_falls_as_drafting_costs_more_of_a_pass(ratio: float, factor: float, c: float, gamma: float) -> None:
    cheap = FoundingModel(ratio, 1.0, c, gamma)
    dear = FoundingModel(ratio * factor, 1.0, c, gamma)
    assert dear.continuous_optimum() < cheap.continuous_optimum()
    assert dear.best_draft_tokens(64) <= cheap.best_draft_tokens(64)


@given(ratios, cs, cs, gammas)
def test_optimum_rises_with_c(ratio: float, c: float, other: float, gamma: float) -> None:
    low, high = sorted((c, other))
    assume(high > low * 1.01)
    assert (
        FoundingModel(ratio, 1.0, low, gamma).continuous_optimum()
        < FoundingModel(ratio, 1.0, high, gamma).continuous_optimum()
    )


@given(ratios, st.floats(0.1, 10.0), cs, gammas)
def test_optimum_depends_on_the_machine_only_through_the_ratio(
    ratio: float, scale: float, c: float, gamma: float
) -> None:
    one = FoundingModel(ratio, 1.0, c, gamma).continuous_optimum()
    scaled = FoundingModel(ratio * scale, scale, c, gamma).continuous_optimum()
    assert scaled == pytest.approx(one, rel=1e-6)


@given(ratios, cs, gammas)
def test_one_draft_beats_none_iff_it_costs_less_than_it_commits(ratio: float, c: float, gamma: float) -> None:
    assume(abs(ratio - c) > 1e-6)
    model = FoundingModel(ratio, 1.0, c, gamma)
    assert (model.seconds_per_token(1) < model.seconds_per_token(0)) == (ratio < c)


def test_integer_choice_may_draft_although_the_continuous_optimum_is_below_one() -> None:
    """c = 0.8, γ = 0.5, A/β = 0.31: optimum 0.88, and one draft takes 0.728 of the time of none."""
    model = FoundingModel(0.31, 1.0, 0.8, 0.5)
    assert model.continuous_optimum() == pytest.approx(0.88, abs=0.005)
    assert model.best_draft_tokens(8) == 1
    assert model.seconds_per_token(1) / model.seconds_per_token(0) == pytest.approx(1.31 / 1.8)


@given(ratios, cs, gammas)
def test_speedup_at_the_optimum_does_not_depend_on_the_machine(ratio: float, c: float, gamma: float) -> None:
    model = FoundingModel(ratio, 1.0, c, gamma)
    best = model.continuous_optimum()
    direct = model.seconds_per_token(0) / model.seconds_per_token(best)
    assert model.speedup_at_optimum() == pytest.approx(direct, rel=1e-6)
    if best > math.e * 1.01:
        assert direct <= founding.largest_speedup(best) * (1 + 1e-9)


@pytest.mark.parametrize("optimum", [4.0, 8.0, 12.0])
def test_the_bound_on_the_speedup_is_reached(optimum: float) -> None:
    """At c = 1 and γ = 1 - 1/ln s, on the machine whose optimum is s; 8 drafts: 2.42."""
    gamma = 1 - 1 / math.log(optimum)
    gained = optimum**gamma
    ratio = gamma * gained / optimum / (1 + (1 - gamma) * gained)
    model = FoundingModel(ratio, 1.0, 1.0, gamma)
    assert model.continuous_optimum() == pytest.approx(optimum, rel=1e-6)
    assert model.speedup_at_optimum() == pytest.approx(founding.largest_speedup(optimum), rel=1e-9)
    assert founding.largest_speedup(8.0) == pytest.approx(2.4153, abs=1e-4)


@given(st.integers(0, 12), st.integers(0, 6), cs, gammas, st.floats(0.001, 0.999))
def test_the_ratios_of_a_band_are_those_whose_best_length_lies_in_it(
    shortest: int, more: int, c: float, gamma: float, share: float
) -> None:
    low, high = founding.ratios_of(shortest, shortest + more, c, gamma)
    inside = low + share * (min(high, 2 * low + 1) - low)
    best = FoundingModel(inside, 1.0, c, gamma).best_draft_tokens(100)
    assert shortest <= best <= shortest + more
    below = FoundingModel(low * 0.999, 1.0, c, gamma).best_draft_tokens(100)
    assert below > shortest + more
    if high < math.inf:
        assert FoundingModel(high * 1.001, 1.0, c, gamma).best_draft_tokens(100) < shortest


@given(ratios, cs, gammas)
def test_a_table_from_prices_on_a_line_is_the_models_own(ratio: float, c: float, gamma: float) -> None:
    round_s = 0.02 * (1 + ratio * np.arange(21.0))
    line = FoundingModel.of_rounds(round_s, c, gamma)
    assert (line.slope_s, line.base_s) == pytest.approx((0.02 * ratio, 0.02), rel=1e-9)
    gain = founding.speedups(round_s, tokens_per_round(20, c, gamma))
    chosen = int(founding.best_lengths(round_s, tokens_per_round(20, c, gamma)))
    assert gain[0] == pytest.approx(1.0)
    assert gain[chosen] == pytest.approx(gain[line.best_draft_tokens(20)])
    assert gain[chosen] == pytest.approx(line.seconds_per_token(0) / line.seconds_per_token(chosen))
