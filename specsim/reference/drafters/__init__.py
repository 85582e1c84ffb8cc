"""Which tokens are proposed next, by drafters that really run.

    look_up       copies from the sequence's own past
    lookahead     n-grams that the target makes in a window beside its verification
    draft_model   a small model of its own
    own_target    the target with sublayers left out, or left early, with or without an adapter
    dynamic_exit  the same with layer and length chosen each round
    heads         several guesses from one state of the target
    features      one layer that continues the target's states

Most draft pass by pass: ``stepwise``, over a chain or a tree (``branching``), or over trees that differ by sequence
(``grown``), equal ends of which may be ``merged``. How many to draft, and whether drafts were right, is decided
elsewhere.
"""

from specsim.reference.drafters.base import Drafter, History, Prefills, Proposal, Stopwatch
from specsim.reference.drafters.draft_model import DraftModel
from specsim.reference.drafters.dynamic_exit import DynamicExit
from specsim.reference.drafters.features import Eagle, FeatureHead
from specsim.reference.drafters.grown import Grown
from specsim.reference.drafters.heads import HeadWeights, Medusa
from specsim.reference.drafters.lookahead import Lookahead
from specsim.reference.drafters.merged import Merged
from specsim.reference.drafters.own_target import AdapterLayer, EarlyExit, SkippedLayers
from specsim.reference.drafters.prompt_lookup import NGram
from specsim.reference.drafters.stepwise import Stepwise, TreeShape

__all__ = [
    "AdapterLayer",
    "DraftModel",
    "Drafter",
    "DynamicExit",
    "Eagle",
    "EarlyExit",
    "FeatureHead",
    "Grown",
    "HeadWeights",
    "History",
    "Lookahead",
    "Medusa",
    "Merged",
    "NGram",
    "Prefills",
    "Proposal",
    "SkippedLayers",
    "Stepwise",
    "Stopwatch",
    "TreeShape",
]
