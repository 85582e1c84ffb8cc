"""The what-if page: one question from the sidebar, the verdict first, then what it rests on.

Draws what the package computes: batches in steady service, as ``analytic.rounds`` has them.
"""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st
import yaml

from specsim.analytic.load import answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import assemble
from specsim.dashboard.inputs import ask
from specsim.errors import SpecsimError
from specsim.report.assumed import engine_line, workload_line
from specsim.report.figures import OFF, ON, anatomy_figure, speedup_figure
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Scenario
from specsim.specs.yaml_file import build
from specsim.units import format_seconds

FILE = "scenario.yaml"
PLOT: dict[str, Any] = {"displayModeBar": False}
STYLE = """<style>
.block-container {padding-top: 4.2rem; max-width: 70rem}
[data-testid="stSidebarHeader"] {height: 2rem}
[data-testid="stSidebar"] [data-testid="stVerticalBlock"] {gap: .5rem}
.verdict {border-left: 8px solid; padding: .7rem 1.1rem; background: #f3f4f6; color: #1f2937; border-radius: .3rem}
.verdict b {font-size: 1.5rem; line-height: 1.3; display: block; text-wrap: balance}
[data-testid="stMain"] h3 {font-size: 1.3rem}
[data-testid="stSidebar"] h3 {font-size: 1.05rem}
</style>"""


def page() -> None:
    """The whole page. An error the user can cause is one line; any other exception is a bug and shows as one."""
    st.set_page_config("specsim", layout="wide", initial_sidebar_state="expanded")
    st.html(STYLE)
    try:
        fields = ask()
        scenario = build(Scenario, fields, where="scenario")
        speedups, asked = answered_map(assemble(scenario))
    except SpecsimError as error:
        st.error(" ".join(str(error).split()))
        return
    answer = verdict(speedups, asked)
    _show_verdict(scenario, speedups, answer)
    _show_map(speedups, answer)
    _show_anatomy(speedups, answer)
    _show_repeat(fields, scenario, speedups)


def _show_verdict(scenario: Scenario, speedups: SpeedupMap, answer: Verdict) -> None:
    speculation = scenario.speculation
    drafter = speculation.program.name if speculation else "no drafter"
    if speculation and speculation.draft_model:
        drafter = speculation.draft_model.name
    st.caption(f"specsim: {scenario.model.name} on {scenario.gpu.name}, {scenario.engine.name}, drafter {drafter}")
    colour = ON if answer.on else OFF
    st.html(
        f'<div class="verdict" style="border-color: {colour}"><b>{_unbroken(answer.sentence)}</b>'
        f"{_unbroken(answer.about)}<br>{_unbroken(answer.limits)}</div>"
    )
    cell, plain = answer.drafting or answer.cell, speedups.cell(answer.batch, 0)
    columns = st.columns(4)
    columns[0].metric(f"Output tokens/s/GPU at k = {cell.draft_tokens}", f"{cell.output_tokens_per_s:,.0f}")
    columns[1].metric("The same without a drafter", f"{plain.output_tokens_per_s:,.0f}")
    columns[2].metric("Tokens a round", f"{cell.tokens_per_round:.2f}")
    columns[3].metric("Decode round", format_seconds(cell.round_s))


def _unbroken(text: str) -> str:
    """Text for HTML whose percent signs stay with their numbers."""
    return escape(text).replace(" %", "&nbsp;%")


def _show_map(speedups: SpeedupMap, answer: Verdict) -> None:
    st.subheader("Speed-up by batch size and draft length")
    st.plotly_chart(speedup_figure(speedups, answer.batch), theme=None, config=PLOT)
    st.caption(
        "Output tokens/s over plain decoding: blue pays, amber loses; the frame marks a row's best k (0 is off), "
        "▸ your batch."
    )
    with st.expander("Data"):
        st.dataframe(speedups.as_json()["grid"], hide_index=True)


def _show_anatomy(speedups: SpeedupMap, answer: Verdict) -> None:
    st.subheader("Where the time goes")
    st.plotly_chart(anatomy_figure(speedups), theme=None, config=PLOT)
    cell = answer.cell
    part = max(cell.parts, key=cell.parts.__getitem__)
    st.caption(
        f"At batch {cell.batch} and k = {cell.draft_tokens} a step takes {format_seconds(cell.step_s)} in the mean; "
        f"its largest part is {part}, {format_seconds(cell.parts[part])}."
    )


def _show_repeat(fields: dict[str, Any], scenario: Scenario, speedups: SpeedupMap) -> None:
    st.subheader("Where this comes from")
    st.markdown(f"{_prices(speedups)} {workload_line(speedups)} {engine_line(scenario)}")
    st.markdown("The same answer on the command line, from the file below:")
    st.code(f"specsim predict {FILE}", language=None)
    text = scenario_text(fields)
    st.download_button("Download scenario.yaml", text, FILE, "application/yaml")
    with st.expander(FILE):
        st.code(text, language="yaml")


def _prices(speedups: SpeedupMap) -> str:
    """Where kernel times come from, in a sentence; the worst source of the map's cells stands for all."""
    if speedups.price_name == "roofline":
        return "Prices: **datasheet roofline**; no measured profile is in use, so the intervals are wide assumptions."
    return f"Prices: profile **{speedups.price_name}**; worst source of a round: **{speedups.worst_source()}**."


def scenario_text(fields: dict[str, Any]) -> str:
    """The question as a scenario file."""
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
