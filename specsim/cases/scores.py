"""A case's predictions against its measurements: as committed before the run, and as the code stands now."""

from __future__ import annotations

from dataclasses import dataclass

from specsim.assembly import assemble
from specsim.cases.case import Case
from specsim.cases.conditions import conditions_of, profile_anchors, read_anchors, run_conditions
from specsim.cases.loads import OWN, Loads
from specsim.cases.map import committed_cells, predict_case, predicted_cells
from specsim.cases.served import ServedRun, load_runs, rows_of, run_name, saturation_runs
from specsim.fidelity import Fidelity, compare, read_grid
from specsim.fidelity.served import METRICS, ServedFidelity, compare_served
from specsim.fidelity.where import CellParts, cell_parts
from specsim.results.served import SCENARIO, PredictedMetric, PredictedRun, load_predictions
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.conditions import Conditions
from specsim.workload.arrivals import ClosedLoopArrivals, DiurnalArrivals, OpenArrivals, PiecewiseArrivals


@dataclass(frozen=True, slots=True)
class MapScore:
    """A map: the prediction of the code as it is, the committed one, and where the error of the first sits.

    ``conditions``: those of the run against the profile, in which ``now`` is predicted; None where nobody looked.
    """

    case: Case
    now: Fidelity
    committed: Fidelity | None
    parts: list[CellParts]
    repeats: int
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class ServedScore:
    """Served loads: what was committed, by acceptance variant, and the code as it is now.

    ``now`` holds one simulation a run, so that its intervals are points and say nothing. ``conditions``: those of
    the whole measurement against the profile; each run is predicted now in its own. None where nobody looked.
    """

    case: Case
    committed: ServedFidelity
    variants: dict[str, ServedFidelity]  # without the scenario's own
    now: ServedFidelity
    conditions: Conditions | None = None


Score = MapScore | ServedScore


def measured_at_all(case: Case) -> bool:
    """Whether there is anything to score."""
    return case.measured.exists() or (case.loads is not None and case.saturation.exists())


def real_acceptance(case: Case) -> bool:
    """Whether drafts were verified for real; otherwise acceptance was imposed."""
    return case.scenario.weights is not None


def score_case(case: Case) -> Score:
    """Score a case of either kind. Raises InvalidInput where a file is missing or does not fit the others."""
    return _score_map(case) if case.loads is None else _score_served(case, case.loads)


def _score_map(case: Case) -> MapScore:
    rows = read_grid(case.measured)
    committed = committed_cells(case)
    conditions = run_conditions(case)
    now = compare(predicted_cells(predict_case(case.under(conditions))), rows)
    return MapScore(
        case, now, None if committed is None else compare(committed, rows), cell_parts(now, rows),
        len({row.repeat for row in rows}), conditions,
    )  # fmt: skip


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
    scored = {(row.load, row.alternative) for row in rows}
    # Without a hash: a profile that was measured anew since changes the hardware's figures, and so the scenario's.
    now = [
        PredictedRun(run.load, run.alternative, SCENARIO, _metrics_now(_as_it_was(case, run)), "")
        for run in runs
        if (run.load, run.alternative) in scored
    ]
    committed = compare_served(predicted, rows, shares=shares, source=source, comparable=comparable)
    variants = {}
    for variant in dict.fromkeys(one.variant for one in predicted if one.variant != SCENARIO):
        foretold = {(one.load, one.alternative) for one in predicted if one.variant == variant}
        mine = [row for row in rows if (row.load, row.alternative) in foretold]
        variants[variant] = compare_served(predicted, mine, shares=shares, source=source, variant=variant)
    return ServedScore(
        case,
        committed,
        variants,
        compare_served(now, rows, shares=shares, source=source, comparable=comparable),
        run_conditions(case),
    )


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
