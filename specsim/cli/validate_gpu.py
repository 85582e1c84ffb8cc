"""``specsim validate gpu``: predictions against figures that other people measured on GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specsim.cli.options import console, messages, print_json

if TYPE_CHECKING:
    from specsim.studies.score import StudyScore


def validate_gpu(study: str | None, *, rows: bool, as_json: bool) -> None:
    """Score one study, by name or path, or all that are shipped. Raises InvalidInput as reading and predicting do."""
    from specsim.report.validation.study_tables import (
        decision_lines,
        row_lines,
        split_sheets,
        study_document,
        unpredicted_lines,
    )
    from specsim.studies.study import SPLITS

    scores = scored(study)
    if as_json:
        print_json(study_document(scores))
        return
    out = console()
    if study is not None:
        about = scores[0].study
        out.print(f"[bold]{about.title}[/bold]\n{about.source} ({about.licence})\n{about.conditions}")
    lines = [line for score in scores for line in row_lines(score)] if rows else []
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)
    for split in SPLITS:
        for sheet in split_sheets(scores, split):
            told = sheet.grouped() if sheet.header[0] == "study" else sheet
            out.print(told.fitted(out.width))
    lines = [line for split in SPLITS for line in decision_lines(scores, split)]
    for line in [*lines, *unpredicted_lines(scores)]:
        out.print(line, markup=False)


def scored(study: str | None) -> list[StudyScore]:
    """One study's score, by name or path, or those of all that are shipped."""
    from specsim.studies.score import score_study
    from specsim.studies.study import load_study, study_names, study_path

    found = []
    for name in study_names() if study is None else [study]:
        path = study_path(name)
        if study is None:
            messages().print(path.stem)
        found.append(score_study(path.stem, *load_study(path)))
    return found
