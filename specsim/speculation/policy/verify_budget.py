"""Which drafts of the whole batch are worth verifying: those most likely to survive, up to a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveInt, model_validator

from specsim.arrays import Floats
from specsim.cost.forward import Group
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.confidence import check_has_confidences
from specsim.speculation.policy.prices import KeptPrices, kept
from specsim.speculation.policy.protocol import Setting
from specsim.speculation.round import StepCost

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


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

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Learning:
        from specsim.speculation.policy.rules.verify_budget import verify_budget  # numba comes with it

        prices = kept(_budget_prices, setting.cost, self.k, setting.max_num_seqs)
        return verify_budget(self.k, self.tokens, self.max_batch, setting.max_num_seqs, prices)


def _budget_prices(cost: StepCost, longest: int, max_num_seqs: int) -> KeptPrices:
    """Of steps that verify 0, 1, .. sequences·k drafts, by row k·(max_num_seqs + 1) + sequences."""

    def seconds(context_tokens: float, row: int) -> Floats:
        k, sequences = divmod(row, max_num_seqs + 1)
        return np.asarray(np.maximum.accumulate(_step_seconds(cost, sequences, k, context_tokens)))

    return KeptPrices(seconds, (longest + 1) * (max_num_seqs + 1))


def _step_seconds(cost: StepCost, sequences: int, k: int, context_tokens: float) -> Floats:
    """Drafts to verify are spread evenly, and k are drafted again."""

    def step(*groups: tuple[int | Floats, int]) -> Floats:
        whole = [Group(count, width, context_tokens + width - 1, width) for count, width in groups]
        price = cost.step(whole, drafting=sequences, draft_tokens=k, drafting_kv_tokens=context_tokens)
        return np.atleast_1d(np.asarray(price.seconds, dtype=np.float64))

    wider = np.arange(1.0, sequences)
    spans = [step((sequences, 1))]
    for width in range(1, k + 1):
        if sequences > 1:
            spans.append(step((sequences - wider, width), (wider, width + 1)))
        spans.append(step((sequences, width + 1)))
    return np.concatenate(spans)
