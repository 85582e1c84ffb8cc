"""The page: the question at the side, one view of its answer, and what can be taken along.

An error that the user can mend is one line, and the rest of the page stays; any other exception is a bug and shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from specsim.dashboard.answered import Answered, answer
from specsim.dashboard.downloads import offer
from specsim.dashboard.drawing import STYLE, fail, plain
from specsim.dashboard.inputs.fields import Choice, Switch
from specsim.dashboard.inputs.link import forget_faults, read_link, write_link
from specsim.dashboard.inputs.question import ask_a, ask_b, keys_of_links, values_of_a
from specsim.dashboard.inputs.store import named_files
from specsim.dashboard.inputs.uploads import ask_files
from specsim.dashboard.inputs.words import Words
from specsim.dashboard.views import acceptance, anatomy, compare, evidence, load, map, memory, plan, verdict
from specsim.errors import SpecsimError
from specsim.named_files import only_files


@dataclass(frozen=True, slots=True)
class View:
    """``verb`` and ``flags``: of the command line that repeats it. ``once``: drawn for the first scenario alone."""

    name: str
    draw: Callable[[Answered], None]
    verb: str
    flags: tuple[str, ...] = ()
    once: bool = False


VIEWS = {
    view.name: view
    for view in (
        View("Verdict", verdict.draw, "predict"),
        View("Map", map.draw, "predict"),
        View("Load", load.draw, "report"),
        View("Compare", compare.draw, "compare", ("--simulated", str(compare.SIMULATED))),
        View("Plan", plan.draw, "plan"),
        View("Anatomy", anatomy.draw, "predict"),
        View("Acceptance", acceptance.draw, "predict"),
        View("Memory", memory.draw, "report"),
        View("Evidence", evidence.draw, "simulate", once=True),
    )
}
VIEW = Choice("view", "View", tuple(VIEWS), "Verdict")
TWO = Switch("two", "Compare with a scenario B")


def page() -> None:
    """Draw everything once; Streamlit calls it anew at every change."""
    st.set_page_config("specsim", layout="wide", initial_sidebar_state="auto")
    st.html(STYLE)
    fields = keys_of_links() | {VIEW.key: VIEW, TWO.key: TWO}
    faults = read_link(fields)
    with only_files(named_files()):
        with st.sidebar:
            asked = _ask()
        st.session_state.setdefault(VIEW.key, VIEW.options[0])
        st.segmented_control(
            "View", VIEW.options, key=VIEW.key, required=True, label_visibility="collapsed", wrap=True
        )
        write_link(fields)
        if faults:
            _say(faults)
        elif asked is not None:
            _show(VIEWS[st.session_state[VIEW.key]], asked)


def _ask() -> dict[str, Words] | None:
    """The sidebar's scenarios by name; None where one cannot be read, which is said."""
    st.subheader("Scenario A")
    found = _tried(ask_a)
    with st.expander("Files and pasted text"):
        ask_files()
    two = TWO.draw()
    if found is None:
        return None
    if not two:
        return {"A": found}
    st.subheader("Scenario B: what is different")
    other = _tried(lambda: ask_b(values_of_a()))
    return None if other is None else {"A": found, "B": other}


def _tried(ask: Callable[[], Words]) -> Words | None:
    try:
        return ask()
    except SpecsimError as error:
        fail(error)
        return None


def _say(faults: list[str]) -> None:
    """What the address says and the page cannot take: nothing else is answered in its place."""
    for fault in faults:
        st.error(plain(fault), icon=":material/link_off:")
    st.markdown("Choose in the sidebar what was meant; nothing is answered in its place until then.")
    st.button("Go on without it", on_click=forget_faults)


def _show(view: View, asked: dict[str, Words]) -> None:
    """A view of each scenario, side by side."""
    sides = list(asked)[:1] if view.once else list(asked)
    for place, side in zip(st.columns(len(sides), gap="large"), sides, strict=True):
        with place:
            try:
                found = answer(side, asked[side])
                _head(found, asked)
                view.draw(found)
                offer(found, view.verb, *view.flags)
            except SpecsimError as error:
                if len(asked) > 1:
                    st.caption(f"Scenario {side}")
                fail(error)


def _head(answered: Answered, asked: dict[str, Words]) -> None:
    """Which question this column answers."""
    scenario = answered.scenario
    deployment, speculation = scenario.deployment, scenario.speculation
    gpus = deployment.tensor_parallel * deployment.replicas
    drafter = "no drafter" if speculation is None else f"drafter {speculation.drafter_name()}"
    name = f"Scenario {answered.side}: " if len(asked) > 1 else ""
    st.caption(
        plain(f"{name}{scenario.model.name} on {gpus} x {scenario.gpu.name}, {scenario.engine.name}, {drafter}")
    )
    for line in answered.warned:
        st.warning(plain(line), icon=":material/warning:")
