"""A case's folder: what it holds, and the cases that are shipped."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from specsim.cases.drafters import drafting_scenarios
from specsim.cases.loads import Loads
from specsim.errors import InvalidInput, unknown_name
from specsim.kept_files import replace_text
from specsim.scenario import Scenario, load_scenario
from specsim.shipped import shipped
from specsim.specs.yaml_file import read_mapping, read_yaml

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Case:
    """One folder of evidence: a batch × k map, or served loads.

    ``drafters``: the scenarios that a map runs, by drafter; empty for served loads. ``loads``: None for a map.
    """

    name: str
    folder: Path
    scenario: Scenario
    drafters: Mapping[str, Scenario]
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

    def machine(self) -> dict[str, Any]:
        """Where the measurement was made; empty if nobody wrote it down."""
        path = self.folder / "machine.yaml"
        return read_mapping(path) if path.exists() else {}

    @property
    def engine(self) -> str:
        """Which engine it was measured with."""
        return str(self.machine().get("engine", REFERENCE))

    def origin(self) -> str:
        """The machine in a sentence."""
        machine = self.machine()
        where = machine.get("device_name", "an unnamed machine")
        with_what = "the reference engine" if self.engine == REFERENCE else self.engine
        return f"Measured with {with_what} on {where}, {machine.get('date', 'date unknown')}."


def cases_folder() -> Path:
    """The cases shipped with specsim."""
    return shipped("validation/cases")


def case_names() -> list[str]:
    """Names of the shipped cases."""
    return sorted(path.parent.name for path in cases_folder().glob("*/scenario.yaml"))


def load_case(reference: str) -> Case:
    """A case by name or folder; an unknown name lists near matches."""
    folder = Path(reference) if "/" in reference or Path(reference).is_dir() else cases_folder() / reference
    scenario = folder / "scenario.yaml"
    if not scenario.exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no scenario.yaml; give a case's folder")
        raise unknown_name("validation case", reference, case_names())
    target, loads, drafters = load_scenario(str(scenario)), folder / "loads.yaml", folder / "drafters.yaml"
    if loads.exists():
        return Case(folder.name, folder, target, {}, read_yaml(loads, Loads))
    if drafters.exists():
        return Case(folder.name, folder, target, drafting_scenarios(drafters, scenario))
    return Case(folder.name, folder, target, own_drafter(target))


def own_drafter(scenario: Scenario) -> dict[str, Scenario]:
    """A scenario by the name of the drafter that it asks about itself. Raises InvalidInput where it has none."""
    if scenario.speculation is None:
        raise InvalidInput(f"scenario {scenario.name!r} has no speculation, so there is no map to measure")
    return {scenario.speculation.program.name: scenario}


def names_case(reference: str) -> bool:
    """Whether a word of the command line is a case's name or folder, and no scenario's."""
    return (Path(reference) / "scenario.yaml").exists() or reference in case_names()


def write_machine(
    folder: Path, device_name: str, versions: dict[str, str], probe_s: tuple[float, float], engine: str = REFERENCE
) -> None:
    """Say where, when and by which engine a case was measured; ``probe_s``: the fixed probe before and after, which
    shows drift.
    """
    facts = {
        "device_name": device_name,
        "date": datetime.date.today().isoformat(),
        "engine": engine,
        "versions": versions,
        "probe": {"before_s": probe_s[0], "after_s": probe_s[1]},
    }
    replace_text(folder / "machine.yaml", yaml.safe_dump(facts, sort_keys=False))
