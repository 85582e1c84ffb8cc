"""TTFT, TPOT, E2E and goodput against the load, with the drafter and with none, and the SLO's limits."""

from __future__ import annotations

import streamlit as st

from specsim.dashboard.answered import Answered
from specsim.dashboard.blocks import draw_sheet
from specsim.dashboard.drawing import card, rests_on, show
from specsim.dashboard.running import run_on_demand
from specsim.planning.load_curve import Deployed, LoadPoint, load_curve, own_load
from specsim.progress import TimedProgress
from specsim.report.load_figures import (
    ALL_LATENCIES,
    holding,
    holding_line,
    latency_figure,
    load_sheets,
    load_unit,
    own_line,
    served_figure,
)
from specsim.scenario import Scenario


def draw(answered: Answered) -> None:
    """Figures of a run at each load, once the user has them made."""
    points = run_on_demand(
        f"load {answered.key}",
        "Simulate loads",
        "Simulates loads from a twentieth of what formulas say is served to nearly all of it (of a closed loop: an "
        "eighth to eight times its clients), with the drafter and with none.",
        lambda told: _curve(answered.scenario, told),
        answered.side,
    )
    if points is None:
        return
    slo, side = answered.scenario.slo, answered.side
    asked = own_load(answered.scenario)
    own = next(point for point in points if point.load == asked)
    good = slo is not None and slo.states_anything
    if slo is not None and good:
        held = holding(points, slo)
        card(held.get("on", 0) >= held["off"], holding_line(points, slo), f"{own_line(own)}.")
    else:
        card(True, own_line(own), "Give an SLO in the sidebar to see up to which load it holds.")
    figures = {label: latency_figure(points, own, slo, name) for name, label in ALL_LATENCIES.items()}
    figures |= {"Goodput": served_figure(points, own, good=True)} if good else {}
    figures["Throughput"] = served_figure(points, own, good=False)
    for number, (label, figure) in enumerate(figures.items()):
        if number % 2 == 0:
            columns = st.columns(2)
        with columns[number % 2]:
            st.markdown(f"**{label}**")
            show(figure, f"load {label} {side}", f"{label} against {load_unit(points)}")
    growing = "" if all(not run["saturated"] for point in points for run in point.runs.values()) else GROWING
    rests_on(
        answered,
        f"One run of each load under seed {answered.scenario.seed}, p50 dotted, p95 drawn through, squares without "
        f"the drafter.{growing} No interval: specsim simulate --intervals 24 tells it of one load.",
    )
    with st.expander("Data"):
        for sheet in load_sheets(points, slo if good else None, ALL_LATENCIES):
            draw_sheet(sheet)


GROWING = " Where the queue kept growing, latency has no figure."


def _curve(scenario: Scenario, told: TimedProgress) -> tuple[LoadPoint, ...]:
    sides = {"off": scenario.without_speculation()}
    if scenario.speculation is not None:
        sides["on"] = scenario
    deployed = {name: Deployed.of(side) for name, side in sides.items()}
    return load_curve(deployed, lambda done, count: told(done, count, "runs"))
