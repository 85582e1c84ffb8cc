"""Rounds under a confidence stop: a sequence drafts as long as it is sure, the batch as long as one of them is."""

from __future__ import annotations

import numpy as np

from specsim.arrays import Floats
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime, mixture
from specsim.speculation.acceptance import StoppedRound
from specsim.speculation.round import StepCost


def stopped_round(
    cost: StepCost, batch: Floats, context_tokens: float, stopped: StoppedRound, *, verifies: bool
) -> StepTime:
    """A steady round of ``batch`` sequences [batches] whose drafts end independently of each other.

    One verification takes all widths, at their mean; how many passes draft is the longest of the batch,
    P(passes >= i) = 1 - (1 - P(one sequence's >= i))^B. ``verifies``: drafts are verified.
    """
    drafted = round(stopped.drafted, 9) if verifies else 0.0  # whole where nothing stops, as prices of whole widths
    groups = [Group(batch, 1.0 + drafted, context_tokens + drafted, 1.0 + drafted)]
    reached = 1.0 - (1.0 - stopped.computed[:, None]) ** batch  # [k, batches]
    passes = -np.diff(np.concatenate([np.ones((1, len(batch))), reached, np.zeros((1, len(batch)))]), axis=0)
    prices = [
        cost.step(groups, drafting=batch, draft_tokens=count, drafting_kv_tokens=context_tokens)
        for count in range(len(passes))
    ]
    return mixture(prices, list(passes))
