"""How many tokens to draft next, seeing only the past.

    fixed, off_above, table   written out by hand, by batch size: what engines take as configuration
    profiled                  batch -> k (chain length or tree nodes) from the cost model, once
    throughput                arg-max over k, acceptance learned on the way
    tiers                     a moving average of accepted drafts moves k among a batch size's choices
    plus_minus                up after a full accept, down otherwise, for each request
    confidence                stop where the drafter is unsure, with a threshold that may move
    verify_budget             of all drafts of the batch verify those most likely to survive

``oracle`` gives what no policy can beat.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specsim.speculation.policy.confidence import ConfidencePolicy, ThresholdAdaptation
from specsim.speculation.policy.fixed import FixedPolicy, OffAbovePolicy, TablePolicy
from specsim.speculation.policy.oracle import Path, follow, oracle
from specsim.speculation.policy.profiled import ProfiledPolicy
from specsim.speculation.policy.protocol import Decider, Drafts, Rounds, Setting
from specsim.speculation.policy.rising import PlusMinusPolicy
from specsim.speculation.policy.throughput import ThroughputPolicy
from specsim.speculation.policy.tiers import Tier, TieredPolicy
from specsim.speculation.policy.verify_budget import VerifyBudgetPolicy

Policy = Annotated[
    FixedPolicy
    | OffAbovePolicy
    | TablePolicy
    | ProfiledPolicy
    | ThroughputPolicy
    | TieredPolicy
    | PlusMinusPolicy
    | ConfidencePolicy
    | VerifyBudgetPolicy,
    Field(discriminator="kind"),
]

__all__ = [
    "ConfidencePolicy",
    "Decider",
    "Drafts",
    "FixedPolicy",
    "OffAbovePolicy",
    "Path",
    "PlusMinusPolicy",
    "Policy",
    "ProfiledPolicy",
    "Rounds",
    "Setting",
    "TablePolicy",
    "ThresholdAdaptation",
    "ThroughputPolicy",
    "Tier",
    "TieredPolicy",
    "VerifyBudgetPolicy",
    "follow",
    "oracle",
]
