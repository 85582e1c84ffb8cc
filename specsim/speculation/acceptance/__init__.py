"""How many drafted tokens the target accepts: expected values, and draws that alternatives share.

Per-position rates come as unconditional r_i = P(the first i drafts are all accepted) or conditional a_i = r_i/r_(i-1),
two types that are never mixed; the acceptance length is 1 + Σ r_i, bonus token included.

    constant, conditional, unconditional, power_law, layer_indexed   by draft position, the same in every round
    latent        a level for each request, in spans within it        hurdle   copy drafters: a hit, then a run
    confidence    joint law of a draft's confidence and acceptance    trace    replay, independent of k
    recall        trees, by candidate rank
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specsim.speculation.acceptance.confidence import ConfidenceAcceptance, ConfidenceLevel, StoppedRound
from specsim.speculation.acceptance.draws import AcceptanceDraws, RoundHistory
from specsim.speculation.acceptance.latent import BetaLevels, DiscreteLevels, LatentAcceptance, RequestLengths, Spans
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.acceptance.positions import (
    ConditionalAcceptance,
    ConstantAcceptance,
    LayerIndexedAcceptance,
    PowerLawAcceptance,
    UnconditionalAcceptance,
)
from specsim.speculation.acceptance.recall import RecallAcceptance
from specsim.speculation.acceptance.runs import EmpiricalRuns, GeometricRuns, HurdleAcceptance
from specsim.speculation.acceptance.trace import TraceAcceptance
from specsim.speculation.uniform import uniform

Acceptance = Annotated[
    ConstantAcceptance
    | ConditionalAcceptance
    | UnconditionalAcceptance
    | PowerLawAcceptance
    | LayerIndexedAcceptance
    | LatentAcceptance
    | HurdleAcceptance
    | ConfidenceAcceptance
    | TraceAcceptance
    | RecallAcceptance,
    Field(discriminator="kind"),
]

__all__ = [
    "Acceptance",
    "AcceptanceDraws",
    "AcceptanceLaw",
    "BetaLevels",
    "ConditionalAcceptance",
    "ConfidenceAcceptance",
    "ConfidenceLevel",
    "ConstantAcceptance",
    "DiscreteLevels",
    "EmpiricalRuns",
    "GeometricRuns",
    "HurdleAcceptance",
    "LatentAcceptance",
    "LayerIndexedAcceptance",
    "PowerLawAcceptance",
    "RecallAcceptance",
    "RequestLengths",
    "RoundHistory",
    "Spans",
    "StoppedRound",
    "TraceAcceptance",
    "UnconditionalAcceptance",
    "uniform",
]
