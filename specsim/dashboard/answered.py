"""A question answered by formula: what every view draws from, made once for all sessions that ask the same."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import streamlit as st

from specsim.analytic.load import LoadBatch, answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly, assemble
from specsim.dashboard.inputs.store import named_files
from specsim.dashboard.inputs.words import Words
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Asked, Scenario

KEPT = 64  # answers


@dataclass(frozen=True, slots=True)
class Answered:
    """``side``: A or B; ``key``: equal for questions whose answers are; ``warned``: what the package says besides."""

    side: str
    key: str
    words: Words
    asked: Asked
    machine: Assembly
    speedups: SpeedupMap
    load: LoadBatch
    verdict: Verdict
    warned: tuple[str, ...]

    @property
    def scenario(self) -> Scenario:
        """The question itself."""
        return self.asked.scenario


def answer(side: str, words: Words) -> Answered:
    """The question answered by formula. Raises InvalidInput or NoAnswer."""
    return replace(_answered(f"{words} {sorted(named_files().items())}", words), side=side)


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _answered(content: str, _words: Words) -> Answered:
    """``content``: the words, and the files that they reach, which the store names by what these hold."""
    asked = _words.ask()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine = assemble(asked.scenario)
        speedups, load = answered_map(machine, batch=_words.batch)
    told = dict.fromkeys(str(one.message) for one in caught if one.filename and issubclass(one.category, UserWarning))
    key = _key(asked.scenario)
    return Answered("", key, _words, asked, machine, speedups, load, verdict(speedups, load), tuple(told))


def _key(scenario: Scenario) -> str:
    traces = [file.content_sha256() for file in scenario.workload.trace_files()]
    return scenario.model_dump_json() + "".join(traces)
