"""Validation cases: a scenario, what was predicted before the run, and what the run measured.

A case is a folder: ``scenario.yaml``, ``predicted.json`` (committed before the measurement), ``measured.csv``,
``machine.yaml`` (where and when it was measured), ``report.md``.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from specsim.analytic.rounds import SpeedupMap, speedup_map
from specsim.errors import InvalidInput, unknown_name
from specsim.fidelity import Fidelity, Predicted, compare, read_grid
from specsim.scenario import Scenario, load_scenario
from specsim.specs.yaml_file import read_mapping


@dataclass(frozen=True, slots=True)
class Case:
    """One folder of evidence."""

    name: str
    folder: Path
    scenario: Scenario

    @property
    def measured(self) -> Path:
        return self.folder / "measured.csv"

    @property
    def predicted(self) -> Path:
        return self.folder / "predicted.json"

    def machine(self) -> dict[str, Any]:
        """Where the measurement was made; empty if nobody wrote it down."""
        path = self.folder / "machine.yaml"
        return read_mapping(path) if path.exists() else {}

    def origin(self) -> str:
        """The machine in a sentence."""
        machine = self.machine()
        where = machine.get("device_name", "an unnamed machine")
        return f"Measured with the reference engine on {where}, {machine.get('date', 'date unknown')}."


def cases_folder() -> Path:
    """The cases shipped with specsim: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent
    bundled = package / "bundled" / "validation"
    return bundled if bundled.exists() else package.parent / "validation"


def case_names() -> list[str]:
    """Names of the shipped cases."""
    return sorted(path.parent.name for path in cases_folder().glob("*/scenario.yaml"))


def load_case(reference: str) -> Case:
    """A case by name or folder; an unknown name lists near matches."""
    folder = Path(reference) if "/" in reference or Path(reference).is_dir() else cases_folder() / reference
    if not (folder / "scenario.yaml").exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no scenario.yaml; give a case's folder")
        raise unknown_name("validation case", reference, case_names())
    return Case(folder.name, folder, load_scenario(str(folder / "scenario.yaml")))


def predict_case(case: Case) -> SpeedupMap:
    """The prediction as the code stands now."""
    return speedup_map(case.scenario)


def predicted_cells(speedups: SpeedupMap) -> list[Predicted]:
    """A map's cells in the form that ``compare`` scores."""
    return [
        Predicted(
            cell.batch, cell.draft_tokens, cell.round_s, cell.round_low_s, cell.round_high_s, cell.tokens_per_round,
            cell.source,
        )
        for cell in speedups.cells
    ]  # fmt: skip


def write_prediction(case: Case) -> None:
    """Write down what is predicted now, so that a measurement can be held against it."""
    if case.measured.exists():
        raise InvalidInput(f"{case.measured} exists already; a prediction is written before the run that tests it")
    speedups = predict_case(case)
    document = {
        "date": datetime.date.today().isoformat(),
        "scenario_sha256": case.scenario.sha256(),
        "prices": speedups.price_name,
        "cells": [asdict(cell) for cell in predicted_cells(speedups)],
    }
    case.predicted.write_text(json.dumps(document, indent=1) + "\n")


def write_machine(folder: Path, device_name: str, versions: dict[str, str], probe_s: tuple[float, float]) -> None:
    """Say where and when a case was measured; ``probe_s``: the fixed probe before and after, which shows drift."""
    facts = {
        "device_name": device_name,
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "probe": {"before_s": probe_s[0], "after_s": probe_s[1]},
    }
    (folder / "machine.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))


def committed_cells(case: Case) -> list[Predicted] | None:
    """The prediction that was written down before the run, or None."""
    if not case.predicted.exists():
        return None
    return [Predicted(**cell) for cell in json.loads(case.predicted.read_text())["cells"]]


def score(case: Case) -> Fidelity:
    """The case's prediction, as the code stands now, against its measurement."""
    return compare(predicted_cells(predict_case(case)), read_grid(case.measured))
