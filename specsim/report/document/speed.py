"""How fast: the speed-up map, where time goes, the Pareto frontier, latency against load, drafters side by side."""

from __future__ import annotations

from specsim.analytic.speedups import SpeedupMap
from specsim.report.document.blocks import Chart, Paragraph, Section
from specsim.report.figures import anatomy_figure, map_figure
from specsim.report.sheet import Sheet
from specsim.report.tables import map_table, split_table


def speedups_section(speedups: SpeedupMap, batch: int) -> Section:
    """Every batch size and draft length."""
    table = Sheet.of(map_table(speedups))
    if speedups.acceptance is None:
        return Section("Throughput by batch size", [table])
    told = (
        "Output tokens/s over those of the same batch with no drafter loaded; above 1 speculation pays. The frame, or "
        f"bracket, marks each batch size's best draft length (k = 0 is off), ▸ the load's own batch, {batch}."
    )
    return Section(
        "Speed-up by batch size and draft length", [Paragraph(told), Chart(map_figure(speedups, batch)), table]
    )


def time_section(speedups: SpeedupMap) -> Section:
    """Where the time of a step goes."""
    return Section("Where the time goes", [Chart(anatomy_figure(speedups)), Sheet.of(split_table(speedups))])
