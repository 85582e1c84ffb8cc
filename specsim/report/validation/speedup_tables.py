"""Speed-ups of a real engine, predicted against measured: the cost model's error apart from the acceptance law's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specsim.cases.scores import MapScore
from specsim.fidelity import SpeedupError
from specsim.fidelity.bars import MAP_REAL, SPEEDUP, Bar, judge_coverage
from specsim.report.sheet import Sheet


def speedup_sheets(score: MapScore) -> list[Sheet]:
    """Every cell with drafts; none of the reference engine."""
    if not score.speedups:
        return []
    header = (
        "batch",
        "k",
        "predicted",
        "measured",
        "its repeats",
        "error",
        "cost",
        "acceptance",
        "tokens a round",
        "inside",
    )
    rows = [_row(one) for one in score.speedups]
    note = (
        "Speed-up: output tokens/s over those of plain decoding in the same repeat. Cost: the error with the "
        "acceptance counted in the run; acceptance: of the tokens a round commits."
    )
    return [Sheet("speed-up as predicted before the run, against measured", header, rows, note, words=())]


def speedup_sheet(score: MapScore) -> Sheet:
    """The same in as many columns as a terminal of 80 characters holds."""
    header = ("batch", "k", "predicted", "measured", "repeats", "error", "inside")
    kept = (0, 1, 2, 3, 4, 5, 9)
    rows = [[row[place] for place in kept] for row in map(_row, score.speedups)]
    note = (
        "Speed-up: output tokens/s over those of plain decoding in the same repeat. Inside: the stated 90 % interval."
    )
    return Sheet("speed-up, predicted and then measured", header, rows, note, words=())


def _row(one: SpeedupError) -> list[str]:
    spread = one.ratios * one.tokens
    return [
        str(one.predicted.batch),
        str(one.predicted.draft_tokens),
        f"{one.foretold:.2f}",
        f"{one.measured:.2f}",
        f"{spread.min():.2f} to {spread.max():.2f}",
        f"{one.error:+.1%}",
        f"{one.cost_error:+.1%}",
        f"{one.acceptance_error:+.1%}",
        f"{one.tokens:.2f}",
        {True: "yes", False: "no", None: "-"}[one.covered],
    ]


def speedup_lines(scores: Sequence[MapScore]) -> list[str]:
    """What the speed-ups of one map, or of several of a case, come to; judged by the bars of their price source."""
    cells = [one for score in scores for one in score.speedups]
    if not cells:
        return []
    source = scores[0].case.scenario.cost.source
    bars: dict[str, Bar] = {bar.statistic: bar for bar in MAP_REAL.get(source, ()) if bar.metric == SPEEDUP}
    lines = [
        _line("speed-up, cost error", [one.cost_error for one in cells], bars),
        _line("speed-up, acceptance error", [one.acceptance_error for one in cells], {}),
        _line("speed-up, both", [one.error for one in cells], {}),
    ]
    stated = [one.covered for one in cells if one.covered is not None]
    if stated:
        share = sum(stated) / len(stated)
        lines.append(
            f"speed-up intervals: {sum(stated)} of {len(stated)} cells ({share:.0%}) in the stated 90 % interval "
            f"({judge_coverage(share)})"
        )
    return [*lines, f"trust a predicted speed-up within {trust(cells):.0%}: nine cells in ten were"]


def trust(cells: Sequence[SpeedupError]) -> float:
    """The |error| that nine cells in ten are within."""
    return float(np.percentile([abs(one.error) for one in cells], 90))


def _line(what: str, errors: Sequence[float], bars: dict[str, Bar]) -> str:
    sizes = np.abs(errors)
    mean, worst = float(sizes.mean()), float(sizes.max())
    judged = {
        name: f" ({bars[name].judge(value)})" if name in bars else ""
        for name, value in (("mean", mean), ("worst", worst))
    }
    return (
        f"{what}: mean |error| {mean:.1%}{judged['mean']}, worst {worst:.1%}{judged['worst']}, bias "
        f"{float(np.mean(errors)):+.1%}"
    )
