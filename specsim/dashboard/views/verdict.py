"""On or off at your load, best k, speed-up with its interval, SLO, GPUs and cost, and what that rests on."""

from __future__ import annotations

from typing import Any

import streamlit as st

from specsim.analytic.speedups import Cell
from specsim.assembly import assemble
from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import card, plain
from specsim.dashboard.simulated import OFF, RunSummaries, alternatives, simulated
from specsim.dashboard.tuned import draw as draw_tuned
from specsim.report.assumed import assumed_lines, unstated_line
from specsim.report.measures import measures
from specsim.report.served import limited_line, run_table, slo_line
from specsim.report.sheet import Sheet
from specsim.results import slo_met
from specsim.units import format_seconds

METRIC_PIXELS = 160  # two fit side by side on a phone


def draw(answered: Answered) -> None:
    """The verdict by formula, then by simulation where the user wants it."""
    answer = answered.verdict
    card(answer.on, answer.sentence, f"{answer.about}.", f"{answer.limits}.")
    cell, plain_cell = answer.drafting or answer.cell, answered.speedups.cell(answer.batch, 0)
    _metrics(answered, cell, plain_cell)
    if answer.drafting is not None:
        st.caption(plain(_change(answered, cell)))
    st.subheader("Under load")
    found = simulated(answered)
    if found is not None:
        _served(answered, found)
    draw_tuned(answered)
    st.subheader("What this rests on")
    lines = [*assumed_lines(answered.scenario, answered.speedups), *unstated_line(answered.asked.assumed)]
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))


def _metrics(answered: Answered, cell: Cell, off: Cell) -> None:
    """The measures of the best drafting cell, each beside that of no drafter."""
    found = measures(answered.scenario)
    shown = [found[name] for name in ("Output tokens/s/GPU", "TPOT", "Cost") if name in found]
    row = st.container(horizontal=True)
    for measure in shown:
        unit = f" {measure.unit}" if measure.unit and measure.name != "Cost" else ""
        label = "USD per 1M tokens" if measure.name == "Cost" else measure.name
        before = f"off: {measure.text(off)}{unit}" if cell is not off else None
        _metric(row, label, f"{measure.text(cell)}{unit}", before)
    _metric(row, "Tokens a round", f"{cell.tokens_per_round:.2f}", f"k = {cell.draft_tokens}")
    _metric(
        row,
        "Decode round",
        format_seconds(cell.round_s),
        f"±{cell.round_high_s / cell.round_s - 1:.0%} (90 %)",
    )


def _metric(row: Any, label: str, value: str, beside: str | None) -> None:
    row.metric(label, value, beside, delta_color="off", delta_arrow="off", border=True, width=METRIC_PIXELS)


def _change(answered: Answered, cell: Cell) -> str:
    """What the speed-up is in GPUs: at one batch, tokens/s of a GPU grow by it, so the GPUs of a load shrink by it."""
    less, least, most = (1 / value - 1 if value else float("inf") for value in (cell.speedup, cell.high, cell.low))
    what = "GPUs and cost" if answered.scenario.usd_per_gpu_hour is not None else "GPUs"
    return (
        f"With k = {cell.draft_tokens} at batch {cell.batch}: {less:+.0%} {what} for the same output tokens/s "
        f"(90 % interval {least:+.0%} to {most:+.0%}). Plan says which deployment meets an SLO with fewest."
    )


def _served(answered: Answered, found: RunSummaries) -> None:
    """The SLO's answer for each side, what limited it, and the figures side by side."""
    slo, sides = answered.scenario.slo, alternatives(answered.scenario)
    for name, run in found.items():
        limited = limited_line(run, assemble(sides[name]))
        lines = [f"{limited[0].upper()}{limited[1:]}."] if limited else []
        if slo is None or not slo.states_anything:
            told = f"{name}: {run['output_throughput']:,.0f} output tokens/s; no SLO is asked for"
            card(name != OFF, told, *lines)
        else:
            answer, _, bounds = slo_line(run, slo).partition(": ")
            card(slo_met(run, slo), f"{name}: {answer}", f"{bounds}.", *lines)
    draw_sheet(Sheet.of(run_table(found, OFF)))
    last = next(reversed(found.values()))
    st.caption(
        plain(
            f"One run of {last['completed']:,} requests under seed {answered.scenario.seed}; prices "
            f"{last['prices']}, worst source of a step {last['price_source']}. For intervals: specsim simulate "
            "--intervals 24."
        )
    )
