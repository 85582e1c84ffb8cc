"""A case's predictions against its measurements: as committed before the run, and as the code stands now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.cases.anchor_rows import conditions_of, profile_anchors, read_anchors, run_conditions
from specsim.cases.case import REFERENCE, Case
from specsim.cases.loads import OWN, Loads
from specsim.cases.map import (
    committed_prediction,
    committed_score,
    committed_speedups,
    measured_rows,
    predicted_cells,
    real_acceptance,
)
from specsim.cases.pin import read_prediction, retired
from specsim.cases.served import ServedRun, load_runs, rows_of, run_name, saturation_runs
from specsim.fidelity import Fidelity, SpeedupError, compare
from specsim.fidelity.served_errors import METRICS, ServedFidelity, compare_served
from specsim.fidelity.served_ratios import ServedRatio, served_ratios
from specsim.fidelity.where import CellParts, cell_parts
from specsim.results.served_rows import SCENARIO, PredictedMetric, PredictedRun, ServedRow, load_predictions
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.conditions import Conditions
from specsim.workload.arrivals import ClosedLoopArrivals, DiurnalArrivals, OpenArrivals, PiecewiseArrivals


@dataclass(frozen=True, slots=True)
class MapScore:
    """One drafter's map: the prediction as it was committed, that of the code as it is, and where the error sits.

    ``committed``: None where nothing was written down before the run. ``now``: predicted in ``conditions``, those of
    the run against the profile (None where nobody looked); None where today's code is not asked, ``retired`` says why.
    ``parts``: of ``told``. ``speedups``: of the committed prediction.
    """

    case: Case
    drafter: str
    committed: Fidelity | None
    now: Fidelity | None
    retired: str | None
    parts: list[CellParts]
    repeats: int
    conditions: Conditions | None = None
    speedups: Sequence[SpeedupError] = ()

    @property
    def told(self) -> Fidelity:
        """The comparison that is told cell by cell: today's code where it is asked, else what was committed."""
        found = self.now or self.committed
        assert found is not None  # what was not predicted is not retired
        return found

    @property
    def headline(self) -> Fidelity:
        """The comparison that counts: what was committed before the run, where something was."""
        return self.committed or self.told


@dataclass(frozen=True, slots=True)
class ServedScore:
    """Served loads: what was committed, by acceptance variant, and the code as it is now.

    ``now`` holds one simulation a run, so that its intervals are points and say nothing; None where today's code is
    not asked, ``retired`` says why. ``conditions``: those of the whole measurement against the profile; each run is
    predicted now in its own. None where nobody looked. ``ratios``: of a real engine, those of the committed prediction
    to the alternative whose saturation the loads are shares of.
    """

    case: Case
    committed: ServedFidelity
    variants: dict[str, ServedFidelity]  # without the scenario's own
    now: ServedFidelity | None
    retired: str | None
    conditions: Conditions | None = None
    ratios: Sequence[ServedRatio] = ()


Score = MapScore | ServedScore


def measured_at_all(case: Case) -> bool:
    """Whether there is anything to score."""
    return case.measured.exists() or (case.loads is not None and case.saturation.exists())


def score_case(case: Case) -> list[Score]:
    """A score a drafter of a map, or the one of served loads.

    Raises InvalidInput where a file is missing or does not fit the others.
    """
    if case.loads is not None:
        return [_score_served(case, case.loads)]
    return [score_map(case, drafter) for drafter in case.drafters]


def score_map(case: Case, drafter: str) -> MapScore:
    """One drafter's map. Raises InvalidInput where a file is missing or does not fit the others."""
    rows, prediction = measured_rows(case, drafter), committed_prediction(case, drafter)
    conditions, scenario = run_conditions(case, drafter), case.drafters[drafter]
    committed, now = committed_score(case, drafter), None
    why = None if prediction is None else retired(prediction, scenario, conditions)
    if why is None:
        asked = scenario.model_copy(update={"conditions": conditions})
        cells = predicted_cells(speedup_map(assemble(asked), decode_only=True))
        now = compare(cells, rows, counted=real_acceptance(case))
    told = now or committed
    parts = [] if told is None else cell_parts(told, rows)
    repeats, speedups = len({row.repeat for row in rows}), committed_speedups(case, drafter)
    return MapScore(case, drafter, committed, now, why, parts, repeats, conditions, speedups)


