"""``specsim validate gpu``: predictions against figures that other people measured on GPUs."""

from __future__ import annotations

from specsim.cli.options import console, messages, print_json


def validate_gpu(study: str | None, *, rows: bool, as_json: bool) -> None:
    """Score one study, by name or path, or all that are shipped. Raises InvalidInput as reading and predicting do."""
    from specsim.report.validation.study_tables import (
        decision_lines,
        error_sheet,
        naive_sheet,
        row_lines,
        study_document,
        study_sheet,
        unpredicted_lines,
    )
    from specsim.studies.score import score_study
    from specsim.studies.study import SPLITS, load_study, study_names, study_path

    paths = [study_path(name) for name in (study_names() if study is None else [study])]
    scores = []
    for path in paths:
        if study is None:
            messages().print(path.stem)
        scores.append(score_study(path.stem, *load_study(path)))
    if as_json:
        print_json(study_document(scores))
        return
    out = console()
    if study is not None:
        about = scores[0].study
        out.print(f"[bold]{about.title}[/bold]\n{about.source} ({about.licence})\n{about.conditions}", soft_wrap=True)
    if rows:
        for score in scores:
            for line in row_lines(score):
                out.print(line, soft_wrap=True, markup=False)
    for split in SPLITS:
        if any(score.part(split) for score in scores):
            out.print(study_sheet(scores, split).table())
            out.print(error_sheet(scores, split).table())
            if (naive := naive_sheet(scores, split)).rows:
                out.print(naive.table())
    lines = [line for split in SPLITS for line in decision_lines(scores, split)]
    for line in [*lines, *unpredicted_lines(scores)]:
        out.print(line, soft_wrap=True, markup=False)
