"""An engine's few constants: the host's exposed time a step, a sequence, a draft pass and a drafted token, the front
end's time a request, and one factor on all kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specsim.scenario import Scenario
from specsim.specs.conditions import Conditions
from specsim.specs.host_time import HostTime

HOST = ("step", "sequence", "draft_pass", "draft_token")
FRONTEND, KERNELS = "frontend_request_s", "kernels"
# One standard deviation of a default, at least; seconds, and of the kernels' factor its logarithm.
SPREADS = {
    "step": 0.3e-3,
    "sequence": 10e-6,
    "draft_pass": 0.15e-3,
    "draft_token": 10e-6,
    FRONTEND: 5e-3,
    KERNELS: 0.15,
}
Constants = dict[str, float]


def default_constants(scenarios: Sequence[Scenario]) -> Constants:
    """The engine's constants before any is fitted; those of drafting only where one of them drafts."""
    drafting = [scenario for scenario in scenarios if scenario.speculation is not None]
    scenario = drafting[0] if drafting else scenarios[0]
    names = HOST if drafting else HOST[:2]
    exposed = {name: _exposed_s(scenario, getattr(scenario.engine.host, name)) for name in names}
    return exposed | {FRONTEND: scenario.engine.frontend_request_s, KERNELS: 1.0}


def with_constants(scenario: Scenario, constants: Mapping[str, float]) -> Scenario:
    """The question to an engine of these constants."""
    engine = scenario.engine
    times = {
        name: _exposing(scenario, getattr(engine.host, name), constants[name]) for name in HOST if name in constants
    }
    stated = {"host": engine.host.model_copy(update=times), FRONTEND: constants[FRONTEND]}
    update: dict[str, Any] = {"stated_engine": scenario.stated_engine.model_copy(update=stated)}
    factor, before = constants[KERNELS], scenario.conditions or Conditions()
    if factor != 1.0:
        slower = {kind: factor * getattr(before, kind) for kind in ("memory", "compute", "attention", "elementwise")}
        update["conditions"] = before.model_copy(update=slower)
    made: Scenario = scenario.model_copy(update=update)
    return made


def _exposed_s(scenario: Scenario, time: HostTime) -> float:
    return time.seconds * (time.exposed if scenario.engine.async_scheduling else 1.0)


def _exposing(scenario: Scenario, time: HostTime, exposed_s: float) -> HostTime:
    """Host work of which so many seconds are not hidden; the share that is hidden stays where there is one."""
    share = time.exposed if scenario.engine.async_scheduling else 1.0
    if not share:
        return time.model_copy(update={"seconds": exposed_s, "exposed": 1.0})
    return time.model_copy(update={"seconds": exposed_s / share})
