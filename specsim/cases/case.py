"""A case's folder: what it holds, and the cases that are shipped."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from specsim.cases.loads import Loads
from specsim.errors import InvalidInput, unknown_name
from specsim.scenario import Scenario, load_scenario
from specsim.specs.conditions import Conditions
from specsim.specs.yaml_file import read_mapping, read_yaml


@dataclass(frozen=True, slots=True)
class Case:
    """One folder of evidence; ``loads`` is None for a batch × k map."""

    name: str
    folder: Path
    scenario: Scenario
    loads: Loads | None = None

    @property
    def measured(self) -> Path:
        return self.folder / "measured.csv"

    @property
    def predicted(self) -> Path:
        return self.folder / "predicted.json"

    @property
    def saturation(self) -> Path:
        return self.folder / "saturation.csv"

    @property
    def predicted_saturation(self) -> Path:
        return self.folder / "predicted-saturation.json"

    @property
    def conditions(self) -> Path:
        return self.folder / "conditions.csv"

    def under(self, conditions: Conditions | None) -> Case:
        """The same case, predicted in these conditions of its machine."""
        return replace(self, scenario=self.scenario.model_copy(update={"conditions": conditions}))

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
    package = Path(__file__).parents[1]
    bundled = package / "bundled" / "validation"
    return (bundled if bundled.exists() else package.parent / "validation") / "cases"


def case_names() -> list[str]:
    """Names of the shipped cases."""
    return sorted(path.parent.name for path in cases_folder().glob("*/scenario.yaml"))


def load_case(reference: str) -> Case:
    """A case by name or folder; an unknown name lists near matches."""
    folder = Path(reference) if "/" in reference or Path(reference).is_dir() else cases_folder() / reference
    scenario, loads = folder / "scenario.yaml", folder / "loads.yaml"
    if not scenario.exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no scenario.yaml; give a case's folder")
        raise unknown_name("validation case", reference, case_names())
    served = read_yaml(loads, Loads) if loads.exists() else None
    return Case(folder.name, folder, load_scenario(str(scenario)), served)


def write_machine(folder: Path, device_name: str, versions: dict[str, str], probe_s: tuple[float, float]) -> None:
    """Say where and when a case was measured; ``probe_s``: the fixed probe before and after, which shows drift."""
    facts = {
        "device_name": device_name,
        "date": datetime.date.today().isoformat(),
        "versions": versions,
        "probe": {"before_s": probe_s[0], "after_s": probe_s[1]},
    }
    (folder / "machine.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
