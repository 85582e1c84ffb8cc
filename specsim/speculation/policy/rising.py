"""Draft lengths that rise after a full accept and fall after anything else, for each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy, check_counts_in_a_row
from specsim.speculation.policy.protocol import Setting

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning

REMEMBERED = 4  # requests, as a multiple of max_num_seqs; the one unseen for longest is forgotten first


class PlusMinusPolicy(ChoosingPolicy):
    """``rise`` more tokens after a round that accepted all its drafts, ``fall`` fewer after any other.

    Hugging Face's heuristic schedule of assisted generation: + 2 and - 1, never below 1. There it is one sequence's;
    here each request has its own length, ``initial`` at first, and the drafter runs as long as the longest needs.
    """

    kind: Literal["plus_minus"] = "plus_minus"
    initial: PositiveInt = 5
    rise: PositiveInt = 2
    fall: PositiveInt = 1
    shortest: NonNegativeInt = Field(1)

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_counts_in_a_row(acceptance, self.kind)

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Learning:
        from specsim.speculation.policy.rules.plus_minus import plus_minus  # numba comes with it

        rule = self.model_dump(include={"initial", "rise", "fall", "shortest"})
        return plus_minus(longest=allowed[-1], remembered=REMEMBERED * setting.max_num_seqs, **rule)
