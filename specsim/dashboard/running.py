"""What takes longer than a moment: begun by a button, with its progress and a way to stop, kept for the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from specsim.errors import SpecsimError
from specsim.progress import TimedProgress

_Result = TypeVar("_Result")
KEPT = 24  # results of a session


def run_on_demand(
    key: str, label: str, about: str, run: Callable[[TimedProgress], _Result], side: str = ""
) -> _Result | None:
    """The result that is kept under ``key``; else a button that makes it, and None until it is made.

    ``side``: tells buttons of one label apart.

    A click on Stop, or on any input, has the page drawn anew, which ends the run: Streamlit raises in ``progress``.
    """
    results = st.session_state.setdefault("results", {})
    if key in results:
        found: _Result = results[key]
        return found
    place = st.empty()
    with place.container():
        st.info(about, icon=":material/timer:")
        begun = st.button(label, type="primary", key=f"run {label} {side}")
    if not begun:
        return None
    with place.container():
        bar = st.progress(0.0, "the first run on a machine compiles the simulator, which takes some ten seconds")
        st.button("Stop", key=f"stop {label} {side}")

        def progress(done: float, total: float, what: str) -> None:
            bar.progress(min(1.0, done / max(1, total)), f"{what} ({done:.0f} of {total:.0f})")

        try:
            made = run(progress)
        except SpecsimError:
            place.empty()
            raise
    results[key] = made
    while len(results) > KEPT:
        del results[next(iter(results))]
    place.empty()
    return made
