"""Batch -> k built from the cost model before the first request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import PositiveFloat, field_validator

from specsim.speculation.acceptance import Acceptance, AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.deciders import ByBatch, DeciderBase
from specsim.speculation.policy.prices import RoundPrices, first_best
from specsim.speculation.policy.protocol import Decider, Setting


class ProfiledPolicy(ChoosingPolicy):
    """For each batch size the k of highest throughput, E[tokens](k) / round seconds(batch, k), off included.

    The adaptive scheme of Su, Giannoula and Pekhimenko (arXiv 2310.18813): profiled once, looked up each step, no
    feedback. Where k counts the nodes of a tree this is the best node count, Sequoia's hardware-aware choice
    (arXiv 2402.12374). Of equal lengths the shorter is taken.

    ``contexts``: KV lengths to build a table for, the nearest (as a ratio) being looked up: what pays at a batch size
    depends on it (MagicDec, arXiv 2408.11049). None builds one table at the workload's mean. ``acceptance``: what the
    table is built from; None: the scenario's law.
    """

    kind: Literal["profiled"] = "profiled"
    contexts: tuple[PositiveFloat, ...] | None = None
    acceptance: Acceptance | None = None

    @field_validator("contexts")
    @classmethod
    def _some(cls, contexts: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if contexts is not None and not contexts:
            raise ValueError("contexts is empty; list KV lengths, or remove it for the workload's mean")
        return None if contexts is None else tuple(sorted(set(contexts)))

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Decider:
        law = setting.acceptance if self.acceptance is None else self.acceptance
        prices = RoundPrices(setting.cost, allowed, setting.max_num_seqs)
        contexts = self.contexts or (setting.context_tokens,)
        tables = [best_table(law, prices, allowed, context) for context in contexts]
        return ByBatch(tables[0]) if len(tables) == 1 else _ByContext(contexts, tables)


def best_table(law: AcceptanceLaw, prices: RoundPrices, choices: Sequence[int], context_tokens: float) -> list[int]:
    """k of highest throughput after a step of 0, 1, .. max_num_seqs sequences (none counts as one)."""
    tokens = law.expected_tokens(np.asarray(choices, dtype=np.int64))
    rates = tokens[:, None] / prices.seconds(context_tokens)
    best = [choices[first_best(column)] for column in rates.T]
    return [best[0], *best]


class _ByContext(DeciderBase):
    def __init__(self, contexts: Sequence[float], tables: Sequence[Sequence[int]]) -> None:
        self._logs = np.log(contexts)
        self._tables = [ByBatch(table) for table in tables]

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        nearest = int(np.abs(self._logs - math.log(max(1.0, context_tokens))).argmin())
        return self._tables[nearest].draft_tokens(batch, context_tokens)
