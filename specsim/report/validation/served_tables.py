"""Predicted against measured served loads in words and tables: every row, by metric, the decision, the ablation."""

from __future__ import annotations

from specsim.cases.map import real_acceptance
from specsim.cases.scores import ServedScore
from specsim.cases.served import loads_of
from specsim.fidelity.bars import SERVED_RATIO, Bar, judge_coverage, served_bars
from specsim.fidelity.served_errors import (
    LENGTH,
    MEAN_E2E,
    MetricError,
    MetricSummary,
    ServedFidelity,
    ablation,
    summarize,
)
from specsim.report.sheet import Sheet
from specsim.report.validation.map_tables import conditions_lines, retired_line, shown
from specsim.results.served_rows import SATURATION

NAMES = {
    "output_throughput": "tokens/s",
    "median_ttft_ms": "TTFT p50",
    "p99_ttft_ms": "TTFT p99",
    "median_tpot_ms": "TPOT p50",
    "p99_tpot_ms": "TPOT p99",
    MEAN_E2E: "E2E mean",
    "p99_e2el_ms": "E2E p99",
    "mean_batch": "batch",
    LENGTH: "AL",
}
_WIDE = ("p99_e2el_ms", "mean_batch")  # in the summary, not in the table of rows
_LEGEND = (
    "Inside: rows in the stated 90 % interval. Within: rows inside their bar (from 70%: of loads from there on). "
    "Noisy: rows whose repeats do not tell the value to within the bar, so that more repeats are needed."
)
_MARKS = "Error (spread between repeats, largest - smallest, over the median). ! outside the stated 90 % interval; "
_MARKS += "? repeats do not tell the value to within the bar: more repeats needed."


def bars_of(score: ServedScore) -> tuple[Bar, ...]:
    """The bars that a case is held to."""
    return served_bars(real_acceptance=real_acceptance(score.case))


def rows_sheet(served: ServedFidelity, bars: tuple[Bar, ...]) -> Sheet:
    """One line a load and alternative, one column a metric."""
    metrics = [metric for metric in served.metrics() if metric not in _WIDE]
    places = dict.fromkeys((row.load, row.alternative) for row in served.rows)
    found = {(row.load, row.alternative, row.metric): row for row in served.rows}
    source = {(row.load, row.alternative): row.source for row in served.rows}
    rows = [
        [load, name, source[load, name], *(_cell(found.get((load, name, metric)), bars) for metric in metrics)]
        for load, name in places
    ]
    header = ("load", "run", "source", *(NAMES[metric] for metric in metrics))
    return Sheet("error by load and alternative", header, rows, _MARKS, words=range(3))


def _cell(row: MetricError | None, bars: tuple[Bar, ...]) -> str:
    if row is None:
        return "-"
    spread = "one run" if row.spread is None else f"{row.spread:.0%}"
    return f"{row.error:+.1%} ({spread}){'' if row.covered else '!'}{'?' if row.needs_repeats(bars) else ''}"


def metrics_sheet(served: ServedFidelity, bars: tuple[Bar, ...], title: str = "error by metric") -> Sheet:
    """Each metric over all rows, judged by its bars: every row has to be inside."""
    header = (
        "metric",
        "source",
        "rows",
        "bias",
        "mean |error|",
        "90 % of it",
        "worst",
        "at",
        "inside",
        "bar",
        "within",
        "noisy",
    )
    rows = [_metric_row(summarize(metric, served.of(metric), bars), served, bars) for metric in served.metrics()]
    return Sheet(title, header, rows, _LEGEND, words=range(2))


def _metric_row(found: MetricSummary, served: ServedFidelity, bars: tuple[Bar, ...]) -> list[str]:
    limits = [
        f"{bar.limit:.0%}" + (f" from {bar.from_load:.0%}" if bar.from_load else "")
        for bar in bars
        if bar.metric == found.metric
    ]
    judged = f"{found.within}/{found.judged} {'met' if found.within == found.judged else 'missed'}"
    source = ", ".join(sorted({row.source for row in served.of(found.metric)}))
    return [
        NAMES[found.metric],
        source,
        str(found.rows),
        f"{found.mean_error:+.1%}",
        f"{found.mean_absolute:.1%}",
        shown(found.interval),
        f"{found.worst.error:+.1%}",
        f"{found.worst.load} {found.worst.alternative}",
        f"{found.covered}/{found.rows}",
        "; ".join(limits) or "-",
        judged if found.judged else "-",
        str(found.noisy) if found.judged else "-",
    ]


def regret_sheet(served: ServedFidelity) -> Sheet:
    """The decision at each load: throughput lost in a closed loop, mean E2E added under open arrivals."""
    rows = [
        (
            r.load,
            "mean E2E added" if r.metric == MEAN_E2E else "tokens/s lost",
            r.predicted_best,
            r.measured_best,
            " > ".join(r.predicted_order),
            " > ".join(r.measured_order),
            f"{r.share:.1%}",
        )
        for r in served.regrets
    ]
    header = ("load", "by", "predicted best", "measured best", "predicted order", "measured order", "cost")
    note = "Measured best: on odd repeats; cost: on even ones. Orders, best first: measured over all repeats."
    return Sheet("best alternative by load", header, rows, note, words=range(4))


