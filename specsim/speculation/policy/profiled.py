"""Batch -> k built from the cost model before the first request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveFloat, field_validator

from specsim.speculation.acceptance import Acceptance, AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.deciders import ByBatch
from specsim.speculation.policy.prices import first_best, round_seconds
from specsim.speculation.policy.protocol import Setting
from specsim.speculation.round import StepCost

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


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

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> ByBatch | Learning:
        law = setting.acceptance if self.acceptance is None else self.acceptance
        contexts = self.contexts or (setting.context_tokens,)
        tables = [best_table(law, setting.cost, allowed, setting.max_num_seqs, context) for context in contexts]
        if len(tables) == 1:
            return ByBatch(tables[0])
        from specsim.speculation.policy.rules.by_context import by_context  # numba comes with it

        return by_context(contexts, tables)


def best_table(
    law: AcceptanceLaw, cost: StepCost, choices: Sequence[int], max_num_seqs: int, context_tokens: float
) -> list[int]:
    """k of highest throughput after a step of 0, 1, .. max_num_seqs sequences (none counts as one)."""
    tokens = law.expected_tokens(np.asarray(choices, dtype=np.int64))
    rates = tokens[:, None] / round_seconds(cost, choices, max_num_seqs, context_tokens)
    best = [choices[first_best(column)] for column in rates.T]
    return [best[0], *best]
