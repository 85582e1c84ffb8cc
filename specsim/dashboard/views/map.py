"""Batch size x draft length: speed-up, TPOT, tokens/s/GPU or cost, with the user's own batch marked."""

from __future__ import annotations

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.drawing import rests_on, show
from specsim.report.figures import map_figure
from specsim.report.measures import measures


def draw(answered: Answered) -> None:
    """The map in the measure that the user chooses, and its cells as a table."""
    found = measures(answered.scenario)
    chosen = st.segmented_control(
        "Measure", [*found], default=next(iter(found)), required=True, wrap=True, key=f"measure {answered.side}"
    )
    measure, batch, speedups = found[chosen or next(iter(found))], answered.load.batch, answered.speedups
    unit = f" ({measure.unit})" if len(measure.unit) > 1 else ""
    st.markdown(f"**{measure.name}{unit} by batch size and draft length**")
    show(map_figure(speedups, batch, measure), f"map {answered.side}", f"{measure.name} by batch size and k")
    if "Cost" not in found:
        st.caption("For cost give USD per GPU-hour (Engine, precision, prices).")
    cell = answered.verdict.drafting or answered.verdict.cell
    rests_on(
        answered,
        f"The frame marks each batch size's best k (0 is off), the arrow your batch, {batch}: {answered.load.why}. "
        f"There k = {cell.draft_tokens} gives {cell.speedup:.2f}x, 90 % interval {cell.low:.2f} to {cell.high:.2f}; "
        "each cell tells its own when pointed at.",
    )
    with st.expander("Data"):
        st.dataframe(speedups.as_json()["grid"], hide_index=True)