def ratios_sheet(score: ServedScore) -> Sheet:
    """Each alternative over the plain run of the same repeat."""
    rows = [
        (
            one.load,
            one.alternative,
            NAMES[one.metric],
            f"{one.predicted:.3f}",
            f"{one.measured:.3f}",
            f"{one.repeats.min():.3f} to {one.repeats.max():.3f}",
            f"{one.error:+.1%}",
        )
        for one in score.ratios
    ]
    header = ("load", "run", "metric", "predicted", "measured", "repeats", "error")
    return Sheet(f"ratios to {loads_of(score.case).saturation_of} in the same repeat", header, rows, words=range(3))


def ratios_lines(score: ServedScore) -> list[str]:
    """The ratios of each metric, judged by the bars of open loads."""
    lines = []
    for bar in SERVED_RATIO if score.ratios else ():
        errors = [abs(one.error) for one in score.ratios if one.metric == bar.metric and one.load != SATURATION]
        if errors:
            worst, mean = max(errors), sum(errors) / len(errors)
            lines.append(
                f"{NAMES[bar.metric]} as a ratio, {len(errors)} loads: mean |error| {mean:.1%}, worst {worst:.1%} "
                f"({bar.judge(worst)})"
            )
    return lines


def ablation_sheet(score: ServedScore) -> Sheet | None:
    """Mean |error| under the scenario's acceptance law and under each other one; None without other laws."""
    rows = []
    for variant, other in score.variants.items():
        for found in ablation(score.committed, other, variant):
            rows.append(
                (
                    variant,
                    NAMES[found.metric],
                    str(found.rows),
                    f"{found.own:.1%}",
                    f"{found.other:.1%}",
                    shown(found.difference),
                    found.verdict,
                )
            )
    header = ("law", "metric", "rows", "mean |error|, the case's law", "this law", "difference, 90 %", "this law is")
    return Sheet("the same prediction under other acceptance laws", header, rows, words=range(2)) if rows else None


def ablation_lines(score: ServedScore) -> list[str]:
    """Says so, metric by metric, where another law predicts no worse than the case's own."""
    lines = []
    for variant, other in score.variants.items():
        found = ablation(score.committed, other, variant)
        for verdict, words in (
            ("not worse", "is NOT worse than the case's law"),
            ("worse, within noise", "is worse only within noise"),
            ("worse", "is worse"),
        ):
            metrics = [NAMES[one.metric] for one in found if one.verdict == verdict]
            if metrics:
                lines.append(f"ablation: acceptance law {variant!r} {words} for {', '.join(metrics)}")
    return lines


def served_lines(score: ServedScore) -> list[str]:
    """What the tables come to."""
    lines = [*ratios_lines(score), *coverage_lines(score.committed)]
    regret = score.committed.worst_regret()
    if regret is not None:
        lines.append(f"regret of the predicted best alternative: at most {regret:.1%} (see the table for of what)")
    elif len({row.alternative for row in score.committed.rows}) > 1:
        lines.append("regret: none, as each alternative's arrivals follow its own saturation, or repeats are missing")
    return lines + _now_lines(score) + ablation_lines(score)


def _now_lines(score: ServedScore) -> list[str]:
    if score.now is None:
        return [retired_line(score.retired)]
    errors = ", ".join(f"{NAMES[metric]} {error:.1%}" for metric, error in mean_errors(score.now).items())
    return [*conditions_lines(score.conditions), f"as the code stands now: mean |error| {errors}"]


def mean_errors(served: ServedFidelity) -> dict[str, float]:
    """Mean |error| by metric."""
    return {metric: summarize(metric, served.of(metric), ()).mean_absolute for metric in served.metrics()}


def coverage_lines(served: ServedFidelity) -> list[str]:
    """How many rows lie in their stated intervals."""
    share = served.covered() / len(served.rows)
    return [
        f"intervals: {served.covered()} of {len(served.rows)} rows ({share:.1%}) in the stated 90 % interval "
        f"({judge_coverage(share)})"
    ]


def served_sheets(score: ServedScore) -> list[Sheet]:
    """All tables of a served case but its values."""
    bars, served = bars_of(score), score.committed
    sheets = [rows_sheet(served, bars), metrics_sheet(served, bars)]
    if score.ratios:
        sheets.append(ratios_sheet(score))
    if served.regrets:
        sheets.append(regret_sheet(served))
    found = ablation_sheet(score)
    return sheets if found is None else [*sheets, found]


def values_sheet(served: ServedFidelity) -> Sheet:
    """Every row in figures."""
    header = (
        "load",
        "alternative",
        "metric",
        "predicted",
        "90 % interval",
        "measured",
        "repeats",
        "known to",
        "source",
    )
    rows = [
        (
            row.load,
            row.alternative,
            row.metric,
            f"{row.predicted.value:.4g}",
            f"{row.predicted.low:.4g} to {row.predicted.high:.4g}",
            f"{row.measured:.4g}",
            str(row.repeats.size),
            "-" if row.noise is None else f"{row.noise:.1%}",
            row.source,
        )
        for row in served.rows
    ]
    return Sheet("every figure", header, rows, words=range(3))


def served_page(score: ServedScore) -> str:
    """The case's report.md: verdict first, then every figure."""
    acceptance = "real, verified by trained weights" if real_acceptance(score.case) else "imposed"
    lines = [f"acceptance is {acceptance}", *served_lines(score)]
    sheets = [*served_sheets(score), values_sheet(score.committed)]
    parts = [f"# {score.case.name}", score.case.origin(), "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join([*parts, *(sheet.markdown() for sheet in sheets)]) + "\n"
