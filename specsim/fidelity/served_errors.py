"""Predicted served loads against measured ones: errors by metric, coverage, noise, and what the advice costs.

A row is one metric of one alternative under one load; the measurement is the median of its repeats. **Regret** is what
following the predicted best alternative of a load costs. In a closed loop that is throughput lost. Under open arrivals
throughput is the arrival rate whatever one does, so there it is time: how much longer a request stays in the mean
(mean E2E; by Little's law the same as how many more requests are in the system). The measured best is chosen on odd
repeats and both are scored on even ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.fidelity.bars import Bar, bar_of
from specsim.fidelity.bootstrap import Range, difference_range, error_range, noise, spread
from specsim.results.served_rows import SCENARIO, PredictedMetric, PredictedRun, ServedRow

THROUGHPUT, MEAN_E2E, LENGTH = "output_throughput", "mean_e2el_ms", "spec_decode_acceptance_length"
ROUNDING = 1e-5  # measured tables keep six digits, and what is imposed has an interval of no width
METRICS = (
    THROUGHPUT,
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    MEAN_E2E,
    "p99_e2el_ms",
    "mean_batch",
    LENGTH,
)


@dataclass(frozen=True, slots=True)
class MetricError:
    """One metric of one alternative under one load.

    ``share``: the load as a share of saturation (its highest piece); None in the closed loop that finds saturation.
    ``source``: where the prices are from. ``repeats`` [repeats]: measured values.
    """

    load: str
    share: float | None
    alternative: str
    metric: str
    source: str
    predicted: PredictedMetric
    repeats: Floats

    @property
    def measured(self) -> float:
        return float(np.median(self.repeats))

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted.value / self.measured - 1.0

    @property
    def spread(self) -> float | None:
        """(Largest - smallest) / median over the repeats; None of a single one."""
        return spread(self.repeats)

    @property
    def noise(self) -> float | None:
        """Half of the 90 % interval of the repeats' mean, as a share of it; None of a single one."""
        return noise(self.repeats)

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the predicted 90 % interval."""
        slack = ROUNDING * abs(self.measured)
        return self.predicted.low - slack <= self.measured <= self.predicted.high + slack

    def bar(self, bars: tuple[Bar, ...]) -> Bar | None:
        """The bar that this row is held to; None in the closed loop, and for a metric without one."""
        return None if self.share is None else bar_of(bars, self.metric, self.share)

    def needs_repeats(self, bars: tuple[Bar, ...]) -> bool:
        """Whether the repeats do not tell the value to within the row's bar."""
        bar = self.bar(bars)
        return bar is not None and (self.noise is None or self.noise > bar.limit)


@dataclass(frozen=True, slots=True)
class LoadRegret:
    """One load's decision. ``share``: throughput lost, or mean E2E added (``metric`` says which), as a share of what
    the measured best gives. The orders name all alternatives, best first; the measured one is over all repeats."""

    load: str
    metric: str
    predicted_best: str
    measured_best: str
    share: float
    predicted_order: tuple[str, ...]
    measured_order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServedFidelity:
    """ServedFidelity loads compared: of one case, or of several together."""

    rows: tuple[MetricError, ...]
    regrets: tuple[LoadRegret, ...]

    def metrics(self) -> list[str]:
        """Those that have rows, in the order of METRICS."""
        return [metric for metric in METRICS if any(row.metric == metric for row in self.rows)]

    def of(self, metric: str) -> list[MetricError]:
        return [row for row in self.rows if row.metric == metric]

    def covered(self) -> int:
        """Rows inside their predicted 90 % interval."""
        return sum(row.covered for row in self.rows)

    def worst_regret(self) -> float | None:
        """None where no load had repeats to choose on and others to score on."""
        return max((regret.share for regret in self.regrets), default=None)


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric over its rows. ``judged``: rows that have a bar; ``within``: those inside it; ``noisy``: those whose
    repeats do not tell the value to within it."""

    metric: str
    rows: int
    mean_error: float
    mean_absolute: float
    interval: Range
    worst: MetricError
    covered: int
    judged: int
    within: int
    noisy: int


def compare_served(
    predicted: Iterable[PredictedRun],
    measured: Iterable[ServedRow],
    *,
    shares: Mapping[str, float],
    source: str,
    variant: str = SCENARIO,
    comparable: bool = True,
) -> ServedFidelity:
    """Score one acceptance variant of the predictions against the measured rows.

    ``shares``: each open load as a share of saturation. ``comparable``: whether alternatives face the same arrivals,
    without which none is the best. Metrics that either side lacks are left out, as are those whose measured median is
    0. Raises InvalidInput for a measured run that was not predicted, or was predicted of
    another scenario, and where nothing was measured.
    """
    forecast = {(run.load, run.alternative): run for run in predicted if run.variant == variant}
    runs: dict[tuple[str, str], list[ServedRow]] = {}
    for row in measured:
        runs.setdefault((row.load, row.alternative), []).append(row)
    if not runs:
        raise InvalidInput("no served run was measured, so there is nothing to score; measure the case first")
    rows: list[MetricError] = []
    for load, alternative in sorted(runs, key=lambda run: (shares.get(run[0], 0.0), run)):
        found = runs[load, alternative]
        run = forecast.get((load, alternative))
        if run is None:
            raise InvalidInput(
                f"load {load!r} with alternative {alternative!r} was measured and not predicted as {variant!r}; "
                "predict it too"
            )
        if variant == SCENARIO:
            _check_scenario(run, found)
        rows += _metric_errors(run, found, shares.get(load), source)
    loads = dict.fromkeys(row.load for row in rows if comparable or row.load not in shares)
    regrets = [_regret(load, forecast, runs, open_loop=load in shares) for load in loads]
    return ServedFidelity(tuple(rows), tuple(regret for regret in regrets if regret is not None))


def together(cases: Sequence[ServedFidelity]) -> ServedFidelity:
    """Several cases as one, every row with the same weight."""
    return ServedFidelity(
        tuple(row for one in cases for row in one.rows), tuple(regret for one in cases for regret in one.regrets)
    )


def summarize(metric: str, rows: Sequence[MetricError], bars: tuple[Bar, ...]) -> MetricSummary:
    """One metric's rows, at least one, in a line."""
    errors = np.array([row.error for row in rows])
    judged = [(row, bar) for row in rows if (bar := row.bar(bars)) is not None]
    most = max(row.repeats.size for row in rows)
    padded = np.array([np.pad(row.repeats, (0, most - row.repeats.size), constant_values=np.nan) for row in rows])
    return MetricSummary(
        metric=metric,
        rows=len(rows),
        mean_error=float(errors.mean()),
        mean_absolute=float(np.abs(errors).mean()),
        interval=error_range(np.array([row.predicted.value for row in rows]), padded),
        worst=max(rows, key=lambda row: abs(row.error)),
        covered=sum(row.covered for row in rows),
        judged=len(judged),
        within=sum(abs(row.error) <= bar.limit for row, bar in judged),
        noisy=sum(row.needs_repeats(bars) for row in rows),
    )


