"""The question's schedule of draft lengths as its engine takes it, confirmed by simulation, to paste or to keep."""

from __future__ import annotations

from typing import get_args

import streamlit as st

from specsim.assembly import assemble
from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw as draw_blocks
from specsim.dashboard.running import run_on_demand
from specsim.interop.engine_config import RealEngineKind
from specsim.planning.decide import Decision, decide
from specsim.planning.engine_text import rule_of
from specsim.planning.longer import longest_worth_trying
from specsim.planning.tune import tune
from specsim.progress import TimedProgress
from specsim.report.document.decision import drafts
from specsim.scenario import Asked

ENDINGS = {"vllm": "sh", "sglang": "sh", "tensorrt-llm": "yaml"}


def draw(answered: Answered) -> None:
    """Every draft length under the load and what to start the engine with, once the user has it made."""
    speculation = answered.scenario.speculation
    if speculation is None or not speculation.program.drafts:
        return
    st.subheader("What to paste into the engine")
    engine = _engine(answered)
    found = run_on_demand(
        f"tune {answered.key}",
        f"Tune {engine}",
        f"Finds the best draft length at every batch size, confirms it under the load against off and every single k, "
        f"and writes it for {engine}, as specsim tune does.",
        lambda told: _tuned(answered.asked, engine, told),
        answered.side,
    )
    if found is None:
        return
    draw_blocks(drafts(found, answered.scenario.slo, "").blocks, f"tuned {answered.side}")
    st.download_button(
        "Engine configuration",
        configuration(found),
        f"speculation.{ENDINGS[engine]}",
        "text/plain",
        key=f"engine {answered.side}",
        on_click="ignore",
    )
    st.code(answered.words.command("tune", "--for", engine), language="sh", wrap_lines=True)


def configuration(decision: Decision) -> str:
    """The command that starts the engine, and the files that it names."""
    text = decision.text
    if decision.engine == "tensorrt-llm":
        return f"# {decision.command}\n{text.text}\n"
    files = "".join(f"\n# {name}:\n{content}\n" for name, content in text.files.items())
    return f"{decision.command}\n{files}"


def _engine(answered: Answered) -> RealEngineKind:
    """The question's own where its text is known, else vLLM's."""
    kind = answered.scenario.engine.kind
    return next((one for one in get_args(RealEngineKind) if one == kind), "vllm")


def _tuned(asked: Asked, engine: RealEngineKind, told: TimedProgress) -> Decision:
    question = longest_worth_trying(asked.scenario, asked.fields).run_by(engine)
    machine = assemble(question)
    count, steps = 0, 2 + len(machine.choices())

    def tell(name: str) -> None:
        nonlocal count
        told(count, steps, name)
        count += 1

    tuning = tune(
        machine, rule=rule_of(engine, question), progress=lambda done, count: told(done, count, "draft lengths")
    )
    return decide(question, engine, tuning, progress=tell)
