"""Draft lengths that rise after a full accept and fall after anything else, for each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from specsim.arrays import Floats, Integers
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy, check_counts_in_a_row
from specsim.speculation.policy.deciders import DeciderBase, longest_of
from specsim.speculation.policy.protocol import Decider, Drafts, Rounds, Setting

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

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Decider:
        return _PlusMinus(self, allowed[-1], REMEMBERED * setting.max_num_seqs)


class _PlusMinus(DeciderBase):
    def __init__(self, policy: PlusMinusPolicy, longest: int, remembered: int) -> None:
        self._policy, self._longest, self._remembered = policy, longest, remembered
        self._initial = min(policy.initial, longest)
        self._length: dict[int, int] = {}  # by request, the one unseen for longest first

    @property
    def uniform(self) -> bool:
        return False

    def observe(self, rounds: Rounds) -> None:
        lengths, initial, longest = self._length, self._initial, self._longest
        rise, fall, shortest = self._policy.rise, self._policy.fall, self._policy.shortest
        whole = (rounds.drafted == rounds.accepted).tolist()
        for number, all_right in zip(rounds.request_ids.tolist(), whole, strict=True):
            length = lengths.pop(number, initial) + (rise if all_right else -fall)
            length = longest if length > longest else length
            lengths[number] = length if length > shortest else shortest
        while len(lengths) > self._remembered:
            del lengths[next(iter(lengths))]

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._longest

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        known, initial = self._length, self._initial
        wanted = np.array([known.get(number, initial) for number in request_ids.tolist()], dtype=np.int64)
        found = np.minimum(wanted, draft_tokens)
        return Drafts(found, longest_of(found, draft_tokens))
