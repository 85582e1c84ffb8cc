"""Served loads scored: planted biases, coverage of a known law, regret by brute force, ablations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from specsim.errors import InvalidInput
from specsim.fidelity.bars import served_bars
from specsim.fidelity.served_errors import (
    LENGTH,
    MEAN_E2E,
    THROUGHPUT,
    ablation,
    compare_served,
    summarize,
    together,
)
from specsim.results.served_rows import SATURATION, SCENARIO, PredictedMetric, PredictedRun, ServedRow

BARS = served_bars(real_acceptance=False)
SHARES = {"low": 0.3, "high": 0.8}


def foretold(
    load: str, name: str, *, variant: str = SCENARIO, width: float = 0.1, sha: str = "", **metrics: float
) -> PredictedRun:
    found = {key: PredictedMetric(v, v * (1 - width), v * (1 + width)) for key, v in metrics.items()}
    return PredictedRun(load, name, variant, found, sha)


def ran(load: str, name: str, repeat: int, *, sha: str = "", **metrics: float | None) -> ServedRow:
    return ServedRow(repeat, load, name, 0.002, metrics, sha)


def score(predicted: Sequence[PredictedRun], rows: Sequence[ServedRow], **options):
    return compare_served(predicted, rows, shares=SHARES, source="kernels", **options)


def test_a_planted_bias_of_ten_percent_is_reported_as_ten_percent() -> None:
    """Predictions are 10 % above what was measured; repeats are 2 % apart about their median."""
    rows = [
        ran(load, name, repeat, median_tpot_ms=value * factor)
        for load in SHARES
        for name, value in (("off", 20.0), ("k2", 31.0))
        for repeat, factor in enumerate((0.99, 1.0, 1.01))
    ]
    predicted = [
        foretold(load, name, median_tpot_ms=1.1 * v) for load in SHARES for name, v in (("off", 20.0), ("k2", 31.0))
    ]
    found = summarize("median_tpot_ms", score(predicted, rows).of("median_tpot_ms"), BARS)
    assert (found.mean_error, found.mean_absolute) == pytest.approx((0.1, 0.1))
    assert found.interval.low == pytest.approx(1.1 / 1.01 - 1)
    assert found.interval.high == pytest.approx(1.1 / 0.99 - 1)
    assert (found.rows, found.judged, found.within, found.noisy) == (4, 4, 0, 0)


def test_the_bar_of_a_row_depends_on_its_load_and_the_closed_loop_has_none() -> None:
    predicted = [foretold(load, "off", median_ttft_ms=115.0) for load in (*SHARES, SATURATION)]
    rows = [ran(load, "off", repeat, median_ttft_ms=100.0) for load in (*SHARES, SATURATION) for repeat in (0, 1)]
    served = score(predicted, rows)
    assert [row.load for row in served.rows] == [SATURATION, "low", "high"]
    found = summarize("median_ttft_ms", served.of("median_ttft_ms"), BARS)
    assert (found.rows, found.judged, found.within) == (3, 2, 1)


def test_repeats_that_cannot_tell_a_row_to_within_its_bar_are_called_for() -> None:
    predicted = [foretold("low", name, output_throughput=100.0) for name in ("steady", "noisy", "once")]
    rows = [ran("low", "steady", r, output_throughput=v) for r, v in enumerate((99.0, 100.0, 101.0))]
    rows += [ran("low", "noisy", r, output_throughput=v) for r, v in enumerate((90.0, 100.0, 110.0))]
    rows += [ran("low", "once", 0, output_throughput=100.0)]
    served = score(predicted, rows)
    assert {row.alternative: row.needs_repeats(BARS) for row in served.rows} == {
        "steady": False,
        "noisy": True,
        "once": True,
    }


def test_coverage_of_a_normal_law_with_its_own_interval_is_ninety_percent() -> None:
    """2,000 measurements drawn around the prediction with s = 5 %, interval ± 1.645 s. 4 sigma is 54."""
    errors = np.random.default_rng(3).normal(0.0, 0.05, 2000)
    predicted = [foretold("low", str(i), width=1.645 * 0.05, output_throughput=100.0) for i in range(2000)]
    rows = [ran("low", str(i), 0, output_throughput=100.0 * (1 + e)) for i, e in enumerate(errors)]
    assert abs(score(predicted, rows).covered() - 1800) <= 54


def test_a_metric_that_one_side_lacks_or_that_is_zero_is_left_out() -> None:
    predicted = [foretold("low", "off", output_throughput=100.0, median_ttft_ms=1.0, p99_ttft_ms=1.0)]
    rows = [ran("low", "off", 0, output_throughput=100.0, median_ttft_ms=None, p99_ttft_ms=0.0, **{LENGTH: 2.0})]
    assert score(predicted, rows).metrics() == [THROUGHPUT]


def regret_by_hand(forecast: dict[str, float], runs: dict[str, list[float]], *, open_loop: bool) -> float:
    """Brute force: every ordering written out, medians by sorting."""

    def middle(values: list[float]) -> float:
        ordered = sorted(values)
        half = len(ordered) // 2
        return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2

    better = min if open_loop else max
    chosen = better(forecast, key=forecast.__getitem__)
    best = better(runs, key=lambda name: middle(runs[name][1::2]))
    own, other = middle(runs[chosen][::2]), middle(runs[best][::2])
    return own / other - 1 if open_loop else 1 - own / other


@pytest.mark.parametrize("load", ["low", SATURATION])
def test_regret_is_what_brute_force_finds(load: str) -> None:
    generator = np.random.default_rng(11)
    metric = MEAN_E2E if load == "low" else THROUGHPUT
    seen = set()
    for _ in range(50):
        forecast = {name: float(generator.uniform(50, 100)) for name in "abc"}
        runs = {name: generator.uniform(50, 100, 4).tolist() for name in "abc"}
        predicted = [foretold(load, name, **{metric: value}) for name, value in forecast.items()]
        rows = [ran(load, name, r, **{metric: v}) for name, values in runs.items() for r, v in enumerate(values)]
        (found,) = score(predicted, rows).regrets
        assert found.metric == metric
        assert found.share == pytest.approx(regret_by_hand(forecast, runs, open_loop=load == "low"))
        seen.add(round(found.share, 3))
    assert len(seen) > 10


def test_no_regret_without_odd_and_even_repeats_a_choice_or_equal_arrivals() -> None:
    predicted = [foretold("low", name, mean_e2el_ms=v) for name, v in (("a", 1.0), ("b", 2.0))]
    once = [ran("low", name, 0, mean_e2el_ms=1.0) for name in "ab"]
    both = [ran("low", name, repeat, mean_e2el_ms=1.0) for name in "ab" for repeat in (0, 1)]
    assert score(predicted, once).worst_regret() is None
    assert score(predicted, [row for row in both if row.alternative == "a"]).worst_regret() is None
    assert score(predicted, both, comparable=False).worst_regret() is None
    assert score(predicted, both).worst_regret() == 0.0


def ablated(pooled: float) -> list[str]:
    """Verdicts where the case's own law is off by 3 to 5 % and the pooled one by ``pooled`` times that."""
    rows, predicted = [], []
    for index, load in enumerate(SHARES):
        off = 0.03 + 0.02 * index
        predicted += [
            foretold(load, "k2", output_throughput=100 * (1 + off), **{LENGTH: 2.0}),
            foretold(load, "k2", variant="pooled", output_throughput=100 * (1 - pooled * off), **{LENGTH: 2.0}),
            foretold(load, "off", output_throughput=500.0),
        ]
        rows += [
            ran(load, "k2", 0, output_throughput=100.0, **{LENGTH: 2.0}),
            ran(load, "off", 0, output_throughput=1.0),
        ]
    own = score(predicted, rows)
    drafted = [row for row in rows if row.alternative == "k2"]
    found = ablation(own, score(predicted, drafted, variant="pooled"), "pooled")
    throughput = next(one for one in found if one.metric == THROUGHPUT)
    assert throughput.rows == 2  # the rows that did not draft say nothing of acceptance
    assert (throughput.own, throughput.other) == pytest.approx((0.04, 0.04 * pooled))
    return [one.verdict for one in found if one.metric == THROUGHPUT]


