"""Writing a prediction down, so that the run that follows can be held against it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.cases.case import Case
from specsim.cases.map import predicted_cells
from specsim.cases.pin import pin
from specsim.cases.served import ServedRun, load_runs, require_saturation, saturation_runs
from specsim.engines.rounds import prompts_of_cell
from specsim.errors import InvalidInput
from specsim.kept_files import replace_text
from specsim.progress import Progress
from specsim.results.served_rows import METRICS, SCENARIO, PredictedMetric, PredictedRun, write_predictions
from specsim.scenario import Scenario


def write_prediction(case: Case, progress: Progress | None = None, *, repeats: int | None = None) -> Path:
    """Write down what is predicted now; returns the file. ``progress`` hears (done, all) served runs.

    ``repeats``: of a map on a real engine, how often each cell will be measured: speed-ups' bounds hold the luck of
    so few prompts. None: as of many.

    A served case's saturation is predicted until it is measured, and its loads after. Raises InvalidInput where the
    run that would test the prediction has been made, or has to come first.
    """
    if case.measured.exists():
        raise InvalidInput(f"{case.measured} exists already; a prediction is written before the run that tests it")
    if case.loads is None:
        return _write_maps(case, repeats)
    if not case.saturation.exists():
        return _write_served(case, case.predicted_saturation, saturation_runs(case), progress)
    require_saturation(case)
    return _write_served(case, case.predicted, load_runs(case, variants=True), progress)


def _header(scenario: Scenario) -> dict[str, Any]:
    header: dict[str, Any] = {"date": datetime.date.today().isoformat(), "scenario_sha256": scenario.sha256()}
    if scenario.conditions is not None:
        header["conditions"] = scenario.conditions.model_dump()
    return header | {"prices": assemble(scenario).price_name, "profile": pin(scenario)}


def _write_maps(case: Case, repeats: int | None) -> Path:
    """Every drafter's map in one file, by drafter."""
    document = {}
    for name, scenario in case.drafters.items():
        sample = None if repeats is None or scenario.weights is None else partial(prompts_of_cell, repeats)
        found = speedup_map(assemble(scenario), decode_only=True, sample=sample)
        header = _header(scenario) | ({} if sample is None else {"repeats": repeats})
        document[name] = header | {"cells": [asdict(cell) for cell in predicted_cells(found)]}
    replace_text(case.predicted, json.dumps(document, indent=1) + "\n")
    return case.predicted


def _write_served(case: Case, path: Path, runs: Sequence[ServedRun], progress: Progress | None) -> Path:
    predicted = []
    for number, run in enumerate(runs):
        if progress is not None:
            progress(number, len(runs))
        predicted.append(_predicted(run))
    write_predictions(path, _header(case.scenario), predicted)
    return path


def _predicted(run: ServedRun) -> PredictedRun:
    """Imposed acceptance draws what the engine draws, so that luck adds nothing unless the acceptance is another."""
    from specsim.serving.uncertainty import predicted_metrics

    scenario = run.scenario
    vary = scenario.speculation is not None and (scenario.weights is not None or run.variant != SCENARIO)
    found = predicted_metrics(assemble(scenario), METRICS, vary_acceptance=vary)
    metrics = {name: PredictedMetric(one.value, one.low, one.high) for name, one in found.items()}
    return PredictedRun(run.load, run.alternative, run.variant, metrics, scenario.sha256())
