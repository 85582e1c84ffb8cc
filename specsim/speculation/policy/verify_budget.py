"""Which drafts of the whole batch are worth verifying: those most likely to survive, up to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import PositiveInt, model_validator

from specsim.arrays import Floats, Integers
from specsim.cost.forward import Group
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.confidence import check_has_confidences, required
from specsim.speculation.policy.deciders import DeciderBase
from specsim.speculation.policy.prices import first_best, rounded
from specsim.speculation.policy.protocol import Decider, Drafts, Setting
from specsim.speculation.round import StepCost


class VerifyBudgetPolicy(ChoosingPolicy):
    """Every sequence drafts k tokens; of all of them the B with the highest survival are verified.

    Survival is the product of a draft's confidence and those before it, so what is kept of each draft is a prefix.
    ``tokens``: B, a fixed capacity (TETRIS, arXiv 2502.15197); None takes the B of highest expected throughput,
    (sequences + Σ survival) / seconds of the step that verifies B drafts, steps made never to get cheaper with B
    (DSpark, arXiv 2607.05147). All k are computed whatever is kept. ``max_batch``: no drafting above this batch.
    """

    kind: Literal["verify_budget"] = "verify_budget"
    k: PositiveInt
    tokens: PositiveInt | None = None
    max_batch: PositiveInt | None = None

    @property
    def longest(self) -> int:
        return self.k

    @model_validator(mode="after")
    def _of_its_choices(self) -> VerifyBudgetPolicy:
        if self.choices is not None and self.k not in self.choices:
            raise ValueError(f"k is {self.k} and the choices are {self.choices}; add it, or leave choices out")
        return self

    @property
    def named(self) -> tuple[int, ...]:
        return self.choices or (0, self.k)

    def allowed(self, setting: Setting) -> tuple[int, ...]:
        self.check_lengths(setting.choices)
        return self.named

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_has_confidences(acceptance, self.kind)

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Decider:
        return _Budget(self, setting.cost)


class _Budget(DeciderBase):
    def __init__(self, policy: VerifyBudgetPolicy, cost: StepCost) -> None:
        self._policy = policy
        self._cost = cost
        self._context_tokens = 1.0
        self._found: dict[tuple[int, int, float], Floats] = {}

    @property
    def uniform(self) -> bool:
        return False

    @property
    def needs_confidences(self) -> bool:
        return True

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        self._context_tokens = context_tokens
        limit = self._policy.max_batch
        return self._policy.k if limit is None or batch <= limit else 0

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        survival = np.cumprod(required(confidences)[:, :draft_tokens], axis=1)
        sequences, k = survival.shape
        order = np.argsort(-survival, axis=None, kind="stable")  # stable: of equals, a draft's earlier token first
        budget = self._policy.tokens
        if budget is None:
            tokens = sequences + np.concatenate(([0.0], np.cumsum(survival.ravel()[order])))
            budget = first_best(tokens / self._seconds(sequences, k)) if sequences else 0
        kept = np.bincount(order[:budget] // max(k, 1), minlength=sequences)
        return Drafts(kept.astype(np.int64), draft_tokens)

    def _seconds(self, sequences: int, k: int) -> Floats:
        """Of steps that verify 0, 1, .. sequences·k drafts, spread evenly, and draft k again."""
        key = (sequences, k, rounded(self._context_tokens))
        if key not in self._found:
            self._found[key] = np.maximum.accumulate(self._price(*key))
        return self._found[key]

    def _price(self, sequences: int, k: int, context: float) -> Floats:
        wider = np.arange(1.0, sequences)
        spans = [self._step([(sequences, 1)], sequences, k, context)]
        for width in range(1, k + 1):
            if sequences > 1:
                groups = [(sequences - wider, width), (wider, width + 1)]
                spans.append(self._step(groups, sequences, k, context))
            spans.append(self._step([(sequences, width + 1)], sequences, k, context))
        return np.concatenate([np.atleast_1d(np.asarray(span, dtype=np.float64)) for span in spans])

    def _step(
        self, groups: Sequence[tuple[int | Floats, int]], drafting: int, k: int, context: float
    ) -> Floats | float:
        whole = [Group(count, width, context + width - 1, width) for count, width in groups]
        return self._cost.step(whole, drafting=drafting, draft_tokens=k, drafting_kv_tokens=context).seconds
