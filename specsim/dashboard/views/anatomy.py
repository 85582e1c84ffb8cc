"""Where a round's time goes, what it waits for, and its kernels against the card's roofline."""

from __future__ import annotations

import streamlit as st

from specsim.analytic.kernels import round_kernels
from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import fail, rests_on, show
from specsim.errors import SpecsimError
from specsim.report.figures import anatomy_figure
from specsim.report.kernels import kernel_sheet, roofline_figure, roofline_words
from specsim.report.sheet import Sheet
from specsim.report.tables import split_table


def draw(answered: Answered) -> None:
    """Shares of time over batch sizes, then the round of the user's batch kernel by kernel."""
    st.markdown("**Share of a step's time at each batch size's best k**")
    show(anatomy_figure(answered.speedups), f"anatomy {answered.side}", "shares of a step's time by batch size")
    cell = answered.verdict.drafting or answered.verdict.cell
    rests_on(answered, "The table says what a round waits for; ± is the round's 90 % interval.")
    draw_sheet(Sheet.of(split_table(answered.speedups)))
    st.markdown(f"**The kernels of one round at batch {cell.batch}, k = {cell.draft_tokens}, on the roofline**")
    try:
        kernels = round_kernels(answered.machine, cell.batch, cell.draft_tokens)
    except SpecsimError as error:
        fail(error)
        return
    gpu, dtype = answered.scenario.gpu, answered.machine.precision.dtype
    show(roofline_figure(kernels, gpu, dtype), f"roofline {answered.side}", "kernels by FLOPs a byte and FLOP/s")
    rests_on(answered, roofline_words(kernels))
    with st.expander("Kernels"):
        draw_sheet(kernel_sheet(kernels))
