"""How fast: latency against load, the Pareto frontier, the speed-up map, where time goes, drafters side by side."""

from __future__ import annotations

from collections.abc import Sequence

from specsim.analytic.speedups import SpeedupMap
from specsim.planning.compare import Comparison
from specsim.planning.load_curve import LoadPoint
from specsim.planning.sweep.frontier import Offer, throughput
from specsim.report.comparison import acceptance_lines, at_load_table, by_batch_table, comparison_lines
from specsim.report.document.answers import bounded
from specsim.report.document.blocks import Bullets, Chart, DocumentBlock, Paragraph, Section, as_sentence
from specsim.report.figures import anatomy_figure, map_figure
from specsim.report.frontier import frontier_figure, frontier_tables, gain_line
from specsim.report.load_figures import holding_line, load_figure, load_sheets, load_unit
from specsim.report.sheet import Sheet
from specsim.report.tables import map_table, split_table
from specsim.results import Slo


def latency_against_load(points: Sequence[LoadPoint], slo: Slo | None) -> Section:
    """Percentiles and goodput from light loads to as much as is served."""
    told = (
        f"Simulated at each load ({load_unit(points)}, of all replicas together) with the same requests, off and on. "
        "p50 dotted, p95 drawn through; a dashed line is the SLO's limit of p95. Where the queue kept growing, "
        "latency has no figure."
    )
    bounds, chart = bounded(slo), Chart(load_figure(points, slo))
    held = [] if bounds is None else [Paragraph(as_sentence(holding_line(points, bounds)))]
    blocks: list[DocumentBlock] = [*held, Paragraph(told), chart, *load_sheets(points, bounds)]
    return Section("Latency against load", blocks)


def pareto(offers: Sequence[Offer]) -> Section:
    """Throughput of a GPU against the speed that one user sees, over batch sizes, draft lengths and parallelism."""
    told = (
        "One replica at every batch size and draft length, by formula; lines join what nothing beats in both. To the "
        "right users see faster answers, upwards GPUs serve more."
    )
    gain = gain_line(offers)
    tables = [Sheet.of(table) for table in frontier_tables(offers)]
    lines = [] if gain is None else [Paragraph(as_sentence(gain))]
    figure = frontier_figure(offers, throughput, "output tokens/s/GPU", height=400)
    return Section("Throughput against a user's speed", [Paragraph(told), Chart(figure), *lines, *tables])


def drafters(found: Comparison, slo: Slo | None) -> Section:
    """Which drafter, by batch size and at the load, and what each one's acceptance rests on."""
    tables = [Sheet.of(by_batch_table(found)), Sheet.of(at_load_table(found, slo))]
    _, *lines = acceptance_lines(found)
    left_out = [f"Left out, {name}: {why}" for name, why in found.left_out.items()]
    return Section(
        "Drafters", [Bullets(comparison_lines(found)), *tables, Paragraph("Acceptance:"), Bullets([*lines, *left_out])]
    )


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
