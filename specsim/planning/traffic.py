"""A tuned schedule under the scenario's own traffic."""

from __future__ import annotations

from typing import Any

from specsim.planning.tune import Tuning, drafter_of
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.speculation.policy import FixedPolicy


def under_load(scenario: Scenario, tuning: Tuning) -> dict[str, dict[str, Any]]:
    """Summaries of the scenario's own workload, simulated: off, the best single k, and the schedule."""
    fixed, speculation = FixedPolicy(k=tuning.fixed_draft_tokens), drafter_of(scenario)
    runs = {"off": scenario.without_speculation()}
    for name, policy in ((f"k={fixed.k}", fixed), ("schedule", tuning.policy)):
        changed = speculation.model_copy(update={"policy": policy})
        runs[name] = scenario.model_copy(update={"speculation": changed})
    return {name: simulate(question).summary(scenario.slo) for name, question in runs.items()}
