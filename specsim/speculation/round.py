"""One draft-verify round: its passes and its price.

A step verifies the drafts of the step before (with any prefill chunks riding along), samples, and drafts the
next tokens: round = verify ⊕ sampling ⊕ draft + host. A draft model's first pass carries the step's own tokens,
as vLLM runs it (k + 1 a sequence after a verification); later passes carry one token and run warm if its weights
stay in the last-level cache. k = 0 runs no draft pass at all and costs what a step without speculation costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specsim.cost.forward import Group, KernelPrices, Precision
from specsim.cost.passes import PassCost
from specsim.cost.roofline import DEFAULT_HOST_S
from specsim.cost.step_time import Bill, StepTime
from specsim.specs.engine import EngineLimits, default_graph_sizes
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.speculation.program import DraftProgram
from specsim.units import Reals

MEASURED_HOST_ERROR, ASSUMED_HOST_ERROR = 0.2, 0.4  # one standard deviation, as a share; both are judgements
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
    """Prices steps of one target model, with or without a drafter, on ``ranks`` GPUs."""

    def __init__(
        self, target: ModelSpec, prices: KernelPrices, *, hardware: Hardware, engine: EngineLimits,
        precision: Precision, ranks: int = 1, program: DraftProgram | None = None, draft: ModelSpec | None = None,
        draft_precision: Precision | None = None, max_draft_tokens: int = 0,
    ) -> None:  # fmt: skip
        self._prices = prices
        self._gpu = hardware.kind == "gpu"
        self._engine = engine
        self._program = program
        sizes = engine.graph_sizes
        if sizes is None:
            sizes = default_graph_sizes(engine.max_num_seqs, max_draft_tokens) if self._gpu else ()
        # Kernels profiled on a CPU were launched eagerly, one by one: their times hold the launch.
        launch_s = hardware.launch_s if self._gpu else 0.0
        self._target = PassCost(target, prices, precision, ranks=ranks, graph_sizes=sizes, launch_s=launch_s)
        self._draft: PassCost | None = None
        self._draft_stays_cached = False
        if draft is not None:
            precision = draft_precision or precision
            self._draft = PassCost(draft, prices, precision, ranks=ranks, graph_sizes=sizes, launch_s=launch_s)
            weights = draft.weight_bytes(precision.weight_bits) / ranks
            self._draft_stays_cached = weights <= hardware.last_level_cache_bytes / 2

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences.

        ``drafting_kv_tokens`` is their mean KV length.
        """
        bill = Bill()
        bill.add(self._target.charges(groups, warm=False))
        bill.add(self._target.sampling("greedy", sum((g.sequences * g.logit_rows for g in groups), 0)))
        bill.add_host("host", *self._host_s("step", sum((g.sequences for g in groups), 0)), hidden=True)
        if draft_tokens and self._program is not None:
            if self._draft is None:
                bill.add_host("draft", *self._propose_s(self._program, drafting), hidden=False)
            else:
                later = Group(drafting, 1, drafting_kv_tokens)
                self._add_draft_passes(bill, self._draft, groups, later, draft_tokens)
        return bill.total(self._prices.machine_error, overlap=self._engine.async_scheduling)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length: verify ``draft_tokens`` drafts, draft as many.

        ``batch`` and ``context_tokens`` may be arrays that broadcast: [batches, 1] and [1, contexts] price a map.
        """
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    def _add_draft_passes(
        self, bill: Bill, draft: PassCost, groups: Sequence[Group], later: Group, draft_tokens: int
    ) -> None:
        first = [Group(g.sequences, g.query_tokens, g.kv_tokens, min(1, g.logit_rows)) for g in groups]
        bill.add(draft.charges(first, warm=False), "draft")
        passes = 1
        drafting = not isinstance(later.sequences, int) or later.sequences > 0
        if drafting:
            passes = draft_tokens
            bill.add(draft.sampling("greedy", later.sequences), "draft", passes)
            if passes > 1:
                bill.add(draft.charges([later], warm=self._draft_stays_cached), "draft", passes - 1)
        seconds, error = self._host_s("draft_pass", later.sequences if drafting else 1)
        bill.add_host("draft", passes * seconds, error, hidden=True)

    def _propose_s(self, program: DraftProgram, sequences: Reals) -> tuple[Reals, float]:
        measured = self._prices.host_s("ngram", sequences)
        if measured is None:
            return sequences * program.host_s_per_sequence(), ASSUMED_HOST_ERROR
        return measured, MEASURED_HOST_ERROR

    def _host_s(self, part: str, sequences: Reals) -> tuple[Reals, float]:
        """Host seconds of a step or a draft pass, and their relative error."""
        given = self._engine.host_step_s if part == "step" else self._engine.host_draft_pass_s
        if given is not None:
            return given, 0.0
        measured = self._prices.host_s(part, sequences)
        if measured is not None:
            return measured, MEASURED_HOST_ERROR
        return (DEFAULT_HOST_S[part] if self._gpu else 0.0), ASSUMED_HOST_ERROR