@dataclass(frozen=True, slots=True)
class Ablation:
    """What another acceptance law does to one metric's mean |error|, over the rows that drafted.

    ``difference``: the 90 % interval of other minus own.
    """

    metric: str
    variant: str
    rows: int
    own: float
    other: float
    difference: Range

    @property
    def verdict(self) -> str:
        """Whether the other law is worse, and whether the rows can tell."""
        if self.other <= self.own:
            return "not worse"
        return "worse" if self.difference.low > 0 else "worse, within noise"


def ablation(own: ServedFidelity, other: ServedFidelity, variant: str) -> list[Ablation]:
    """The metrics of two acceptance variants, row by row, where the engine drafted at all."""
    drafting = {(row.load, row.alternative) for row in own.of(LENGTH)}
    found = []
    for metric in own.metrics():
        mine = {_place(row): row.error for row in own.of(metric) if _place(row) in drafting}
        theirs = {_place(row): row.error for row in other.of(metric)}
        both = [place for place in mine if place in theirs]
        if both:
            one, two = np.array([mine[p] for p in both]), np.array([theirs[p] for p in both])
            means = (float(np.abs(one).mean()), float(np.abs(two).mean()))
            found.append(Ablation(metric, variant, len(both), *means, difference_range(two, one)))
    return found


def _place(row: MetricError) -> tuple[str, str]:
    return row.load, row.alternative


def _check_scenario(run: PredictedRun, rows: Iterable[ServedRow]) -> None:
    for row in rows:
        if run.scenario_sha256 and row.scenario_sha256 and run.scenario_sha256 != row.scenario_sha256:
            raise InvalidInput(
                f"load {row.load!r} with alternative {row.alternative!r} was predicted of scenario "
                f"{run.scenario_sha256[:12]} and measured of {row.scenario_sha256[:12]}; predict what was measured"
            )


def _metric_errors(
    run: PredictedRun, rows: Sequence[ServedRow], share: float | None, source: str
) -> list[MetricError]:
    errors = []
    for metric in METRICS:
        values = [value for row in rows if (value := row.metrics.get(metric)) is not None]
        if metric in run.metrics and values and np.median(values) > 0:
            predicted, repeats = run.metrics[metric], np.array(values)
            errors.append(MetricError(run.load, share, run.alternative, metric, source, predicted, repeats))
    return errors


def _regret(
    load: str,
    forecast: Mapping[tuple[str, str], PredictedRun],
    runs: Mapping[tuple[str, str], Sequence[ServedRow]],
    *,
    open_loop: bool,
) -> LoadRegret | None:
    """None with a single alternative, or where one lacks an odd or an even repeat or the metric."""
    metric = MEAN_E2E if open_loop else THROUGHPUT
    sign = 1.0 if open_loop else -1.0  # the smallest is the best
    costs: dict[str, tuple[float, float, float, float]] = {}  # predicted; measured on odd, even and all repeats
    for (where, name), rows in runs.items():
        if where == load:
            halves = [[v for r in rows if r.repeat % 2 == odd and (v := r.metrics.get(metric))] for odd in (1, 0)]
            predicted = forecast[load, name].metrics.get(metric)
            if predicted is None or not all(halves):
                return None
            odd, even, both = (float(np.median(values)) for values in (*halves, halves[0] + halves[1]))
            costs[name] = (predicted.value, odd, even, both)
    if len(costs) < 2:
        return None
    by_prediction, by_odd, by_all = (
        sorted(costs, key=lambda name: sign * costs[name][column]) for column in (0, 1, 3)
    )
    chosen, best = by_prediction[0], by_odd[0]
    share = sign * (costs[chosen][2] / costs[best][2] - 1.0) + 0.0  # no negative zero
    return LoadRegret(load, metric, chosen, best, share, tuple(by_prediction), tuple(by_all))
