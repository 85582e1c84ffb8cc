"""The law of a known acceptance length: what a run counted on average, made into rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.speculation.acceptance.law import AcceptanceLaw, PositionLaw
from specsim.speculation.acceptance.positions import (
    ConditionalAcceptance,
    ConstantAcceptance,
    LayerIndexedAcceptance,
)
from specsim.speculation.acceptance.recall import RecallAcceptance
from specsim.speculation.acceptance.runs import HurdleAcceptance
from specsim.speculation.acceptance.trace import TraceAcceptance
from specsim.speculation.tree import RecallTable

HALVINGS = 60
LawOfRate = Callable[[float], AcceptanceLaw]


def of_length(length: float, draft_tokens: int, like: AcceptanceLaw | None = None) -> AcceptanceLaw:
    """A law whose acceptance length with ``draft_tokens`` drafts is ``length``, bonus token included.

    A chain accepts every draft with one rate a, (1 - a^(k+1)) / (1 - a) = length: 2.8 of 4 drafts is 0.699. ``like`` a
    law of rates by position or layer, all of them are raised to one power; ``like`` a tree's recalls, they are
    multiplied by one factor; ``like`` a copy drafter's law, its hit rate is found. Raises InvalidInput where no such
    law exists.
    """
    make, most = _family(like, draft_tokens)
    longest = make(most).expected_tokens(draft_tokens)
    if not 1.0 <= length <= longest + 1e-9:
        raise InvalidInput(
            f"an acceptance length of {length:g} with {draft_tokens} drafts; a law of this kind has 1 to {longest:g}"
        )
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if make(middle).expected_tokens(draft_tokens) < length:
            low = middle
        else:
            high = middle
    return make(high)


def accepting_more(law: AcceptanceLaw, factor: float, draft_tokens: int) -> AcceptanceLaw:
    """``law`` with ``factor`` times the accepted tokens of a round of ``draft_tokens``, as far as it can have them.

    Of a trace other requests come more often. Laws by request or confidence stay as they are: nothing says how they
    would change together.
    """
    if draft_tokens and isinstance(law, TraceAcceptance):
        return law.accepting_more(factor, draft_tokens)
    if not draft_tokens or not isinstance(law, PositionLaw | RecallAcceptance | HurdleAcceptance):
        return law
    make, most = _family(law, draft_tokens)
    longest = make(most).expected_tokens(draft_tokens)
    return of_length(min(longest, 1.0 + factor * (law.expected_tokens(draft_tokens) - 1.0)), draft_tokens, law)


def _family(like: AcceptanceLaw | None, draft_tokens: int) -> tuple[LawOfRate, float]:
    """Laws by one number between 0 and the second value, which accept more the larger it is."""
    if isinstance(like, RecallAcceptance):
        return _recalls(like), 1.0 / max(sum(row) for row in like.table.recall)
    if isinstance(like, HurdleAcceptance):
        return (lambda rate: like.model_copy(update={"hit_rate": rate})), 1.0
    if isinstance(like, LayerIndexedAcceptance):
        return _layers(like), 1.0
    if isinstance(like, PositionLaw) and not isinstance(like, ConstantAcceptance):
        return _powers(like, draft_tokens), 1.0
    return (lambda rate: ConstantAcceptance(rate=rate)), 1.0


def _recalls(like: RecallAcceptance) -> LawOfRate:
    def made(factor: float) -> AcceptanceLaw:
        scaled = tuple(tuple(factor * one for one in row) for row in like.table.recall)
        return RecallAcceptance(table=RecallTable(recall=scaled), tree=like.tree)

    return made


def _powers(like: PositionLaw, draft_tokens: int) -> LawOfRate:
    """Conditional rates to the power (1 - u) / u: none accepted at u = 0, all that are ever at u = 1."""
    rates = like.conditional_rates(draft_tokens)

    def made(share: float) -> AcceptanceLaw:
        return ConditionalAcceptance(rates=tuple(_powered(rates, share).tolist()))

    return made


def _layers(like: LayerIndexedAcceptance) -> LawOfRate:
    def made(share: float) -> AcceptanceLaw:
        raised = _powered(np.array(list(like.rates.values())), share).tolist()
        return like.model_copy(update={"rates": dict(zip(like.rates, raised, strict=True))})

    return made


def _powered(rates: Floats, share: float) -> Floats:
    return np.where(rates > 0, rates ** ((1.0 - share) / max(share, 1e-9)), 0.0)
