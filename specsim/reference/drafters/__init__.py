"""Which tokens are proposed next, by drafters that really run.

    look_up       copies from the sequence's own past
    draft_model   a small model of its own
    own_target    the target with sublayers left out, or left early, with or without an adapter
    dynamic_exit  the same with layer and length chosen each round
    heads         several guesses from one state of the target
    features      one layer that continues the target's states

Most draft pass by pass: ``stepwise``, over a chain or a tree (``branching``). How many to draft, and whether drafts
were right, is decided elsewhere.
"""

from specsim.reference.drafters.base import Drafter, History, Integers, Progress, Proposal, Stopwatch
from specsim.reference.drafters.draft_model import DraftModel
from specsim.reference.drafters.dynamic_exit import DynamicExit
from specsim.reference.drafters.features import Eagle, FeatureHead
from specsim.reference.drafters.heads import HeadWeights, Medusa
from specsim.reference.drafters.look_up import NGram
from specsim.reference.drafters.own_target import Adapter, EarlyExit, SkippedLayers
from specsim.reference.drafters.stepwise import Shape, Stepwise

__all__ = [
    "Adapter",
    "DraftModel",
    "Drafter",
    "DynamicExit",
    "Eagle",
    "EarlyExit",
    "FeatureHead",
    "HeadWeights",
    "History",
    "Integers",
    "Medusa",
    "NGram",
    "Progress",
    "Proposal",
    "Shape",
    "SkippedLayers",
    "Stepwise",
    "Stopwatch",
]
