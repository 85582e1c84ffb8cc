"""The engine's own time on the host, beside running passes and sampling, measured around very small models."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specsim.arrays import Integers
from specsim.profiles.schema import spread_of
from specsim.reference.decoding.engine import Engine
from specsim.reference.decoding.models import Models
from specsim.reference.drafters import Drafter, DraftModel, History, NGram, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.base import Judge
from specsim.reference.network.transformer import PassPlan, TokenGroup, Transformer
from specsim.reference.timing.grid import MIN_ROUNDS, WARM_UP_ROUNDS, SteadyBatch, room
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance import AcceptanceDraws, ConstantAcceptance

HostPart = Literal["step", "drafts", "propose", "draft_pass", "ngram"]

CONTEXT_TOKENS, DRAFT_TOKENS, CELL_S = 256, 4, 0.8
# What a target and a draft model stream through: many times a last-level cache, and more than one core's caches.
EVICTED_BY_TARGET_BYTES, EVICTED_BY_DRAFT_BYTES = 300_000_000, 8_000_000


@dataclass(frozen=True, slots=True)
class MeasuredHostTime:
    """Host seconds of one part, for all sequences together: preparing a pass (positions, masks) counts, running not.

    step: a step without drafts. drafts: what verifying and accepting drafts adds to it, however many. draft_pass: what
    each draft pass adds, beside running it. propose: what a draft model adds to all these once a step, when it
    prepares what its cache has to take in. ngram: what prompt look-up adds to ``drafts``.
    """

    part: HostPart
    sequences: int
    median_s: float
    p10_s: float
    p90_s: float
    samples: int


def host_times(
    batches: list[int], *, device: str = "cpu", seconds_per_cell: float | None = None
) -> list[MeasuredHostTime]:
    """The engine's own time beside running passes and sampling, by batch size, measured around very small models.

    ``seconds_per_cell``: at most CELL_S, which it is where nothing is given.
    """
    k, seconds = DRAFT_TOKENS, min(CELL_S, CELL_S if seconds_per_cell is None else seconds_per_cell)
    length = room(CONTEXT_TOKENS, k)
    target, draft = (
        _Evicting(device, evicted, max_sequences=max(batches), max_length=length, seed=0)
        for evicted in (EVICTED_BY_TARGET_BYTES, EVICTED_BY_DRAFT_BYTES)
    )
    Models(target, draft).fill(max(batches), length, 0)
    rows: list[MeasuredHostTime] = []
    for batch in batches:
        drafting = [(None, 0), (_Zeros(), k), (NGram(), k), (DraftModel(draft), 1), (DraftModel(draft), k)]
        cells = [_host_cell(target, drafter, batch, drafts) for drafter, drafts in drafting]
        plain, given, copied, one, most = _host_s(cells, (target, draft), seconds)
        drafts_s = max(0.0, float(np.median(given - plain)))
        passes = (most - one) / (k - 1)
        rows.append(_host_row("step", batch, plain))
        rows.append(_host_row("drafts", batch, given - plain))
        rows.append(_host_row("propose", batch, one - plain - drafts_s - np.median(passes)))
        rows.append(_host_row("draft_pass", batch, passes))
        rows.append(_host_row("ngram", batch, copied - plain - drafts_s))
    return rows


class _Zeros(Drafter):
    """Proposes token 0 again and again: drafts to verify that take no work to make."""

    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        shape = (len(slots), draft_tokens)
        return Proposal(np.zeros(shape, dtype=np.int64), np.full(len(slots), draft_tokens))


class _Evicting(Transformer):
    """A very small model whose passes leave a CPU's caches as a large one does, so that Python runs as cold after it.

    Measured with a 75M-parameter target: 0.3 ms of host time a step after its passes, 0.12 ms after a tiny one's.
    """

    def __init__(self, device: str, evicted_bytes: int, *, max_sequences: int, max_length: int, seed: int) -> None:
        spec = ModelSpec(
            name="tiny",
            source="host time only",
            num_layers=1,
            hidden_size=64,
            num_heads=8,
            num_kv_heads=4,
            head_dim=64,
            intermediate_size=128,
            vocab_size=512,
        )
        super().__init__(
            spec, device=device, dtype=torch.float32, max_sequences=max_sequences, max_length=max_length, seed=seed
        )
        # A GPU's passes do not touch the host's caches.
        self._swept = torch.zeros(evicted_bytes // 4 if device == "cpu" else 0)
        self.planning_s = 0.0  # spent on plans so far

    def plan(self, groups: Sequence[TokenGroup], *, states: bool = False) -> PassPlan:
        start_s = time.perf_counter()
        plan = super().plan(groups, states=states)
        self.planning_s += time.perf_counter() - start_s
        return plan

    def run(self, plan: PassPlan, first: int = 0) -> Tensor:
        logits = super().run(plan, first)
        self._swept.add_(1.0)
        return logits


def _host_cell(target: Transformer, extra: Drafter | None, batch: int, draft_tokens: int) -> SteadyBatch:
    draws = None if extra is None else AcceptanceDraws(ConstantAcceptance(rate=0.7), 0)
    engine = Engine(target, extra, draws)
    return SteadyBatch(engine, batch, draft_tokens=draft_tokens, context_tokens=CONTEXT_TOKENS, seed=0)


def _host_s(cells: list[SteadyBatch], models: Sequence[_Evicting], seconds: float) -> NDArray[np.float64]:
    """Host seconds [cells, rounds], of about ``seconds`` each, with what ``models`` spend on plans.

    Cells take their rounds in turn, so that what the machine does in a moment stays out of their differences.
    """
    for cell in cells * WARM_UP_ROUNDS:
        cell.round()
    gc.collect()
    turns: list[list[float]] = []
    spent_s = 0.0
    while spent_s < seconds * len(cells) or len(turns) < MIN_ROUNDS:
        captured = sum(cell.passes_captured for cell in cells)
        host_s: list[float] = []
        for cell in cells:
            planned_s = sum(model.planning_s for model in models)
            times = cell.round().times
            host_s.append(times.host_s + sum(model.planning_s for model in models) - planned_s)
            spent_s += times.total_s
        if sum(cell.passes_captured for cell in cells) == captured:
            turns.append(host_s)
    return np.array(turns).T


def _host_row(part: HostPart, batch: int, seconds: NDArray[np.float64]) -> MeasuredHostTime:
    return MeasuredHostTime(part, batch, *spread_of(seconds), len(seconds))
