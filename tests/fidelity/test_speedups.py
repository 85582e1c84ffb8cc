"""Speed-ups against measured ones: what is the cost model's error, and what the acceptance law's."""

from __future__ import annotations

import pytest

from specsim.fidelity import Predicted, compare, speedup_errors
from specsim.fidelity.map_errors import counted_tokens
from specsim.results import GridRow


def row(repeat: int, batch: int, k: int, seconds: float, tokens: float) -> GridRow:
    """100 rounds of so many seconds, each of which commits ``tokens`` a sequence."""
    return GridRow(repeat, batch, k, 100.0, 100, 100 * seconds, round(100 * batch * tokens), *[seconds] * 7)


def predicted(batch: int, k: int, seconds: float, tokens: float) -> Predicted:
    return Predicted(batch, k, seconds, seconds, seconds, tokens, "measured", {}, 1.0, 2.0)


FORECAST = [predicted(2, 0, 0.010, 1.0), predicted(2, 2, 0.012, 1.8), predicted(2, 4, 0.020, 2.2)]


def test_a_machine_that_slows_down_spoils_no_ratio() -> None:
    """Every round of the second repeat takes twice as long; costs are as predicted, and so is the speed-up."""
    rows = [row(r, 2, k, (1 + r) * s, t) for r in (0, 1) for k, s, t in ((0, 0.01, 1.0), (2, 0.012, 1.8))]
    [found] = speedup_errors(FORECAST, rows)
    assert found.measured == pytest.approx(1.8 / 1.2)
    assert (found.cost_error, found.acceptance_error, found.error) == pytest.approx((0, 0, 0))
    assert found.covered is True


def test_errors_of_cost_and_of_acceptance_stand_apart_and_multiply() -> None:
    rows = [row(r, 2, k, s, t) for r in (0, 1) for k, s, t in ((0, 0.01, 1.0), (2, 0.015, 1.5))]
    [found] = speedup_errors(FORECAST, rows)
    assert found.cost_error == pytest.approx(0.015 / 0.012 - 1)
    assert found.acceptance_error == pytest.approx(1.8 / 1.5 - 1)
    assert 1 + found.error == pytest.approx((1 + found.cost_error) * (1 + found.acceptance_error))
    assert found.covered is True  # 1.0 lies at the stated interval's end


def test_rounds_cost_what_they_drafted() -> None:
    """Look-up that proposes three of four drafts: a round between those of two and of four."""
    rows = [row(r, 2, k, s, 2.2) for r in (0, 1) for k, s in ((0, 0.01), (4, 0.016))]
    [whole] = speedup_errors(FORECAST, rows)
    [counted] = speedup_errors(FORECAST, rows, {(2, 4): 3.0})
    assert whole.cost_error == pytest.approx(0.016 / 0.020 - 1)
    assert counted.cost_error == pytest.approx(0)
    assert counted.error == whole.error  # the prediction did not know


def test_repeats_without_a_plain_run_tell_no_ratio() -> None:
    rows = [row(0, 2, 0, 0.01, 1.0), row(0, 2, 2, 0.012, 1.8), row(1, 2, 2, 0.1, 1.8), row(0, 1, 2, 0.01, 1.8)]
    [found] = speedup_errors(FORECAST, rows)
    assert found.ratios.tolist() == pytest.approx([1 / 1.2])


def test_tokens_are_counted_over_all_repeats() -> None:
    rows = [row(0, 4, 2, 0.01, 2.0), row(1, 4, 2, 0.01, 1.5)]
    assert counted_tokens(rows) == {(4, 2): 1.75}


def test_regret_is_of_the_tokens_that_the_run_counted() -> None:
    """Predicted best k is 2; measured rounds cost as predicted, and with the tokens counted k = 4 would be better."""
    rows = [row(r, 2, k, s, t) for r in (0, 1) for k, s, t in ((0, 0.01, 1.0), (2, 0.012, 1.2), (4, 0.020, 2.5))]
    [imposed] = compare(FORECAST, rows).regrets
    [real] = compare(FORECAST, rows, counted=True).regrets
    assert (imposed.predicted_k, imposed.measured_k, imposed.share) == (2, 2, 0)
    assert (real.predicted_k, real.measured_k) == (2, 4)
    assert real.share == pytest.approx(1 - (1.2 / 0.012) / (2.5 / 0.020))
