"""Studies as tables and as one JSON document: errors by what was measured, calibration and test rows apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from specsim.fidelity.bars import COVERAGE, judge_coverage
from specsim.fidelity.study_errors import ComparedFigure, ErrorSummary, Signs, choices, signs, summarise
from specsim.report.markdown import markdown_table
from specsim.report.sheet import Sheet
from specsim.studies.quantities import LABELS, QUANTITIES, SPEEDUP
from specsim.studies.score import AcceptanceSource, MeasuredFigure, StudyScore
from specsim.studies.study import SPLITS, Split

WORDS: dict[AcceptanceSource, str] = {"measured": "as measured", "smallest": "as at the smallest batch"}
HEADLINE = {
    "speed-up": ("speed-up",),
    "output tokens/s": ("output tokens/s",),
    "ITL and TPOT, p50": ("ITL p50", "TPOT p50"),
    "TTFT, p50": ("TTFT p50",),
    "KV tokens": ("KV tokens",),
}
HEADLINE_HEADER = (
    "figure",
    "rows",
    "mean \\|error\\|, bias",
    "worst",
    "in the stated 90 % interval",
    '"speed-up = acceptance length"',
    '"as at the smallest batch"',
    "mean, acceptance known at the smallest batch only",
)
SPEEDUP_LABEL = QUANTITIES[SPEEDUP].label


def compared(
    figures: Iterable[MeasuredFigure], acceptance: AcceptanceSource, label: str | None = None
) -> list[ComparedFigure]:
    """Comparisons of one label, None for all, under one acceptance."""
    found = [figure.comparison(acceptance) for figure in figures if label in (None, figure.label)]
    return [one for one in found if one is not None]


def part(scores: Sequence[StudyScore], split: Split) -> list[MeasuredFigure]:
    """Figures of all studies in one split."""
    return [figure for score in scores for figure in score.part(split)]


def split_sheets(scores: Sequence[StudyScore], split: Split) -> list[Sheet]:
    """All tables of one split that hold anything."""
    made = (study_sheet(scores, split), error_sheet(scores, split), naive_sheet(scores, split))
    return [sheet for sheet in made if sheet.rows]


def headline_table(scores: Sequence[StudyScore]) -> str:
    """The test rows of all studies in five lines of Markdown."""
    figures, rows = part(scores, "test"), []
    for name, labels in HEADLINE.items():
        own, small = (
            [one for label in labels for one in compared(figures, acceptance, label)] for acceptance in WORDS
        )
        if small:
            rows.append([name, *_headline_cells(own or small), _mean_of(small)])
    return markdown_table(HEADLINE_HEADER, rows)


def _headline_cells(rows: Sequence[ComparedFigure]) -> list[str]:
    found = summarise(rows)
    count, mean, worst, inside = _errors(found)
    naive = (
        "-" if one is None else f"{one[0]:.0%} (ours {one[1]:.0%})" for one in (found.by_length, found.by_smallest)
    )
    return [count, mean, worst, inside, *naive]


def _mean_of(rows: Sequence[ComparedFigure]) -> str:
    found = summarise(rows)
    return f"{found.mean:.1%}, {found.count} rows"


def error_sheet(scores: Sequence[StudyScore], split: Split) -> Sheet:
    """A row a label: errors with acceptance as measured in each cell, and as at the smallest batch only."""
    figures, rows = part(scores, split), []
    for label in LABELS:
        own, small = compared(figures, "measured", label), compared(figures, "smallest", label)
        if small:
            told = _errors(summarise(own)) if own else ("-",) * 4
            less = summarise(small)
            rows.append([label, *told, str(less.count), f"{less.mean:.1%}, {less.bias:+.1%}"])
    header = (
        "figure",
        "rows",
        "mean |error|, bias",
        "worst",
        "in the 90 % interval",
        "rows",
        "acceptance as at the smallest batch: mean |error|, bias",
    )
    return Sheet(f"{split} rows, acceptance as measured in each cell", header, rows)


def naive_sheet(scores: Sequence[StudyScore], split: Split) -> Sheet:
    """A row a label: mean |error| of the naive predictors, and of ours on the rows where they say something."""
    figures, rows = part(scores, split), []
    for label in LABELS:
        own = compared(figures, "measured", label)
        if own:
            found = summarise(own)
            rows.append([label, *_naive(found.by_length), *_naive(found.by_smallest)])
    rows = [row for row in rows if set(row[1:]) != {"-"}]
    header = ("figure", "rows", "speed-up = acceptance length", "ours", "rows", "as at the smallest batch", "ours")
    return Sheet(f"{split} rows, mean |error| beside naive predictors", header, rows)


def _errors(found: ErrorSummary) -> tuple[str, str, str, str]:
    inside = "-" if not found.stated else f"{found.covered / found.stated:.0%} of {found.stated}"
    return str(found.count), f"{found.mean:.1%}, {found.bias:+.1%}", f"{found.worst:+.0%}", inside


def _naive(found: tuple[float, float, int] | None) -> tuple[str, str, str]:
    return ("-", "-", "-") if found is None else (str(found[2]), f"{found[0]:.1%}", f"{found[1]:.1%}")


def study_sheet(scores: Sequence[StudyScore], split: Split) -> Sheet:
    """A row a study and label: errors with acceptance as measured where it was, else as at the smallest batch."""
    rows = []
    for score in scores:
        figures = score.part(split)
        for label in LABELS:
            found = compared(figures, "measured", label) or compared(figures, "smallest", label)
            if found:
                rows.append([score.name, label, *_errors(summarise(found)), _sources(figures, label)])
    header = ("study", "figure", "rows", "mean |error|, bias", "worst", "in the 90 % interval", "priced by")
    return Sheet(f"{split} rows by study", header, rows)


def _sources(figures: Iterable[MeasuredFigure], label: str) -> str:
    return ", ".join(dict.fromkeys(figure.smallest.source for figure in figures if figure.label == label))


def row_lines(score: StudyScore) -> list[str]:
    """Every figure of a study in a line, its errors with acceptance as in the cell and as at the smallest batch."""
    lines = [
        f"{score.name}: measured, predicted, its 90 % interval, error (acceptance as at the smallest batch), source"
    ]
    for figure in score.figures:
        told = figure.measured or figure.smallest
        between = "" if told.low is None or told.high is None else f"{told.low:.4g} to {told.high:.4g}"
        one, small = figure.comparison("measured"), figure.comparison("smallest")
        errors = "-" if one is None else f"{one.error:+.1%}", "" if small is None else f"({small.error:+.1%})"
        condition = " ".join(f"{name}={value}" for name, value in figure.row.condition.items())
        lines.append(
            f"{figure.row.split:11s} {figure.label:15s} {figure.value:9.4g} {told.value:9.4g} {between:18s} "
            f"{errors[0]:>7s} {errors[1]:9s} {told.source:12s} {condition}"
        )
    return lines


def decision_lines(scores: Sequence[StudyScore], split: Split) -> list[str]:
    """Sign, regret and coverage of one split in sentences."""
    figures, lines = part(scores, split), []
    for acceptance, words in WORDS.items():
        if speedups := compared(figures, acceptance, SPEEDUP_LABEL):
            lines.append(f"speed-ups, acceptance {words}: {_sign_words(speedups)}; {_choice_words(speedups)}")
    told = [figure.comparison("measured") or figure.comparison("smallest") for figure in figures]
    stated = [one.covered for one in told if one is not None and one.covered is not None]
    if stated:
        share = sum(stated) / len(stated)
        lines.append(
            f"stated 90 % intervals hold {sum(stated)} of {len(stated)} figures, {share:.0%} ({judge_coverage(share)})"
        )
    return [f"{split}: {line}" for line in lines]


def _sign_words(speedups: Sequence[ComparedFigure]) -> str:
    told = signs(speedups)
    naive = [f"{name} {right} of {asked}" for name, (right, asked) in _naive_signs(told) if asked]
    beside = f" ({', '.join(naive)})" if naive else ""
    return f"right side of 1 on {told.right} of {told.count} outside 0.95 to 1.05{beside}"


def _naive_signs(told: Signs) -> list[tuple[str, tuple[int, int]]]:
    return [("acceptance length", told.by_length), ("as at the smallest batch", told.by_smallest)]


def _choice_words(speedups: Sequence[ComparedFigure]) -> str:
    made = choices(speedups)
    lost, naive = [one.regret for one in made], [one.regret_by_length for one in made]
    known = [one for one in naive if one is not None]
    beside = f" (acceptance length: {_mean(known):.1%}, at most {max(known):.1%})" if known else ""
    return (
        f"the predicted choice gives away {_mean(lost):.1%} of the throughput in the mean, at most {max(lost):.1%}, "
        f"over {len(made)} decisions{beside}"
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def unpredicted_lines(scores: Sequence[StudyScore]) -> list[str]:
    """Which rows have no prediction, by reason."""
    counts: dict[tuple[str, str], int] = {}
    for score in scores:
        for _, reason in score.unpredicted:
            counts[score.name, reason] = counts.get((score.name, reason), 0) + 1
    return [f"not predicted: {count} rows of {name}: {reason}" for (name, reason), count in counts.items()]


def study_document(scores: Sequence[StudyScore]) -> dict[str, Any]:
    """Everything that the tables hold, and every figure."""
    return {
        "coverage_bar": COVERAGE,
        "splits": {split: _split_document(scores, split) for split in SPLITS},
        "studies": {score.name: _one_document(score) for score in scores},
    }


def _split_document(scores: Sequence[StudyScore], split: Split) -> dict[str, Any]:
    figures, found = part(scores, split), dict[str, Any]()
    for acceptance in WORDS:
        labels = {label: compared(figures, acceptance, label) for label in LABELS}
        speedups = labels[SPEEDUP_LABEL]
        told, made = signs(speedups), choices(speedups)
        found[acceptance] = {
            "errors": {label: _summary_document(summarise(rows)) for label, rows in labels.items() if rows},
            "sign": {
                "right": told.right,
                "of": told.count,
                "acceptance_length": told.by_length,
                "smallest_batch": told.by_smallest,
            },
            "regret": {
                "decisions": len(made),
                "mean": _mean(one.regret for one in made) if made else None,
                "worst": max((one.regret for one in made), default=None),
            },
        }
    return found


def _summary_document(found: ErrorSummary) -> dict[str, Any]:
    def naive(said: tuple[float, float, int] | None) -> dict[str, Any] | None:
        return None if said is None else {"mean_absolute": said[0], "ours": said[1], "rows": said[2]}

    return {
        "rows": found.count,
        "mean_absolute": found.mean,
        "bias": found.bias,
        "worst": found.worst,
        "covered": found.covered,
        "stated": found.stated,
        "acceptance_length": naive(found.by_length),
        "smallest_batch": naive(found.by_smallest),
    }


def _one_document(score: StudyScore) -> dict[str, Any]:
    def told(forecast: Any) -> dict[str, Any] | None:
        if forecast is None:
            return None
        return {"value": forecast.value, "low": forecast.low, "high": forecast.high, "source": forecast.source}

    return {
        "title": score.study.title,
        "source": score.study.source,
        "figures": [
            {
                "line": one.row.line,
                "split": one.row.split,
                "condition": dict(one.row.condition),
                "quantity": one.quantity,
                "measured": one.value,
                "spread": one.row.spreads.get(one.quantity),
                "acceptance_as_measured": told(one.measured),
                "acceptance_at_smallest": told(one.smallest),
            }
            for one in score.figures
        ],
        "unpredicted": [{"line": row.line, "why": why} for row, why in score.unpredicted],
    }
