"""How often drafts are accepted, where that is from, and what the user's own logs say."""

from __future__ import annotations

from math import exp

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import plain, show
from specsim.dashboard.inputs.logs import Logs, kept_logs
from specsim.report.acceptance import lengths_figure, rates_figure, rates_sheet
from specsim.report.fitted_acceptance import candidates_table, law_lines, read_table, untold_lines
from specsim.report.sheet import Sheet


def draw(answered: Answered) -> None:
    """The law in use by position and by draft length, then the fit of the logs that were given."""
    speculation, logs = answered.scenario.speculation, kept_logs()
    if speculation is None or not speculation.max_draft_tokens:
        st.info("Nothing is drafted, so nothing is accepted. Choose a drafter to see its acceptance.")
    else:
        logged = logs.rates() if logs is not None else ()
        left, right = st.columns(2)
        with left:
            st.markdown("**Drafts accepted by position**")
            show(rates_figure(answered.machine, logged), f"rates {answered.side}", "drafts accepted by position")
        with right:
            st.markdown("**Tokens a round by draft length**")
            show(lengths_figure(answered.machine), f"lengths {answered.side}", "tokens a round by draft length")
        origin = speculation.acceptance_origin
        spread = speculation.acceptance_spread
        st.caption(
            plain(
                f"{speculation.drafter_name()}, {speculation.acceptance.kind.replace('_', ' ')} law: "
                f"{origin.sentence()}. For an origin of this kind accepted drafts may be off by a factor of "
                f"{exp(spread):.2f} either way (one standard deviation); speed-ups' intervals hold that."
            )
        )
        draw_sheet(rates_sheet(answered.machine, logged))
    st.subheader("Your logs")
    if logs is None:
        st.info(
            "Give a dump of /metrics, a server's log, responses with acceptance, or a load test's JSON in the sidebar "
            "(Files and pasted text): the law that fits them is shown here and used.",
            icon=":material/upload_file:",
        )
    else:
        _fit(logs)


def _fit(logs: Logs) -> None:
    found = logs.law
    draw_sheet(Sheet.of(read_table(logs.names, logs.records, found.used)))
    if found.chosen.candidates:
        draw_sheet(Sheet.of(candidates_table(found.chosen)))
    told = [*law_lines(found.chosen), "what these logs cannot tell:", *untold_lines(found.chosen, found.rounds)]
    notes = [note for record in logs.records for note in record.notes]
    st.markdown("\n".join(f"- {plain(line)}" for line in [*told, *notes]))
