"""A study's two files, read and checked: every fault of the figures is told at once."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from specsim.errors import InvalidInput, unknown_name
from specsim.shipped import shipped
from specsim.specs.yaml_file import read_yaml
from specsim.studies.quantities import QUANTITIES
from specsim.validated import Validated

Split = Literal["calibration", "test"]
SPLITS: tuple[Split, ...] = ("calibration", "test")
SPREAD = "_spread"
# Columns with a meaning of their own; ``columns`` of a study says what any other one sets.
SPLIT, DRAFT_TOKENS, LENGTH, REPEATS = "split", "k", "acceptance_length", "repeats"
SHAPE = ("sequences", "query_tokens", "context_tokens", "logit_rows")
LOADS = {
    "sequences": None,
    "concurrency": "workload.arrivals.concurrency",
    "rate_per_s": "workload.arrivals.rate_per_s",
}
DRAFTER = "drafter"


class Study(Validated):
    """What NAME.yaml holds.

    ``scenario``: fields of a scenario that every row shares; ``name`` and ``schema`` may be left out. ``columns``: by
    name of a column of the figures, the field that its value sets (``path.to.field``), or for each of its values the
    fields that this one sets. ``conditions``: what the source says of the runs, and what is assumed where it is
    silent.
    """

    title: str
    source: str
    licence: str
    conditions: str
    scenario: dict[str, Any]
    columns: dict[str, str | dict[str, dict[str, Any]]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One measured condition.

    ``settings``: what it sets, by path in the scenario. ``k``: drafted tokens; 0: no drafter is loaded.
    ``acceptance_length``: as measured in this cell; None where it was not. ``figures``: by name of the quantity;
    ``spreads``: (largest - smallest) / mean of its repeats. ``condition``: every cell that is no figure, as written.
    """

    study: str
    line: int
    split: Split
    condition: Mapping[str, str]
    settings: Mapping[str, Any]
    k: int
    acceptance_length: float | None
    shape: Mapping[str, float]
    figures: Mapping[str, float]
    spreads: Mapping[str, float]

    @property
    def load(self) -> tuple[str, float] | None:
        """The column that says how much is asked of the machine, and its value."""
        for name in LOADS:
            if name in self.condition:
                return name, float(self.condition[name])
        return None

    def apart_from(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Its conditions without the named ones: equal for rows that differ in nothing else."""
        left_out = {LENGTH, REPEATS, SPLIT, *names}
        return tuple((name, value) for name, value in self.condition.items() if name not in left_out)


def studies_folder() -> Path:
    """The studies shipped with specsim."""
    return shipped("validation/gpu")


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in studies_folder().glob("*.yaml"))


def study_path(reference: str) -> Path:
    """The YAML file of a shipped study's name, or of a path."""
    if reference.endswith((".yaml", ".yml")) or "/" in reference:
        return Path(reference)
    names = study_names()
    if reference not in names:
        raise unknown_name("study", reference, names)
    return studies_folder() / f"{reference}.yaml"


def load_study(path: Path) -> tuple[Study, list[StudyRow]]:
    """A study and its rows. Raises InvalidInput, one line that holds every fault of the figures."""
    study = read_yaml(path, Study)
    figures = path.with_suffix(".csv")
    try:
        with figures.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lines = [(reader.line_num, cells) for cells in reader]
            header = list(reader.fieldnames or ())
    except OSError as error:
        raise InvalidInput(f"cannot read {figures}: {error.strerror}; put the study's figures there") from None
    faults = _header_faults(study, header)
    rows: list[StudyRow] = []
    if not faults:
        for number, cells in lines:
            reading = _Reading(study, path.stem, number, cells)
            rows.append(reading.row())
            faults += [f"line {number}: {fault}" for fault in reading.faults]
    if not faults and not rows:
        faults = ["it holds no row"]
    if faults:
        raise InvalidInput(f"{figures}: {'; '.join(faults)}")
    return study, rows


def _header_faults(study: Study, header: list[str]) -> list[str]:
    known = {SPLIT, DRAFT_TOKENS, LENGTH, REPEATS, *SHAPE, *LOADS, *study.columns, *QUANTITIES}
    faults = [
        f"nobody says what column {name!r} is; name it in columns of the study, or a known quantity"
        for name in header
        if name not in known and name.removesuffix(SPREAD) not in QUANTITIES
    ]
    faults += [f"column {name!r} is missing" for name in (SPLIT, *study.columns) if name not in header]
    if not any(name in QUANTITIES for name in header):
        faults.append(f"no column is a quantity; known: {', '.join(QUANTITIES)}")
    return faults


class _Reading:
    """One line of the figures; ``faults`` gathers what is wrong with it."""

    def __init__(self, study: Study, name: str, line: int, cells: dict[str, str | None]) -> None:
        self._study, self._name, self._line = study, name, line
        self.faults: list[str] = []
        if None in cells or None in cells.values():
            self.faults.append("it has not as many cells as the header")
        self._cells = {name: value.strip() for name, value in cells.items() if name and isinstance(value, str)}

    def row(self) -> StudyRow:
        split = self._cells.get(SPLIT, "")
        if split not in SPLITS:
            self.faults.append(f"split {split!r} is neither calibration nor test")
        figures = {name: self._number(name, above=0.0) for name in QUANTITIES if self._cells.get(name)}
        spreads = {name: self._number(name + SPREAD) for name in QUANTITIES if self._cells.get(name + SPREAD)}
        if not figures:
            self.faults.append("it holds no figure")
        length = self._number(LENGTH, above=0.999) if self._cells.get(LENGTH) else None
        drafts = int(self._number(DRAFT_TOKENS)) if self._cells.get(DRAFT_TOKENS) else 0
        if length is not None and length > drafts + 1:
            self.faults.append(f"acceptance_length {length:g} exceeds k + 1 = {drafts + 1}")
        return StudyRow(
            self._name,
            self._line,
            "test" if split == "test" else "calibration",
            self._condition(),
            self._settings(),
            drafts,
            length,
            {name: self._number(name) for name in SHAPE if self._cells.get(name)},
            figures,
            spreads,
        )

    def _number(self, name: str, above: float = -1.0) -> float:
        try:
            value = float(self._cells[name])
        except ValueError:
            self.faults.append(f"{name} {self._cells[name]!r} is not a number")
            return 1.0
        if not value > above:
            self.faults.append(f"{name} {value:g} is out of range")
            return 1.0
        return value

    def _condition(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self._cells.items()
            if name not in QUANTITIES and not name.endswith(SPREAD) and name != SPLIT and value
        }

    def _settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, path in LOADS.items():
            if path is not None and self._cells.get(name) and name not in self._study.columns:
                found[path] = self._number(name)
        for name, means in self._study.columns.items():
            value = self._cells.get(name, "")
            if isinstance(means, str):
                if value:
                    found[means] = yaml.safe_load(value)
            elif value in means:
                found |= means[value]
            else:
                self.faults.append(f"{name} {value!r} is none of {', '.join(means)}")
        return found


def set_fields(fields: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` with each ``path.to.field`` set, in order; sections that are missing are made."""
    made = deepcopy(fields)
    for path, value in settings.items():
        *sections, last = path.split(".")
        owner = made
        for section in sections:
            owner[section] = inner = dict(owner.get(section) or {})
            owner = inner
        owner[last] = deepcopy(value)
    return made
