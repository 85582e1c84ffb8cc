"""One draft-verify round: its passes and its price.

A step verifies the drafts of the step before (with any prefill chunks riding along), samples, and drafts the
next tokens: round = verify ⊕ sampling ⊕ draft + host. A draft model's first pass carries the step's own tokens,
as vLLM runs it (k + 1 a sequence after a verification); later passes carry one token and run warm if its weights
stay in the last-level cache. k = 0 runs no draft pass at all and costs what a step without speculation costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from specsim.cost.forward import (
    SOURCES,
    Group,
    Kernel,
    KernelPrices,
    Precision,
    Source,
    attention_kernel,
    sampling_kernels,
    token_kernels,
)
from specsim.cost.measured import Z90
from specsim.cost.roofline import DEFAULT_HOST_S
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.speculation.program import DraftProgram

MEASURED_HOST_ERROR, ASSUMED_HOST_ERROR = 0.2, 0.4  # one standard deviation, as a share; both are judgements
SHARED_ERRORS = ("machine", "host")  # error classes that two rounds on one machine have in common
WEIGHTY_SHARE = 0.05  # a source behind less of the time than this does not name the whole step's


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one engine step. ``parts``: draft, gemm, lm_head, attention, elementwise, sampling, host.

    ``low_s`` and ``high_s`` bound a 90 % interval: errors inside a kernel class fully correlated, between classes (and
    the machine's drift, and the host) independent.
    """

    seconds: float
    parts: dict[str, float]
    source: Source  # the worst one among those that priced a WEIGHTY_SHARE of the time
    low_s: float
    high_s: float
    errors_s: dict[str, float] = field(default_factory=dict)  # one standard deviation by kernel class


