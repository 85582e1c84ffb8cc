"""Predicted against measured maps in words and tables: errors, where they sit, all maps together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from specsim.cases.scores import MapScore
from specsim.fidelity import Fidelity, together
from specsim.fidelity.bars import MAP, REGRET, ROUND_TIME, Bar, judge_coverage
from specsim.fidelity.bootstrap import Range
from specsim.fidelity.where import PARTS, SLOW, TARGET, CellParts, by_width, summaries, target_factors
from specsim.report.sheet import Sheet
from specsim.report.validation.speedup_tables import speedup_lines, speedup_sheets
from specsim.specs.conditions import Conditions
from specsim.units import format_seconds


def map_lines(score: MapScore) -> list[str]:
    """What the tables come to, judged by the bars."""
    lines = [] if score.committed is None else [_before_line(score.committed)]
    lines += _now_lines(score)
    limit = _bar(ROUND_TIME, "mean").limit
    if noisy := score.told.noisier_than(limit):
        lines.append(
            f"more repeats needed: {noisy} of {len(score.told.cells)} cells are not known to {limit:.0%} from "
            f"{score.repeats} repeats"
        )
    return lines


def _now_lines(score: MapScore) -> list[str]:
    if score.now is None:
        return [retired_line(score.retired)]
    return [
        *conditions_lines(score.conditions),
        *_error_lines(score.now),
        f"regret of the predicted best k: at most {score.now.worst_regret():.1%} ({_regret_bar(score.now)})",
    ]


def retired_line(reason: str | None) -> str:
    """That today's code is not held against the run, and why."""
    return f"retired from today's code: {reason}"


def conditions_lines(conditions: Conditions | None) -> list[str]:
    """In what conditions today's code was asked, where they are known."""
    if conditions is None:
        return []
    factors = ", ".join(f"{name} × {factor:.2f}" for name, factor in conditions.model_dump().items())
    return [f"the machine in the run against its profile, by anchors timed beside it: {factors}; priced so"]


def _error_lines(fidelity: Fidelity) -> list[str]:
    mean, high = _bar(ROUND_TIME, "mean"), _bar(ROUND_TIME, "p95")
    error, p95 = fidelity.mean_absolute_error(), fidelity.percentile_absolute_error(95)
    return [
        f"today's code, round time: mean |error| {error:.1%} [{shown(fidelity.mean_range())}] ({mean.judge(error)}), "
        f"p90 {fidelity.percentile_absolute_error(90):.1%}, p95 {p95:.1%} [{shown(fidelity.percentile_range(95))}] "
        f"({high.judge(p95)}), bias {fidelity.mean_error():+.1%}",
        f"intervals: {fidelity.covered()} of {len(fidelity.cells)} cells ({fidelity.coverage():.1%}) in the stated "
        f"90 % interval ({judge_coverage(fidelity.coverage())})",
    ]


def _before_line(before: Fidelity) -> str:
    """The predictions that no measurement had been seen for: what a bar is about in the end."""
    mean, high = _bar(ROUND_TIME, "mean"), _bar(ROUND_TIME, "p95")
    error, p95 = before.mean_absolute_error(), before.percentile_absolute_error(95)
    return (
        f"as predicted before the run: mean |error| {error:.1%} ({mean.judge(error)}), p95 {p95:.1%} "
        f"({high.judge(p95)}), {before.coverage():.1%} of cells in the 90 % interval "
        f"({judge_coverage(before.coverage())}), regret at most {before.worst_regret():.1%} ({_regret_bar(before)})"
    )


def _regret_bar(fidelity: Fidelity) -> str:
    return _bar(REGRET, "worst").judge(fidelity.worst_regret())


def _bar(metric: str, statistic: str) -> Bar:
    return next(bar for bar in MAP if (bar.metric, bar.statistic) == (metric, statistic))


def where_sheets(cells: Sequence[CellParts], about: str = "") -> list[Sheet]:
    """Where the error sits: part by part, and by how many tokens the target verifies at once. None without parts.

    ``about`` ends the titles.
    """
    if not cells:
        return []
    factors = ", ".join(f"{f.part} × {f.factor:.2f} ± {f.standard_error:.2f}" for f in target_factors(cells))
    parts = Sheet(
        f"where the error of a round sits{about}",
        ("part", "share of the round", "adds to the error", "mean |added|", "its own error"),
        [
            (s.part, f"{s.share:.1%}", f"{s.contribution:+.1%}", f"{s.absolute:.1%}", _percent(s.error))
            for s in summaries(cells)
        ],
        "Draft includes the host time that drafting adds; slow rounds are the mean round's excess over the parts' "
        "medians." + (f" The target's measured passes are fitted best by predicted {factors}." if factors else ""),
    )
    widths = Sheet(
        f"the same by tokens in the target's pass, batch × (k + 1){about}",
        ("tokens", "cells", "round error", "target's own", *(f"adds: {part}" for part in PARTS)),
        [_width_row(first, last, found) for (first, last), found in by_width(cells).items()],
        words=(),
    )
    return [parts, widths]


def _width_row(first: int, last: int, cells: Sequence[CellParts]) -> list[str]:
    found = {summary.part: summary for summary in summaries(cells)}
    error = sum(cell.cell.error for cell in cells) / len(cells)
    tokens = str(first) if first == last else f"{first}-{last}"
    added = (f"{found[part].contribution:+.1%}" for part in PARTS)
    return [tokens, str(len(cells)), f"{error:+.1%}", _percent(found[TARGET].error), *added]


