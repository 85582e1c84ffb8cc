"""Served cases side by side, and all of one kind together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specsim.cases.map import real_acceptance
from specsim.cases.scores import ServedScore
from specsim.fidelity.bars import served_bars
from specsim.fidelity.served_errors import together
from specsim.report.sheet import Sheet
from specsim.report.validation.served_tables import NAMES, coverage_lines, mean_errors, metrics_sheet


def served_cases_sheet(scores: Sequence[ServedScore]) -> Sheet:
    """A line a case: mean |error| by metric, as predicted before the run, and by today's code where it is asked."""
    metrics = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_ttft_ms", "p99_tpot_ms")
    rows = []
    for score in scores:
        before = mean_errors(score.committed)
        now = {} if score.now is None else mean_errors(score.now)
        rows.append(
            (
                score.case.name,
                score.case.scenario.cost.source,
                str(len(score.committed.rows)),
                *(f"{before[metric]:.1%}" if metric in before else "-" for metric in metrics),
                f"{score.committed.covered() / len(score.committed.rows):.0%}",
                ", ".join(f"{now[metric]:.1%}" for metric in metrics[:3] if metric in now) or "-",
            )
        )
    header = ("case", "source", "rows", *(NAMES[metric] for metric in metrics), "inside", "now")
    note = (
        "Mean |error| of each metric as predicted before the run; now: tokens/s, TTFT p50 and TPOT p50 by today's "
        "code in the run's conditions, a dash where it is not asked."
    )
    return Sheet("served loads", header, rows, note)


def together_sheets(scores: Iterable[ServedScore]) -> list[tuple[Sheet, list[str]]]:
    """Served cases together, those with imposed acceptance apart from those with real; a table and its lines each."""
    groups: dict[bool, list[ServedScore]] = {}
    for score in scores:
        groups.setdefault(real_acceptance(score.case), []).append(score)
    return [_group(groups[real], real=real) for real in sorted(groups)]


def _group(scores: Sequence[ServedScore], *, real: bool) -> tuple[Sheet, list[str]]:
    both = together([score.committed for score in scores])
    title = f"all served loads, acceptance {'real' if real else 'imposed'} ({len(scores)} cases)"
    return metrics_sheet(both, served_bars(real_acceptance=real), title), coverage_lines(both)
