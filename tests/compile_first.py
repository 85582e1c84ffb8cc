"""Compiles, into numba's cache, what most tests that serve or schedule call."""

from __future__ import annotations

from specsim.assembly import assemble
from specsim.scenario import load_scenario
from specsim.scheduling.scheduler import Scheduler, SequenceState
from specsim.serving.simulate import run
from specsim.specs.engine import EngineLimits
from specsim.workload.request import RequestSpec


def in_both_drives() -> None:
    machine = assemble(load_scenario("cpu-144m", ["cost.source=roofline"]))
    for by_events in (False, True):
        run([RequestSpec(0, 0.0, 8, 8)], machine.replicas[0], by_events=by_events)


def by_hand() -> None:
    scheduler = Scheduler(EngineLimits(), 10)
    scheduler.add(SequenceState(0, 8, 1))
    step = scheduler.schedule()
    scheduler.complete(step, [0])


if __name__ == "__main__":
    in_both_drives()
    by_hand()
