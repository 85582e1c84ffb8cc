"""A question simulated as ``specsim simulate`` does it: with its drafter and with none, under one seed."""

from __future__ import annotations

from typing import Any

from specsim.assembly import assemble
from specsim.dashboard.answered import Answered
from specsim.dashboard.running import run_on_demand
from specsim.progress import TimedProgress
from specsim.report.bench_serve import bench_serve_header
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate

ON, OFF, ALONE = "speculation on", "speculation off", "no speculation"

RunSummaries = dict[str, dict[str, Any]]


def simulated(answered: Answered) -> RunSummaries | None:
    """The summary of a run of each, the question's own last; None until the user has them made."""
    scenario = answered.scenario
    requests = scenario.workload.count()
    about = f"Simulates {requests:,} requests of this load in discrete events, with the drafter and with none."
    return run_on_demand(
        f"simulate {answered.key}", "Simulate this load", about, lambda told: _both(scenario, told), answered.side
    )


def _both(scenario: Scenario, told: TimedProgress) -> RunSummaries:
    found: RunSummaries = {}
    sides = alternatives(scenario)
    for number, (name, side) in enumerate(sides.items()):

        def progress(done: int, count: int, number: int = number, name: str = name) -> None:
            told(number * count + done, len(sides) * count, f"{name}, requests served")

        result = run(side, progress)
        machine = assemble(side)
        found[name] = bench_serve_header(side) | result.summary(side.slo) | {"prices": machine.price_name}
    return found


def alternatives(scenario: Scenario) -> dict[str, Scenario]:
    """Off first, then as asked."""
    if scenario.speculation is None:
        return {ALONE: scenario}
    return {OFF: scenario.without_speculation(), ON: scenario}


def run(scenario: Scenario, progress: Any = None) -> RunResult:
    """One simulated run."""
    return simulate(assemble(scenario), progress=progress)
