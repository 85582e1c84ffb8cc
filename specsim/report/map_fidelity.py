"""Predicted against measured maps in words and tables: errors, where they sit, all maps together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from specsim.cases.scores import MapScore
from specsim.fidelity import Fidelity, together
from specsim.fidelity.bars import MAP, REGRET, ROUND_TIME, Bar, judge_coverage
from specsim.fidelity.bootstrap import Range
from specsim.fidelity.where import PARTS, SLOW, TARGET, CellParts, by_width, summaries, target_factors
from specsim.report.sheet import Sheet
from specsim.specs.conditions import Conditions
from specsim.units import format_seconds


def map_lines(score: MapScore) -> list[str]:
    """What the tables come to, judged by the bars."""
    now, before = score.now, score.committed
    lines = [
        *conditions_lines(score.conditions),
        *_error_lines(now),
        f"regret of the predicted best k: at most {now.worst_regret():.1%} ({_regret_bar(now)})",
    ]
    limit = _bar(ROUND_TIME, "mean").limit
    if noisy := now.noisier_than(limit):
        lines.append(
            f"more repeats needed: {noisy} of {len(now.cells)} cells are not known to {limit:.0%} from "
            f"{score.repeats} repeats"
        )
    if before is not None:
        lines.append(_before_line(before))
    return lines


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
        f"round time: mean |error| {error:.1%} [{shown(fidelity.mean_range())}] ({mean.judge(error)}), p90 "
        f"{fidelity.percentile_absolute_error(90):.1%}, p95 {p95:.1%} [{shown(fidelity.percentile_range(95))}] "
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
        left=0,
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
        title, ("batch", *(f"k={k}" for k in lengths)),
        [[str(batch), *(_percent(values.get((batch, k))) for k in lengths)] for batch in batches], left=0,
    )  # fmt: skip


def map_page(score: MapScore) -> str:
    """The case's report.md: verdict first, then every cell."""
    places = {(c.cell.predicted.batch, c.cell.predicted.draft_tokens): c for c in score.parts}
    errors = {(c.predicted.batch, c.predicted.draft_tokens): c.error for c in score.now.cells}
    sheets = [
        error_sheet("error of round time by batch and k", errors),
        *where_sheets(score.parts),
        *(
            error_sheet(f"error of the part alone: {part}", {at: cell.error(part) for at, cell in places.items()})
            for part in PARTS
            if places and part != SLOW
        ),
        regret_sheet(score.now),
        cell_sheet(score.now),
    ]
    lines = "\n".join(f"- {line}" for line in map_lines(score))
    return "\n\n".join([f"# {score.case.name}", score.case.origin(), lines, *(s.markdown() for s in sheets)]) + "\n"


def regret_sheet(fidelity: Fidelity) -> Sheet:
    """The decision at each batch size and what following the prediction would have cost."""
    return Sheet(
        "best k by batch size", ("batch", "predicted best k", "measured best k", "throughput lost"),
        [(str(r.batch), str(r.predicted_k), str(r.measured_k), f"{r.share:.1%}") for r in fidelity.regrets], left=0,
    )  # fmt: skip


def cell_sheet(fidelity: Fidelity) -> Sheet:
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
    for cell in fidelity.cells:
        p = cell.predicted
        rows.append((
            str(p.batch), str(p.draft_tokens), format_seconds(p.round_s),
            f"{format_seconds(p.low_s)} to {format_seconds(p.high_s)}", format_seconds(cell.measured_s),
            f"{cell.error:+.1%}", f"{cell.spread:.1%}", _percent(cell.noise, signed=False),
            "yes" if cell.covered else "no", p.source,
        ))  # fmt: skip
    return Sheet("round time, predicted against measured", header, rows, left=0)


def maps_sheet(scores: Iterable[MapScore], title: str) -> Sheet:
    """Maps by drafter, then all of them together, every cell with the same weight."""
    drafters: dict[str, list[MapScore]] = {}
    for score in scores:
        drafters.setdefault(drafter_name(score), []).append(score)
    everything = [score for found in drafters.values() for score in found]
    groups = [*drafters.items(), *([("all", everything)] if len(drafters) > 1 else [])]
    header = (
        "drafter", "source", "maps", "cells", "mean |error|", "90 % of it", "bias", "p95", "inside", "worst regret",
        "before the run",
    )  # fmt: skip
    rows = []
    for name, found in groups:
        both = together([score.now for score in found])
        before = [score.committed for score in found if score.committed is not None]
        rows.append((
            name, ", ".join(sorted({score.case.scenario.cost.source for score in found})), str(len(found)),
            str(len(both.cells)), f"{both.mean_absolute_error():.1%}", shown(both.mean_range()),
            f"{both.mean_error():+.1%}", f"{both.percentile_absolute_error(95):.1%}", f"{both.coverage():.0%}",
            f"{both.worst_regret():.1%}", f"{together(before).mean_absolute_error():.1%}" if before else "-",
        ))  # fmt: skip
    return Sheet(title, header, rows)


def shared_where_sheets(scores: Iterable[MapScore]) -> list[Sheet]:
    """Where the error sits over all maps of one target on one machine, for each that has several."""
    groups: dict[tuple[str, str], list[MapScore]] = {}
    for score in scores:
        groups.setdefault((score.case.scenario.gpu.name, score.case.scenario.model.name), []).append(score)
    return [
        sheet
        for (_, model), found in groups.items()
        if len(found) > 1
        for sheet in where_sheets([cell for one in found for cell in one.parts], f", all maps of {model}")
    ]


def together_lines(scores: Sequence[MapScore]) -> list[str]:
    """All maps judged by the bars."""
    both = together([score.now for score in scores])
    lines = [*_error_lines(both), f"regret: at most {both.worst_regret():.1%} ({_regret_bar(both)})"]
    before = [score.committed for score in scores if score.committed is not None]
    return [*lines, _before_line(together(before))] if before else lines


def drafter_name(score: MapScore) -> str:
    speculation = score.case.scenario.speculation
    return "none" if speculation is None else speculation.program.name


def shown(interval: Range) -> str:
    return f"{100 * interval.low:.1f} to {interval.high:.1%}"


def _percent(value: float | None, *, signed: bool = True) -> str:
    if value is None:
        return "-"
    return f"{value:+.1%}" if signed else f"{value:.1%}"
