"""Drafters side by side: by formula over batch sizes, and simulated at the load."""

from __future__ import annotations

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw as draw_blocks
from specsim.dashboard.drawing import plain, show
from specsim.dashboard.inputs.words import Words
from specsim.dashboard.running import run_on_demand
from specsim.planning.compare import Comparison, compare, usual_drafters, with_each
from specsim.progress import TimedProgress
from specsim.report.assumed import ranking_line
from specsim.report.comparison_figure import comparison_figure
from specsim.report.document.speed import drafters

SIMULATED = 5  # at the load, the best by formula


def draw(answered: Answered) -> None:
    """The comparison, once the user has it made."""
    words = answered.words
    named = ", ".join(words.drafters) or "the question's own and those that engines serve with such a model"
    found = run_on_demand(
        f"compare {answered.key} {words.drafters}",
        "Compare drafters",
        f"Compares {named} by formula, and simulates the best {SIMULATED} at the load.",
        lambda told: _compared(words, told),
        answered.side,
    )
    if found is None:
        return
    answer, *details = drafters(found, answered.scenario.slo).blocks
    draw_blocks([answer], f"compared {answered.side}")
    st.markdown("**Speed-up of each drafter at its best k**")
    show(comparison_figure(found), f"compare {answered.side}", "speed-up by drafter and batch size")
    ranking = ranking_line(one.scenario.speculation for one in found.drafters)
    st.caption(plain(f"Prices: {found.price_name}. The table at the load has 90 % intervals. {ranking or ''}"))
    draw_blocks(details, f"compare {answered.side}")


def _compared(words: Words, told: TimedProgress) -> Comparison:
    names, left_out = list(words.drafters), dict[str, str]()
    if not names:
        model = words.but(drafter="off", draft_tokens=None).ask().scenario.model
        names, left_out = usual_drafters(model, words.options.drafter)
    scenarios = with_each(
        names, lambda name: words.but(drafter=name).ask().scenario, None if words.drafters else left_out
    )
    count, steps = 0, 1 + len(scenarios) + min(SIMULATED, len(scenarios))

    def tell(name: str) -> None:
        nonlocal count
        told(count, steps, name)
        count += 1

    return compare(scenarios, left_out=left_out, simulated=SIMULATED, progress=tell)
