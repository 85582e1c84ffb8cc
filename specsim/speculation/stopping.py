"""Rounds under a confidence stop: a sequence drafts as long as it is sure, the batch as long as one of them is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specsim.arrays import Floats
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime, mixture
from specsim.speculation.acceptance import StoppedRound
from specsim.speculation.round import StepCost


def stopped_round(
    cost: StepCost, groups: Sequence[Group], drafting: Floats, context_tokens: float, stopped: StoppedRound
) -> StepTime:
    """A step over ``groups`` after which ``drafting`` sequences (an array) draft, each until it is no longer sure.

    How many passes draft is the longest of the batch, P(passes >= i) = 1 - (1 - P(one sequence's >= i))^B.
    """
    each = np.minimum(1.0, stopped.computed).reshape(-1, *[1] * drafting.ndim)
    reached = 1.0 - (1.0 - each) ** drafting  # [k, *drafting]
    ends = np.ones((1, *drafting.shape))
    passes = -np.diff(np.concatenate([ends, reached, 0.0 * ends]), axis=0)
    prices = [
        cost.step(groups, drafting=drafting, draft_tokens=count, drafting_kv_tokens=context_tokens)
        for count in range(len(passes))
    ]
    return mixture(prices, list(passes))