def error_sheet(title: str, values: Mapping[tuple[int, int], float | None]) -> Sheet:
    """A batch × k table of errors."""
    lengths = sorted({k for _, k in values})
    batches = sorted({batch for batch, _ in values})
    return Sheet(
        title,
        ("batch", *(f"k={k}" for k in lengths)),
        [[str(batch), *(_percent(values.get((batch, k))) for k in lengths)] for batch in batches],
        words=(),
    )


def map_page(scores: Sequence[MapScore]) -> str:
    """The report.md of a case: drafter by drafter, verdict first, then every cell."""
    case = scores[0].case
    return "\n\n".join([f"# {case.name}", case.origin(), *map(_map_section, scores)]) + "\n"


def _map_section(score: MapScore) -> str:
    places = {(c.cell.predicted.batch, c.cell.predicted.draft_tokens): c for c in score.parts}
    errors = {(c.predicted.batch, c.predicted.draft_tokens): c.error for c in score.told.cells}
    sheets = [
        error_sheet("error of round time by batch and k", errors),
        *where_sheets(score.parts),
        *(
            error_sheet(f"error of the part alone: {part}", {at: cell.error(part) for at, cell in places.items()})
            for part in PARTS
            if places and part != SLOW
        ),
        regret_sheet(score.told),
        *speedup_sheets(score),
        cell_sheet(score),
    ]
    lines = "\n".join(f"- {line}" for line in (*map_lines(score), *speedup_lines([score])))
    return "\n\n".join([f"## {score.drafter}", lines, *(s.markdown() for s in sheets)])


def regret_sheet(fidelity: Fidelity) -> Sheet:
    """The decision at each batch size and what following the prediction would have cost."""
    return Sheet(
        "best k by batch size",
        ("batch", "predicted best k", "measured best k", "throughput lost"),
        [(str(r.batch), str(r.predicted_k), str(r.measured_k), f"{r.share:.1%}") for r in fidelity.regrets],
        words=(),
    )


def cell_sheet(score: MapScore) -> Sheet:
    """Every cell with its interval, the spread and the noise of its repeats, and its price source."""
    header = (
        "batch",
        "k",
        "predicted",
        "90 % interval",
        "measured",
        "error",
        "spread",
        "known to",
        "inside",
        "source",
    )
    rows = []
    for cell in score.told.cells:
        p = cell.predicted
        rows.append(
            (
                str(p.batch),
                str(p.draft_tokens),
                format_seconds(p.round_s),
                f"{format_seconds(p.low_s)} to {format_seconds(p.high_s)}",
                format_seconds(cell.measured_s),
                f"{cell.error:+.1%}",
                f"{cell.spread:.1%}",
                _percent(cell.noise, signed=False),
                "yes" if cell.covered else "no",
                p.source,
            )
        )
    whose = "as predicted before the run" if score.now is None else "by today's code"
    return Sheet(f"round time {whose}, against measured", header, rows, words=())


def maps_sheet(scores: Sequence[MapScore], *, by: Literal["case", "drafter"], title: str) -> Sheet:
    """Maps by case or by drafter, then all of them together, every cell with the same weight."""
    groups: dict[str, list[MapScore]] = {}
    for score in scores:
        groups.setdefault(score.case.name if by == "case" else score.drafter, []).append(score)
    if len(groups) > 1:
        groups["all"] = list(scores)
    header = (by, "source", "cells", *_FIGURES, f"now: {', '.join(_FIGURES)}")
    rows = [
        (
            name,
            ", ".join(sorted({one.case.scenario.cost.source for one in found})),
            str(sum(len(one.headline.cells) for one in found)),
            *_figures([one.headline for one in found]),
            ", ".join(_figures([one.now for one in found if one.now is not None])) or "-",
        )
        for name, found in groups.items()
    ]
    return Sheet(title, header, rows, _MAPS_LEGEND)


_FIGURES = ("mean", "p95", "inside", "regret")
_MAPS_LEGEND = (
    "|error| of round time as predicted before the run; now: by today's code in the run's conditions, a dash where "
    "the profile of the prediction is not the one here now or the machine's state beside the run is unknown."
)


def _figures(maps: Sequence[Fidelity]) -> list[str]:
    """What several maps together come to; nothing of none."""
    if not maps:
        return []
    both = together(maps)
    return [
        f"{both.mean_absolute_error():.1%}",
        f"{both.percentile_absolute_error(95):.1%}",
        f"{both.coverage():.0%}",
        f"{both.worst_regret():.1%}",
    ]


def together_lines(scores: Sequence[MapScore]) -> list[str]:
    """All maps judged by the bars."""
    before = [score.committed for score in scores if score.committed is not None]
    now = [score.now for score in scores if score.now is not None]
    lines = [_before_line(together(before))] if before else []
    if now:
        both = together(now)
        lines += [*_error_lines(both), f"regret: at most {both.worst_regret():.1%} ({_regret_bar(both)})"]
    return lines


def shown(interval: Range) -> str:
    return f"{100 * interval.low:.1f} to {interval.high:.1%}"


def _percent(value: float | None, *, signed: bool = True) -> str:
    if value is None:
        return "-"
    return f"{value:+.1%}" if signed else f"{value:.1%}"
