"""Published speed-ups beside predicted ones, for somebody who has seen neither before."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from specsim.report.narrow import narrow_table
from specsim.studies.example import PublishedSpeedup


def example_table(found: Sequence[PublishedSpeedup]) -> Table:
    """A row a measured run; ``row``: whether engine constants were fitted on its study's like (``validate gpu``)."""
    table = narrow_table("the same model and technique, measured by others: speed-up over no drafter")
    table.add_column("runs")
    for column in ("sequences", "k", "tokens a\nround", "measured", "predicted", "error"):
        table.add_column(column, justify="right")
    table.add_column("row")
    for one in found:
        length = "not told" if one.acceptance_length is None else f"{one.acceptance_length:.2f}"
        error = f"{one.predicted / one.measured - 1:+.0%}"
        table.add_row(
            one.runs,
            str(one.sequences),
            str(one.draft_tokens),
            length,
            f"{one.measured:.2f}",
            f"{one.predicted:.2f}",
            error,
            one.split,
        )
    return table


def example_lines(found: Sequence[PublishedSpeedup]) -> list[str]:
    """What the rows are."""
    studies = ", ".join(dict.fromkeys(one.study for one in found))
    return [
        "Engine constants were fitted on calibration rows, nothing on test rows. Acceptance is that of each run, or,",
        f"where it was not told, the drafter's published one. Sources: specsim validate gpu NAME, of {studies}.",
    ]
