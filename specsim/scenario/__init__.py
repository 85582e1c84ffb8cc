"""The question: which model, on what, serving what, with which speculation. One frozen object, one YAML file.

Names, paths and inline values are resolved while the scenario is read, so that its hash covers what they stood for.
"""

from specsim.scenario.question import CostChoice, Scenario
from specsim.scenario.read import load_scenario, scenario_names
from specsim.scenario.short import Asked, ask
from specsim.scenario.short_options import ShortOptions
from specsim.scenario.speculation import Speculation
from specsim.scenario.weights import Weights
from specsim.scenario.workload import SyntheticWorkload, TraceWorkload, Workload

__all__ = [
    "Asked",
    "CostChoice",
    "Scenario",
    "ShortOptions",
    "Speculation",
    "SyntheticWorkload",
    "TraceWorkload",
    "Weights",
    "Workload",
    "ask",
    "load_scenario",
    "scenario_names",
]
