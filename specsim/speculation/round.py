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
from specsim.speculation.host_work import HostPrices
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
        self, target: ModelSpec, prices: KernelPrices, *, hardware: Hardware, engine: EngineLimits,
        precision: Precision, ranks: int = 1, experts: ExpertGroup | None = None,
        program: DraftProgram | None = None, draft: ModelSpec | None = None,
        max_draft_tokens: int = 0,
    ) -> None:  # fmt: skip
        self._prices = prices
        on_gpu = hardware.kind == "gpu"
        self._engine = engine
        self._program = program
        self._host = HostPrices(engine, prices, on_gpu=on_gpu)
        sizes = engine.captured_sizes(max_draft_tokens, on_gpu=on_gpu)
        pricing = PassPricing(prices, hardware, engine, sizes, ranks, experts)
        self._target = TargetPass(target, pricing, precision, program)
        self._phases = (
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
        self._begins = next((cost for cost in self._phases if cost.fills_cache and cost.widths(1)), None)

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences.

        ``drafting_kv_tokens`` is their mean KV length.
        """
        bill = Bill()
        drafting_kv_tokens = self._engine.padded_kv(drafting_kv_tokens, drafting)
        groups = [self._padded(group) for group in groups]
        verification = self._target.entries(groups, draft_tokens)
        for charges, times in verification:
            bill.add(charges, times=times)
        for work in self._host.step(sum((g.sequences for g in groups), 0)):
            bill.add_host("host", *work)
        verifying = sum((g.sequences for g in groups if not g.is_prefill), 0)
        if draft_tokens:
            for work in self._host.drafts(verifying, drafting * draft_tokens):
                bill.add_host("draft", *work)
            overlaps = any(cost.phase.placement == "overlapped" for cost in self._phases)
            beside_s = seconds_of(verification) if overlaps else 0.0
            for phase in self._phases:
                entries = phase.entries(groups, drafting, draft_tokens, drafting_kv_tokens)
                self._add_draft(bill, phase, entries, drafting, draft_tokens, beside_s)
        return bill.total(self._prices.machine_error, overlap=self._engine.async_scheduling)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length: verify ``draft_tokens`` drafts, draft as many.

        ``batch`` and ``context_tokens`` may be arrays that broadcast: [batches, 1] and [1, contexts] price a map.
        """
        verified = draft_tokens if self._program is None or self._program.verifies else 0
        group = Group(batch, verified + 1, context_tokens + verified, verified + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    def _padded(self, group: Group) -> Group:
        """A decoding group with the keys that attention reads of it."""
        if group.is_prefill or not self._engine.kv_spread:
            return group
        return replace(group, kv_tokens=self._engine.padded_kv(group.kv_tokens, group.sequences))

    def _add_draft(
        self,
        bill: Bill,
        cost: PhaseCost,
        entries: Sequence[Entry],
        drafting: Reals,
        draft_tokens: int,
        beside_s: Reals,
    ) -> None:
        """Enter a phase; of an overlapped one, what outlasts ``beside_s``."""
        phase, idle = cost.phase, isinstance(drafting, int) and drafting == 0
        passes = min(1, len(entries)) if idle else len(cost.widths(draft_tokens))
        sequences = 1 if idle else drafting
        each = (self._host.draft_pass(phase, sequences), self._host.plan(phase)) if passes else ()
        works = [work._replace(seconds=passes * work.seconds) for work in each]
        if cost is self._begins and passes:
            works.append(self._host.begin(sequences))
        share: Reals = 1.0
        if phase.placement == "overlapped":
            draft_s = seconds_of(entries) + sum((work.seconds for work in works), 0.0)
            share = np.maximum(0.0, draft_s - beside_s) / np.maximum(draft_s, np.finfo(np.float64).tiny)
        for charges, times in entries:
            bill.add(charges, "draft", times * share)
        if phase.where == "cpu" or phase.host_s_per_sequence:
            works.append(self._host.propose(phase, drafting))
        for work in works:
            bill.add_host("draft", work.seconds * share, work.error, work.exposed)
