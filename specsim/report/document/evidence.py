"""The measured error of comparable cases: other people's runs on such a card, as they were last scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specsim.fidelity.bars import COVERAGE
from specsim.report.document.blocks import Paragraph, Section
from specsim.report.sheet import Sheet
from specsim.report.validation.study_errors import StudyError, read_study_errors
from specsim.scenario import Scenario
from specsim.studies.quantities import QUANTITIES, SPEEDUP

SHOWN = (
    "speed-up",
    "output tokens/s",
    "ITL p50",
    "TPOT p50",
    "TPOT p95",
    "TTFT p50",
    "TTFT p95",
    "E2E p50",
    "E2E p95",
)
MOST_ROWS = 16


def comparable_line(scenario: Scenario) -> str:
    """What belongs to a verdict: how far off speed-ups of such runs were, and which figures miss their intervals.

    Of the same model on the same card, else of any model on it; test rows alone.
    """
    gpu, model = scenario.gpu.name, scenario.model.name
    on_card = [one for one in read_study_errors() if one.gpu == gpu and one.figure in SHOWN and one.split == "test"]
    if not on_card:
        return f"No published run on {gpu} tells how far off this is: its errors are not known."
    alike = [one for one in on_card if one.model == model]
    known = alike or on_card
    by_figure = {name: _sum(mine) for name in SHOWN if (mine := [one for one in known if one.figure == name])}
    missed = [
        f"{name} {one.covered} of {one.stated}"
        for name, one in by_figure.items()
        if one.stated and one.covered < COVERAGE[0] * one.stated
    ]
    told = [f"too few lie within the stated 90 % interval: {', '.join(missed)}"] if missed else []
    if (speedup := by_figure.get(QUANTITIES[SPEEDUP].label)) is not None:
        off = f"speed-ups were off by {speedup.mean:.0%} in the mean, {speedup.worst:+.0%} at worst"
        told.insert(0, f"{off}, over {speedup.rows} test rows")
    whose = f"{model} on {gpu}" if alike else f"other models on {gpu}"
    return f"Published runs of {whose}: {'; '.join(told or ['every figure lies in its interval as often as stated'])}."


def measured_errors(scenario: Scenario) -> Section:
    """What predictions of runs on such a card were off by, where somebody published such runs."""
    title, gpu, engine = "Measured error of comparable cases", scenario.gpu.name, scenario.engine.kind
    known = [one for one in read_study_errors() if one.figure in SHOWN]
    same = [one for one in known if one.gpu == gpu]
    told = (
        "Other people's published runs with speculation on, predicted the same way (specsim validate gpu STUDY --rows "
        "shows every figure). Rows of a test set nothing in the package; calibration rows set an engine's constants."
    )
    if not same:
        none = f"None of {len({one.study for one in known})} published sets of runs is on {gpu}."
        return Section(title, [Paragraph(f"{none} {_on_all(known)} {told}")])
    model = scenario.model.name
    ranked = sorted(_merged(same), key=lambda one: (one.model != model, one.engine != engine, one.split != "test"))
    rows = [
        [
            f"{one.model}\n{one.engine}, {one.split}",
            one.figure,
            str(one.rows),
            f"{one.mean:.1%}",
            f"{one.bias:+.1%}",
            f"{one.worst:+.0%}",
            f"{one.covered} of {one.stated}" if one.stated else "-",
        ]
        for one in ranked[:MOST_ROWS]
    ]
    header = ("model, engine", "figure", "rows", "mean\n|error|", "bias", "worst", "in 90 %\ninterval")
    left = len(ranked) - MOST_ROWS
    more = f" {left} lines more are in validation/gpu/errors.csv." if left > 0 else ""
    return Section(title, [Paragraph(f"On {gpu}. {told}{more}"), Sheet("", header, rows, words=(0, 1))])


def _merged(errors: Sequence[StudyError]) -> list[StudyError]:
    """One line where several studies measured a figure of one model under one engine."""
    groups: dict[tuple[str, ...], list[StudyError]] = {}
    for one in errors:
        groups.setdefault((one.model, one.engine, one.split, one.figure), []).append(one)
    return [_sum(members) for members in groups.values()]


def _sum(members: Sequence[StudyError]) -> StudyError:
    rows = sum(one.rows for one in members)
    return replace(
        members[0],
        rows=rows,
        mean=sum(one.rows * one.mean for one in members) / rows,
        bias=sum(one.rows * one.bias for one in members) / rows,
        worst=max((one.worst for one in members), key=abs),
        covered=sum(one.covered for one in members),
        stated=sum(one.stated for one in members),
    )


def _on_all(known: Sequence[StudyError]) -> str:
    """Speed-ups and throughput over all cards' test rows."""
    parts = []
    for figure in ("speed-up", "output tokens/s"):
        one = _sum([one for one in known if one.figure == figure and one.split == "test"])
        parts.append(f"{figure} {one.mean:.1%} over {one.rows} rows")
    return f"On other cards, mean |error| of test rows: {', '.join(parts)}."
