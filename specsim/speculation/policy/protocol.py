"""What a policy may see, and what it answers.

A policy is data in a scenario. ``start`` makes its **decider** for one replica, which sees only the past. The
simulator and the reference engine call the same deciders, once a step, in this order:

    the target has verified    observe(rounds)                     what the step's rounds accepted
    sequences will draft       draft_tokens(batch, context)        k, the most that any of them drafts
    k > 0, not ``uniform``     lengths(request_ids, k, confidences)   how many each drafts, and what that costs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from specsim.arrays import Floats, Integers
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.round import StepCost


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy knows before the first request."""

    cost: StepCost
    acceptance: AcceptanceLaw  # what its owner believes; not what the run draws
    choices: tuple[int, ...]  # draft lengths that the program can run, 0 among them, ascending
    max_num_seqs: int
    context_tokens: float  # mean KV length expected
    graph_sizes: tuple[int, ...] = ()  # token counts with a captured graph, ascending; empty: eager
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one step showed of the sequences that verified drafts in it, perhaps none; arrays of shape [sequences]."""

    request_ids: Integers
    drafted: Integers
    accepted: Integers
    batch: int  # sequences in the step


@dataclass(frozen=True, slots=True)
class Drafts:
    """``lengths`` [sequences]: tokens each proposes to the target, perhaps 0.

    ``computed``: draft tokens that the drafter ran a pass for, at least the longest of ``lengths``; a token that ended
    a draft was computed and is not proposed. What drafting costs: the ``draft_tokens`` of ``StepCost.step``.
    """

    lengths: Integers
    computed: int


class Decider(Protocol):
    """One replica's decisions."""

    def table(self) -> Sequence[int] | None:
        """k after a step of 0, 1, .. max_num_seqs sequences where nothing else matters, else None.

        A decider with a table is ``uniform``, and need not be told anything.
        """
        ...

    @property
    def uniform(self) -> bool:
        """Whether all sequences of a step draft alike; ``lengths`` is then never needed."""
        ...

    @property
    def needs_confidences(self) -> bool:
        """Whether ``lengths`` must be given the drafter's confidences."""
        ...

    def observe(self, rounds: Rounds) -> None:
        """Learn from what the target has just verified; before ``draft_tokens`` of the same step."""
        ...

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        """Most tokens to draft a sequence after a step of ``batch`` sequences; 0: a round without speculation.

        ``batch`` counts prefills too; ``context_tokens`` is the mean KV length of the sequences that will draft.
        """
        ...

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        """How many each sequence drafts of at most ``draft_tokens``; right after ``draft_tokens`` of the same step.

        ``confidences`` [sequences, draft_tokens] are the drafter's own, 1 where it has not come to a token yet: an
        engine asks again after each draft pass, so an answer must not depend on how often it was asked. Whether token
        i is drafted depends only on those of tokens before it; whether it is proposed, also on its own and on other
        sequences'. Where no sequence drafts, ``computed`` is ``draft_tokens``: a drafter still reads the prompts in
        the step.
        """
        ...