def test_an_ablation_that_is_not_worse_is_called_so() -> None:
    assert ablated(3.0) == ["worse"]
    assert ablated(1.0) == ["not worse"]
    assert ablated(0.5) == ["not worse"]


def test_cases_together_weigh_every_row_alike() -> None:
    one = score([foretold("low", "a", output_throughput=110.0)], [ran("low", "a", 0, output_throughput=100.0)])
    two = score(
        [foretold("low", "a", output_throughput=130.0), foretold("high", "a", output_throughput=80.0)],
        [ran(load, "a", 0, output_throughput=100.0) for load in SHARES],
    )
    found = summarize(THROUGHPUT, together([one, two]).of(THROUGHPUT), BARS)
    assert found.mean_absolute == pytest.approx((0.1 + 0.3 + 0.2) / 3)
    assert found.mean_error == pytest.approx((0.1 + 0.3 - 0.2) / 3)


def test_what_cannot_be_scored_is_refused_in_a_line() -> None:
    with pytest.raises(InvalidInput, match="no served run was measured"):
        score([], [])
    with pytest.raises(InvalidInput, match="'low' with alternative 'a' was measured and not predicted"):
        score([], [ran("low", "a", 0, output_throughput=1.0)])
    with pytest.raises(InvalidInput, match="predicted of scenario one and measured of two"):
        score(
            [foretold("low", "a", sha="one", output_throughput=1.0)],
            [ran("low", "a", 0, sha="two", output_throughput=1.0)],
        )
