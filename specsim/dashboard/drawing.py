"""How the page looks: style, figures in either theme, and the line under each that says what it rests on."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.inputs.store import in_own_names
from specsim.errors import SpecsimError
from specsim.report.figures import OFF, ON

PLOT: dict[str, Any] = {"displayModeBar": False, "responsive": True}
LONGEST_ERROR = 600
STYLE = """<style>
@media (min-width: 48rem) {[data-testid="stSidebar"][aria-expanded="true"] {min-width: 22rem}}
.block-container {padding-top: 4.4rem; padding-bottom: 3rem; max-width: 100rem}
@media (min-width: 48rem) {.block-container {padding-left: 2.5rem; padding-right: 2.5rem}}
[data-testid="stSidebarHeader"] {height: 2rem}
[data-testid="stSidebar"] [data-testid="stVerticalBlock"] {gap: .45rem}
[data-testid="stSidebar"] h3 {font-size: 1.05rem}
[data-testid="stMain"] h3 {font-size: 1.25rem}
[data-testid="stMetricLabel"] p {font-size: .82rem}
.verdict {border-left: 8px solid; padding: .6rem 1rem; border-radius: .3rem; background: rgba(128, 128, 128, .12)}
.verdict b {font-size: 1.35rem; line-height: 1.3; display: block; text-wrap: balance}
.verdict small {opacity: .85; font-size: .92rem}
</style>"""


def card(on: bool, headline: str, *lines: str) -> None:
    """A sentence to remember, and a few lines under it; its colour repeats what the words say."""
    told = "<br>".join(f"<small>{unbroken(line)}</small>" for line in lines if line)
    st.html(f'<div class="verdict" style="border-color: {ON if on else OFF}"><b>{unbroken(headline)}</b>{told}</div>')


def unbroken(text: str) -> str:
    """Text for HTML whose percent signs stay with their numbers."""
    return escape(text).replace(" %", "&nbsp;%")


def plain(text: str) -> str:
    """Text for Streamlit's Markdown, with nothing in it that formats."""
    return re.sub(r"([\\`*_{}\[\]<>#$~|:])", r"\\\1", " ".join(text.split()))


def show(figure: Any, key: str, what: str) -> None:
    """A figure in the theme that the browser shows; ``what`` says it to those who cannot see it."""
    figure.update_layout(template=None, font_color=None)  # these are the theme's
    st.plotly_chart(figure, theme="streamlit", config=PLOT, key=key, alt=what)


def rests_on(answered: Answered, interval: str = "") -> None:
    """Under a figure: its interval, whose prices and which acceptance it is made of."""
    st.caption(plain(" ".join(filter(None, [interval, *basis(answered)]))))


def basis(answered: Answered) -> list[str]:
    """Where seconds and acceptance are from, a sentence each."""
    speedups, speculation = answered.speedups, answered.scenario.speculation
    if speedups.price_name == "roofline":
        prices = "Prices: datasheet roofline, nothing measured is in use."
    else:
        prices = f"Prices: profile {speedups.price_name}; the worst source of a round is {speedups.worst_source()}."
    accepted = [] if speculation is None else [f"Acceptance: {speculation.acceptance_origin.sentence()}."]
    return [prices, *accepted]


def fail(error: SpecsimError) -> None:
    """An error that the user can mend, in one line."""
    text = " ".join(in_own_names(str(error)).split())
    st.error(plain(text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}..."), icon=":material/error:")
