"""The error of each study by card and engine as it was last scored: ``errors.csv`` beside the studies.

Scoring all studies takes minutes; ``validation/refresh.py`` does it and writes the file with the tables of the README.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from specsim.fidelity.study_errors import summarise
from specsim.kept_files import append_csv, read_csv
from specsim.studies.predict import scenario_of_row
from specsim.studies.quantities import LABELS
from specsim.studies.score import MeasuredFigure, StudyScore
from specsim.studies.study import SPLITS, studies_folder

FILE = "errors.csv"
StudyGroup = tuple[str, str, str]  # model, card, engine


@dataclass(frozen=True, slots=True)
class StudyError:
    """Of ``rows`` figures of one kind: mean |error|, mean error, the worst; ``covered`` of ``stated`` intervals hold.

    Acceptance is as measured in each cell where it was, else as at the smallest load.
    """

    study: str
    model: str
    gpu: str
    engine: str
    split: str
    figure: str
    rows: int
    mean: float
    bias: float
    worst: float
    covered: int
    stated: int


def study_errors(scores: Iterable[StudyScore]) -> list[StudyError]:
    """A row a study, model, card, engine, split and kind of figure."""
    return [error for score in scores for split in SPLITS for error in _of_part(score, score.part(split))]


def _of_part(score: StudyScore, figures: Sequence[MeasuredFigure]) -> list[StudyError]:
    groups: dict[StudyGroup, list[MeasuredFigure]] = {}
    for figure in figures:
        groups.setdefault(_group(score, figure), []).append(figure)
    found = []
    for group, members in sorted(groups.items()):
        for label in LABELS:
            mine = [one for one in members if one.label == label]
            measured = [one.comparison("measured") for one in mine]
            told = [one for one in measured if one is not None]
            told = told or [one for figure in mine if (one := figure.comparison("smallest")) is not None]
            if told:
                sums = summarise(told)
                found.append(
                    StudyError(
                        score.name,
                        *group,
                        members[0].row.split,
                        label,
                        sums.count,
                        round(sums.mean, 4),
                        round(sums.bias, 4),
                        round(sums.worst, 4),
                        sums.covered,
                        sums.stated,
                    )
                )
    return found


def _group(score: StudyScore, figure: MeasuredFigure) -> StudyGroup:
    scenario = scenario_of_row(score.study, figure.row)
    return scenario.model.name, scenario.gpu.name, scenario.engine.kind or "reference"


def write_study_errors(scores: Iterable[StudyScore], folder: Path) -> None:
    """The file of a folder of studies, written anew."""
    path = folder / FILE
    path.unlink(missing_ok=True)
    append_csv(path, [field.name for field in fields(StudyError)], map(astuple, study_errors(scores)))


def read_study_errors(folder: Path | None = None) -> list[StudyError]:
    """What was last written beside the shipped studies."""
    kinds = {field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(StudyError)}
    path = (folder or studies_folder()) / FILE
    return [StudyError(**{name: read(record[name]) for name, read in kinds.items()}) for _, record in read_csv(path)]