class RoundCost:
    """Prices steps of one target model, with or without a drafter."""

    def __init__(
        self, target: ModelSpec, prices: KernelPrices, *, hardware: Hardware, engine: EngineLimits,
        precision: Precision, program: DraftProgram | None = None, draft: ModelSpec | None = None,
    ) -> None:  # fmt: skip
        self._target = target
        self._prices = prices
        self._hardware = hardware
        self._engine = engine
        self._precision = precision
        self._program = program
        self._draft = draft
        self._token_charges = lru_cache(maxsize=None)(self._price_tokens)
        self._draft_stays_cached = (
            draft is not None and draft.weight_bytes(precision.weight_bits) <= hardware.last_level_cache_bytes / 2
        )

    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences.

        ``drafting_kv_tokens`` is their mean KV length.
        """
        bill = _Bill()
        self._add_pass(bill, self._target, groups, warm=False)
        rows = sum(g.sequences * g.logit_rows for g in groups)
        self._add_sampling(bill, rows, self._target.vocab_size)
        bill.add_host("host", *self._host_s("step", sum(g.sequences for g in groups)))
        if draft_tokens and self._program is not None:
            if self._draft is None:
                bill.add_host("draft", *self._propose_s(self._program, drafting))
            else:
                self._add_draft_passes(bill, self._draft, groups, Group(drafting, 1, drafting_kv_tokens), draft_tokens)
        return bill.total(self._prices.machine_error)

    def decode_round(self, batch: int, draft_tokens: int, context_tokens: float) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length: verify ``draft_tokens`` drafts, draft as many."""
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    def _add_draft_passes(
        self, bill: _Bill, draft: ModelSpec, groups: Sequence[Group], later: Group, draft_tokens: int
    ) -> None:
        first = [Group(g.sequences, g.query_tokens, g.kv_tokens, min(1, g.logit_rows)) for g in groups]
        self._add_pass(bill, draft, first, warm=False, part="draft")
        passes = 1
        if later.sequences:
            passes = draft_tokens
            self._add_sampling(bill, later.sequences, draft.vocab_size, part="draft", times=passes)
            self._add_pass(bill, draft, [later], warm=self._draft_stays_cached, part="draft", times=passes - 1)
        seconds, error = self._host_s("draft_pass", max(1, later.sequences))
        bill.add_host("draft", passes * seconds, error)

    def _add_pass(
        self, bill: _Bill, model: ModelSpec, groups: Sequence[Group], *, warm: bool, part: str | None = None,
        times: int = 1,
    ) -> None:  # fmt: skip
        if times == 0:
            return
        tokens = sum(g.tokens for g in groups)
        rows = sum(g.sequences * g.logit_rows for g in groups)
        bill.add(self._token_charges(model is self._draft, tokens, rows, warm), part, times)
        bill.add(
            [self._charge(attention_kernel(model, group, self._precision), warm) for group in groups],
            part,
            times,
        )

    def _add_sampling(
        self, bill: _Bill, rows: int, vocab_size: int, *, part: str | None = None, times: int = 1
    ) -> None:
        kernels = sampling_kernels("greedy", rows, vocab_size)
        bill.add([self._charge(kernel, warm=True) for kernel in kernels], part, times)

    def _price_tokens(self, of_draft: bool, tokens: int, rows: int, warm: bool) -> tuple[_Charge, ...]:
        model = self._draft if of_draft and self._draft is not None else self._target
        return tuple(self._charge(k, warm) for k in token_kernels(model, tokens, rows, self._precision))

    def _charge(self, kernel: Kernel, warm: bool) -> _Charge:
        price = self._prices.price(kernel, warm=warm)
        seconds = price.seconds * kernel.count
        return _Charge(kernel.part, kernel.kind, seconds, seconds * price.relative_error, price.source)

    def _propose_s(self, program: DraftProgram, sequences: int) -> tuple[float, float]:
        measured = self._prices.host_s("ngram", sequences)
        if measured is None:
            return sequences * program.host_s_per_sequence(), ASSUMED_HOST_ERROR
        return measured, MEASURED_HOST_ERROR

    def _host_s(self, part: str, sequences: int) -> tuple[float, float]:
        """Host seconds of a step or a draft pass, and their relative error."""
        given = self._engine.host_step_s if part == "step" else self._engine.host_draft_pass_s
        if given is not None:
            return given, 0.0
        measured = self._prices.host_s(part, sequences)
        if measured is not None:
            return measured, MEASURED_HOST_ERROR
        return (DEFAULT_HOST_S[part] if self._hardware.kind == "gpu" else 0.0), ASSUMED_HOST_ERROR


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one kernel adds to a step."""

    part: str
    kind: str
    seconds: float
    error_s: float
    source: Source


class _Bill:
    """Sums charges by part, and their errors by kernel class."""

    def __init__(self) -> None:
        self._parts: dict[str, float] = {}
        self._errors_s: dict[str, float] = {}
        self._sources: dict[Source, float] = {}

    def add(self, charges: Iterable[_Charge], part: str | None, times: int) -> None:
        for charge in charges:
            name = part or charge.part
            seconds = times * charge.seconds
            self._parts[name] = self._parts.get(name, 0.0) + seconds
            self._errors_s[charge.kind] = self._errors_s.get(charge.kind, 0.0) + times * charge.error_s
            self._sources[charge.source] = self._sources.get(charge.source, 0.0) + seconds

    def add_host(self, part: str, seconds: float, relative_error: float) -> None:
        self._parts[part] = self._parts.get(part, 0.0) + seconds
        self._errors_s["host"] = self._errors_s.get("host", 0.0) + seconds * relative_error

    def total(self, machine_error: float) -> StepTime:
        seconds = sum(self._parts.values())
        if machine_error:
            self._errors_s["machine"] = seconds * machine_error
        half = Z90 * sum(error**2 for error in self._errors_s.values()) ** 0.5
        weighty = [source for source in SOURCES if self._sources.get(source, 0.0) >= WEIGHTY_SHARE * seconds]
        return StepTime(seconds, self._parts, weighty[-1], max(0.0, seconds - half), seconds + half, self._errors_s)
