"""The what-if page: one question from the sidebar, the verdict first, then what it rests on.

Draws what the package computes. It knows steady decoding at one context length, as ``analytic.rounds`` does.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any

import streamlit as st
import yaml

from specsim.analytic.rounds import SpeedupMap, default_batches, speedup_map
from specsim.cost.forward import SOURCES
from specsim.dashboard.inputs import Question, ask
from specsim.errors import SpecsimError
from specsim.report.figures import OFF, ON, anatomy_figure, speedup_figure
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Scenario
from specsim.scheduling.kv_cache import BlockPool
from specsim.specs.yaml_file import build
from specsim.units import format_seconds

FILE = "scenario.yaml"
PLOT: dict[str, Any] = {"displayModeBar": False}
STYLE = """<style>
.block-container {padding-top: 3.4rem; max-width: 70rem}
[data-testid="stSidebarHeader"] {height: 2rem}
[data-testid="stSidebar"] [data-testid="stVerticalBlock"] {gap: .6rem}
.verdict {border-left: 8px solid; padding: .7rem 1.1rem; background: #f3f4f6; color: #1f2937; border-radius: .3rem}
.verdict b {font-size: 1.5rem; line-height: 1.3; display: block}
</style>"""


def page() -> None:
    """The whole page. An error the user can cause is one line; any other exception is a bug and shows as one."""
    st.set_page_config("specsim", layout="wide", initial_sidebar_state="expanded")
    st.html(STYLE)
    try:
        question = ask()
        scenario = build(Scenario, question.fields, where="scenario")
        speedups = speedup_map(scenario, batches=_batches(scenario, question.batch))
    except SpecsimError as error:
        st.error(" ".join(str(error).split()))
        return
    answer = verdict(speedups, question.batch)
    _show_verdict(scenario, speedups, answer)
    _warn_of_memory(scenario, speedups, answer)
    _show_map(speedups, answer)
    _show_anatomy(speedups, answer)
    _show_repeat(question, speedups)


def _batches(scenario: Scenario, batch: int) -> list[int]:
    """The default rows of the map and the batch asked about."""
    return sorted({*default_batches(scenario.engine.max_num_seqs), batch})


def _show_verdict(scenario: Scenario, speedups: SpeedupMap, answer: Verdict) -> None:
    speculation = scenario.speculation
    drafter = speculation.program.name if speculation else "no drafter"
    if speculation and speculation.draft_model:
        drafter = speculation.draft_model.name
    st.caption(f"{scenario.model.name} on {scenario.gpu.name}, drafter {drafter}")
    colour = ON if answer.on else OFF
    st.html(
        f'<div class="verdict" style="border-color: {colour}"><b>{escape(answer.sentence)}</b>'
        f"{escape(answer.limits)}</div>"
    )
    cell, plain = answer.cell, speedups.cell(answer.batch, 0)
    columns = st.columns(4)
    columns[0].metric("Output tokens/s/GPU", f"{cell.output_tokens_per_s:,.0f}")
    columns[1].metric("The same without a drafter", f"{plain.output_tokens_per_s:,.0f}")
    columns[2].metric("Tokens a round", f"{cell.tokens_per_round:.2f}")
    columns[3].metric("Round time", format_seconds(cell.round_s))


def _warn_of_memory(scenario: Scenario, speedups: SpeedupMap, answer: Verdict) -> None:
    """The map prices every batch; the KV cache may not hold it."""
    pool = BlockPool(scenario.kv_blocks(), scenario.engine.block_size)
    context = math.ceil(speedups.cells[0].context_tokens)
    if not pool.can_allocate(answer.batch * pool.blocks_for(context)):
        st.warning(
            f"The KV cache ({pool.num_blocks:,} blocks of {pool.block_size} tokens) does not hold {answer.batch} "
            f"sequences of {context:,} tokens: the engine would run fewer at a time."
        )


def _show_map(speedups: SpeedupMap, answer: Verdict) -> None:
    st.subheader("Speed-up by batch size and draft length")
    st.plotly_chart(speedup_figure(speedups, answer.batch), theme=None, config=PLOT)
    st.caption(
        "Output tokens/s over plain decoding at the same batch: blue pays, amber loses; the frame marks a row's best "
        "k (0 is off), ▸ the batch asked about."
    )
    with st.expander("Data"):
        st.dataframe(speedups.as_json()["grid"], hide_index=True)


def _show_anatomy(speedups: SpeedupMap, answer: Verdict) -> None:
    st.subheader("Where a round's time goes")
    st.plotly_chart(anatomy_figure(speedups), theme=None, config=PLOT)
    cell = answer.cell
    part = max(cell.parts, key=cell.parts.__getitem__)
    st.caption(
        f"At batch {cell.batch} and k = {cell.draft_tokens} a round takes {format_seconds(cell.round_s)}; its largest part "
        f"is {part}, {format_seconds(cell.parts[part])}."
    )


def _show_repeat(question: Question, speedups: SpeedupMap) -> None:
    st.subheader("Where this comes from")
    st.markdown(
        f"{_prices(speedups)} Steady decoding at {speedups.cells[0].context_tokens:.0f} tokens of context; no prefill, "
        "no queueing."
    )
    st.markdown("The same answer on the command line, from the file below:")
    st.code(_command(question), language="bash")
    text = scenario_text(question)
    st.download_button("Download scenario.yaml", text, FILE, "application/yaml")
    with st.expander(FILE):
        st.code(text, language="yaml")


def _prices(speedups: SpeedupMap) -> str:
    """Where kernel times come from, in a sentence; the worst source of the map's cells stands for all."""
    order: tuple[str, ...] = SOURCES
    worst = max((cell.source for cell in speedups.cells), key=order.index)
    if speedups.price_name == "roofline":
        return "Prices: **datasheet roofline**; no measured profile is in use, so the intervals are wide assumptions."
    return f"Prices: profile **{speedups.price_name}**; worst source of a cell: **{worst}**."


def scenario_text(question: Question) -> str:
    """The question as a scenario file."""
    return yaml.safe_dump(question.fields, sort_keys=False, allow_unicode=True)


def _command(question: Question) -> str:
    rows = default_batches(question.fields["engine"]["max_num_seqs"])
    if question.batch in rows:
        return f"specsim predict {FILE}"
    return f"specsim predict {FILE} --batches {','.join(map(str, sorted({*rows, question.batch})))}"
