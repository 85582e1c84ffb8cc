"""The law of a known acceptance length: what a run counted on average, made into rates."""

from __future__ import annotations

from collections.abc import Callable

from specsim.errors import InvalidInput
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.acceptance.positions import ConstantAcceptance
from specsim.speculation.acceptance.recall import RecallAcceptance
from specsim.speculation.acceptance.runs import HurdleAcceptance
from specsim.speculation.tree import RecallTable

HALVINGS = 60


def of_length(length: float, draft_tokens: int, like: AcceptanceLaw | None = None) -> AcceptanceLaw:
    """A law whose acceptance length with ``draft_tokens`` drafts is ``length``, bonus token included.

    A chain accepts every draft with one rate a, (1 - a^(k+1)) / (1 - a) = length: 2.8 of 4 drafts is 0.699. ``like`` a
    tree's recalls, all of them are multiplied by one factor; ``like`` a copy drafter's law, its hit rate is found.
    Raises InvalidInput where no such law exists.
    """
    make, most = _family(like)
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


def _family(like: AcceptanceLaw | None) -> tuple[Callable[[float], AcceptanceLaw], float]:
    """Laws by one number between 0 and the second value, which accept more the larger it is."""

    def hits(rate: float) -> AcceptanceLaw:
        assert isinstance(like, HurdleAcceptance)
        return like.model_copy(update={"hit_rate": rate})

    def recalls(factor: float) -> AcceptanceLaw:
        assert isinstance(like, RecallAcceptance)
        scaled = tuple(tuple(factor * one for one in row) for row in like.table.recall)
        return RecallAcceptance(table=RecallTable(recall=scaled), tree=like.tree)

    def constant(rate: float) -> AcceptanceLaw:
        return ConstantAcceptance(rate=rate)

    if isinstance(like, RecallAcceptance):
        return recalls, 1.0 / max(sum(row) for row in like.table.recall)
    return (hits, 1.0) if isinstance(like, HurdleAcceptance) else (constant, 1.0)
