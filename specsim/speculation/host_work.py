"""Host time of a round: what the scenario gives, else what the profile measured, else what the engine's file says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from specsim.arrays import Reals
from specsim.cost.forward import KernelPrices
from specsim.specs.engine import EngineLimits
from specsim.specs.host_time import HostTime
from specsim.speculation.program import Phase

MEASURED_HOST_ERROR, ASSUMED_HOST_ERROR = 0.2, 0.4  # one standard deviation, as a share; both are judgements


class HostWork(NamedTuple):
    """Seconds of the host, their relative error, and the share that asynchronous scheduling leaves exposed."""

    seconds: Reals
    error: float
    exposed: float


class HostPrices:
    """Prices host work. On a CPU nothing is assumed: what a profile did not measure is part of its kernels' times."""

    def __init__(self, engine: EngineLimits, prices: KernelPrices, *, on_gpu: bool) -> None:
        self._engine, self._prices, self._assumed = engine, prices, on_gpu

    def step(self, sequences: Reals) -> Iterator[HostWork]:
        """Scheduling, inputs and outputs of a step over so many sequences."""
        given, host = self._engine.host_step_s, self._engine.host
        if given is not None:
            yield HostWork(given, 0.0, host.step.exposed)
        elif (measured := self._prices.host_s("step", sequences)) is not None:
            yield HostWork(measured, MEASURED_HOST_ERROR, host.step.exposed)
        elif self._assumed:
            yield _work(host.step)
            yield _work(host.sequence, sequences)
            yield _work(host.plan)

    def drafts(self, verifying: Reals, drafted: Reals) -> Iterator[HostWork]:
        """Once a step that drafts: handing ``verifying`` sequences' drafts over, and each of ``drafted`` tokens."""
        if self._engine.host_draft_pass_s is not None:
            return
        measured = self._prices.host_s("drafts", verifying)
        if measured is not None:
            yield HostWork(measured * (verifying > 0), MEASURED_HOST_ERROR, self._engine.host.draft_pass.exposed)
        elif self._assumed:
            yield _work(self._engine.host.draft_token, drafted)

    def plan(self, phase: Phase) -> HostWork:
        """Attention's work division before a pass that runs any."""
        counts = self._assumed and phase.host_s_per_pass is None and self._engine.host_draft_pass_s is None
        return _work(self._engine.host.plan, 1.0 if counts else 0.0)

    def draft_pass(self, phase: Phase, sequences: Reals) -> HostWork:
        """One pass of a phase; what the scenario gives is all that drafting costs."""
        given, host = self._engine.host_draft_pass_s, self._engine.host.draft_pass
        if phase.host_s_per_pass is not None:
            return HostWork(phase.host_s_per_pass, ASSUMED_HOST_ERROR, host.exposed)
        if given is not None:
            return HostWork(given, 0.0, host.exposed)
        measured = self._prices.host_s("draft_pass", sequences)
        if measured is not None:
            return HostWork(measured, MEASURED_HOST_ERROR, host.exposed)
        return _work(host, 1.0 if self._assumed else 0.0)

    def begin(self, sequences: Reals) -> HostWork:
        """Preparing what a drafter's own cache is to take in, once a step."""
        measured = None if self._engine.host_draft_pass_s is not None else self._prices.host_s("propose", sequences)
        return HostWork(
            0.0 if measured is None else measured, MEASURED_HOST_ERROR, self._engine.host.draft_pass.exposed
        )

    def propose(self, phase: Phase, sequences: Reals) -> HostWork:
        """Proposing on the host, which no other work hides."""
        measured = None if phase.host_part is None else self._prices.host_s(phase.host_part, sequences)
        if measured is None:
            return HostWork(sequences * phase.host_s_per_sequence, ASSUMED_HOST_ERROR, 1.0)
        return HostWork(measured, MEASURED_HOST_ERROR, 1.0)


def _work(time: HostTime, count: Reals = 1.0) -> HostWork:
    return HostWork(time.seconds * count, time.error, time.exposed)