def _score_served(case: Case, loads: Loads) -> ServedScore:
    source, shares = case.scenario.cost.source, load_shares(loads)
    comparable = loads.saturation_of != OWN
    runs = saturation_runs(case)
    rows = rows_of(case.saturation, runs)
    predicted = load_predictions(case.predicted_saturation) if rows and case.predicted_saturation.exists() else []
    if case.measured.exists() or not rows:
        runs = [*runs, *load_runs(case)]
        rows = [*(rows if predicted else []), *rows_of(case.measured, runs)]
        predicted = [*predicted, *load_predictions(case.predicted)]
    committed = compare_served(predicted, rows, shares=shares, source=source, comparable=comparable)
    variants = {}
    for variant in dict.fromkeys(one.variant for one in predicted if one.variant != SCENARIO):
        foretold = {(one.load, one.alternative) for one in predicted if one.variant == variant}
        mine = [row for row in rows if (row.load, row.alternative) in foretold]
        variants[variant] = compare_served(predicted, mine, shares=shares, source=source, variant=variant)
    conditions, now = run_conditions(case), None
    path = case.predicted if case.predicted.exists() else case.predicted_saturation
    why = retired(read_prediction(path), case.scenario, conditions)
    if why is None:
        foretold_now = _predicted_now(case, runs, rows)
        now = compare_served(foretold_now, rows, shares=shares, source=source, comparable=comparable)
    real = comparable and case.engine != REFERENCE
    ratios = served_ratios(predicted, rows, loads.saturation_of) if real else []
    return ServedScore(case, committed, variants, now, why, conditions, ratios)


def _predicted_now(case: Case, runs: Sequence[ServedRun], rows: Sequence[ServedRow]) -> list[PredictedRun]:
    """The measured runs as the code predicts them now.

    Without a hash: a scenario may have gained fields since, which change its hash and no answer.
    """
    scored = {(row.load, row.alternative) for row in rows}
    return [
        PredictedRun(run.load, run.alternative, SCENARIO, _metrics_now(_as_it_was(case, run)), "")
        for run in runs
        if (run.load, run.alternative) in scored
    ]


def _as_it_was(case: Case, run: ServedRun) -> Scenario:
    """A run's scenario in the conditions in which it was measured, where those are known."""
    mine = [row for row in read_anchors(case.conditions) if row.run == run_name(run)]
    conditions = conditions_of(mine, profile_anchors(assemble(run.scenario).profile))
    asked: Scenario = run.scenario.model_copy(update={"conditions": conditions})
    return asked


def load_shares(loads: Loads) -> dict[str, float]:
    """Each load as a share of saturation: of one whose rate changes, its highest."""
    return {
        name: _highest(arrivals)
        for name, arrivals in loads.loads.items()
        if not isinstance(arrivals, ClosedLoopArrivals)
    }


def _highest(arrivals: OpenArrivals) -> float:
    if isinstance(arrivals, PiecewiseArrivals):
        return max(rate for _, rate in arrivals.pieces)
    if isinstance(arrivals, DiurnalArrivals) and arrivals.factors is not None:
        return arrivals.rate_per_s * max(arrivals.factors) * len(arrivals.factors) / sum(arrivals.factors)
    if isinstance(arrivals, DiurnalArrivals):
        return arrivals.rate_per_s * (1 + (arrivals.amplitude or 0.0))
    return arrivals.mean_rate_per_s()


def _metrics_now(scenario: Scenario) -> dict[str, PredictedMetric]:
    summary = simulate(assemble(scenario)).summary()
    found = {name: value for name in METRICS if (value := summary.get(name)) is not None}
    return {name: PredictedMetric(value, value, value) for name, value in found.items()}
