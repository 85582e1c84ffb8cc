"""A tuned schedule under the scenario's own traffic."""

from __future__ import annotations

from typing import Any

from specsim.assembly import Assembly, assemble
from specsim.planning.tune import Tuning, drafter_of
from specsim.serving.simulate import simulate
from specsim.speculation.policy import FixedPolicy


def under_load(assembly: Assembly, tuning: Tuning) -> dict[str, dict[str, Any]]:
    """Summaries of the scenario's own workload, simulated: off, the best single k, and the schedule."""
    scenario = assembly.scenario
    fixed, speculation = FixedPolicy(k=tuning.fixed_draft_tokens), drafter_of(scenario)
    runs = {"off": assembly.plain}
    for name, policy in ((f"k={fixed.k}", fixed), ("schedule", tuning.policy)):
        changed = speculation.model_copy(update={"policy": policy})
        runs[name] = assemble(scenario.model_copy(update={"speculation": changed}))
    return {name: simulate(machine).summary(scenario.slo) for name, machine in runs.items()}
