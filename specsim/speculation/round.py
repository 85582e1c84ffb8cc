"""One draft-verify round: its passes and its price.

A step verifies the drafts of the step before (with any prefill chunks riding along), samples, and drafts the next
tokens: round = verify ⊕ sampling ⊕ draft + host, ⊕ being the sum, or the longer of the two where drafting runs beside
the target's pass. What drafting consists of is the program's data; no technique has timing code of its own. A first
draft pass carries the step's own tokens, as vLLM runs it (k + 1 a sequence after a verification), unless the program
says otherwise; later passes run warm if their weights stay in the last-level cache. k = 0 runs no draft pass at all
and costs what a step without speculation costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Group, KernelPrices, Precision
from specsim.cost.step_time import Bill, StepTime
from specsim.specs.deployment import ExpertGroup
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.speculation.draft_phase import PhaseCost
from specsim.speculation.host_work import HostPrices, HostWork
from specsim.speculation.pricing import Entry, PassPricing, seconds_of
from specsim.speculation.program import DraftProgram
from specsim.speculation.target_pass import TargetPass

SHARED_ERRORS = ("machine", "host")  # error classes that two rounds on one machine have in common


class StepCost(Protocol):
    """Prices engine steps: from kernels (RoundCost) or from whole measured steps (EngineSteps)."""

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences."""
        ...

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length."""
        ...


class RoundCost:
    """Prices steps of one target model, with or without a drafter, on ``ranks`` GPUs.

    ``experts``: the GPUs that its routed experts are divided among, where these hold whole ones.
    """

    def __init__(
        self,
        target: ModelSpec,
        prices: KernelPrices,
        *,
        hardware: Hardware,
        engine: EngineLimits,
        precision: Precision,
        ranks: int = 1,
        experts: ExpertGroup | None = None,
        program: DraftProgram | None = None,
        draft: ModelSpec | None = None,
        max_draft_tokens: int = 0,
    ) -> None:
        self._prices = prices
        on_gpu = hardware.kind == "gpu"
        self._engine = engine
        self._program = program
        self.host = HostPrices(engine, prices, on_gpu=on_gpu)
        sizes = engine.captured_sizes(max_draft_tokens, on_gpu=on_gpu)
        pricing = PassPricing(prices, hardware, engine, sizes, ranks, experts)
        self.target = TargetPass(target, pricing, precision, program)
        self.phases: Sequence[PhaseCost] = (
            [
                PhaseCost(
                    phase, program, pricing, target=target, precision=precision, draft=draft, kv_bits=precision.kv_bits
                )
                for phase in program.phases
            ]
            if program is not None
            else []
        )
        # Once a step, however many phases there are, the host prepares what a drafter's own cache is to take in.
        self._begins = next((cost for cost in self.phases if cost.fills_cache and cost.widths(1)), None)

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences.

        ``drafting_kv_tokens`` is their mean KV length.
        """
        bill = Bill()
        drafting_kv_tokens = self._engine.padded_kv(drafting_kv_tokens, drafting)
        groups = [self._padded(group) for group in groups]
        verification = self.target.entries(groups, draft_tokens)
        for charges, times in verification:
            bill.add(charges, times=times)
        for work in self.host.step(sum((g.sequences for g in groups), 0)):
            bill.add_host("host", *work)
        verifying = sum((g.sequences for g in groups if not g.is_prefill), 0)
        if draft_tokens:
            for work in self.host.drafts(verifying, drafting * draft_tokens):
                bill.add_host("draft", *work)
            beside_s = seconds_of(verification) if any(phase.overlapped for phase in self.phases) else 0.0
            for phase in self.phases:
                runs = phase.runs(groups, drafting, draft_tokens, drafting_kv_tokens)
                works = self.draft_works(phase, drafting, draft_tokens, any_runs=bool(runs))
                _add_draft(bill, [run.entry() for run in runs], works, beside_s if phase.overlapped else None)
        return bill.total(self._prices.machine_error, overlap=self.overlaps_host)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length: verify ``draft_tokens`` drafts, draft as many.

        ``batch`` and ``context_tokens`` may be arrays that broadcast: [batches, 1] and [1, contexts] price a map.
        """
        verified = draft_tokens if self._program is None or self._program.verifies else 0
        group = Group(batch, verified + 1, context_tokens + verified, verified + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    @property
    def overlaps_host(self) -> bool:
        """Whether the host's work runs beside the device's."""
        return self._engine.async_scheduling

    def padded_kv(self, kv_tokens: Reals, sequences: Reals) -> Reals:
        """Keys that attention reads a sequence."""
        return self._engine.padded_kv(kv_tokens, sequences)

    def _padded(self, group: Group) -> Group:
        """A decoding group with the keys that attention reads of it."""
        if group.is_prefill or not self._engine.kv_spread:
            return group
        return replace(group, kv_tokens=self._engine.padded_kv(group.kv_tokens, group.sequences))

    def draft_works(self, cost: PhaseCost, drafting: Reals, draft_tokens: int, *, any_runs: bool) -> list[HostWork]:
        """What the host does for a phase; if nobody drafts, only what goes with ``any_runs`` on the device."""
        phase, idle = cost.phase, isinstance(drafting, int) and drafting == 0
        passes = int(any_runs) if idle else len(cost.widths(draft_tokens))
        sequences = 1 if idle else drafting
        each = (self.host.draft_pass(phase, sequences), self.host.plan(phase)) if passes else ()
        works = [work._replace(seconds=passes * work.seconds) for work in each]
        if cost is self._begins and passes:
            works.append(self.host.begin(sequences))
        if phase.where == "cpu" or phase.host_s_per_sequence:
            works.append(self.host.propose(phase, drafting))
        return works


def _add_draft(bill: Bill, entries: Sequence[Entry], works: Sequence[HostWork], beside_s: Reals | None) -> None:
    """Enter a phase; of an overlapped one, what outlasts ``beside_s``."""
    share: Reals = 1.0
    if beside_s is not None:
        draft_s = seconds_of(entries) + sum((work.seconds for work in works), 0.0)
        share = np.maximum(0.0, draft_s - beside_s) / np.maximum(draft_s, np.finfo(np.float64).tiny)
    for charges, times in entries:
        bill.add(charges, "draft", times * share)
    for work in works:
        bill.add_host("draft", work.seconds * share, work.error, work.exposed)
