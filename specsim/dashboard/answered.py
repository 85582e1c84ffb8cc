"""A question answered by formula: what every view draws from, made once for all sessions that ask the same."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import streamlit as st

from specsim.analytic.load import LoadBatch, answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly, assemble
from specsim.dashboard.inputs.words import Words
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Asked, Scenario

KEPT = 64  # answers


@dataclass(frozen=True, slots=True)
class Answered:
    """``side``: A or B; ``warned``: what the package says of the question besides."""

    side: str
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

    @property
    def key(self) -> str:
        """Equal for questions whose answers are."""
        return _key(self.scenario)


def answer(side: str, words: Words) -> Answered:
    """The question answered by formula. Raises InvalidInput or NoAnswer."""
    asked = words.ask()
    machine, speedups, load, warned = _answered(_key(asked.scenario), words.batch, asked.scenario)
    return Answered(side, words, asked, machine, speedups, load, verdict(speedups, load), warned)


def _key(scenario: Scenario) -> str:
    traces = [file.content_sha256() for file in scenario.workload.trace_files()]
    return scenario.model_dump_json() + "".join(traces)


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _answered(
    key: str, batch: int | None, _scenario: Scenario
) -> tuple[Assembly, SpeedupMap, LoadBatch, tuple[str, ...]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine = assemble(_scenario)
        speedups, load = answered_map(machine, batch=batch)
    told = dict.fromkeys(str(one.message) for one in caught if one.filename and issubclass(one.category, UserWarning))
    return machine, speedups, load, tuple(told)
