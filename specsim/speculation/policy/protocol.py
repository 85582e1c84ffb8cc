"""What a policy may see, and what it answers.

A policy is data in a scenario. ``start`` makes its **decider** for one replica, which sees only the past: the step
just scheduled, and what earlier rounds showed. The simulator and the reference engine call the same deciders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.round import StepCost

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy knows before the first request."""

    cost: StepCost
    acceptance: AcceptanceLaw  # what its owner believes; not what the run draws
    choices: tuple[int, ...]  # draft lengths that the program can run, 0 among them, ascending
    max_num_seqs: int
    context_tokens: float  # mean KV length expected
    graph_sizes: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one step showed of the sequences that verified drafts in it; arrays of shape [sequences]."""

    request_ids: Integers
    drafted: Integers
    accepted: Integers
    batch: int  # sequences in the step
    seconds: float


class Decider(Protocol):
    """One replica's decisions."""

    def table(self) -> Sequence[int] | None:
        """k after a step of 0, 1, .. max_num_seqs sequences if nothing else matters, else None."""
        ...

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        """Most tokens to draft a sequence after a step of ``batch`` sequences; 0: a round without speculation."""
        ...

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Integers | None:
        """How many each sequence drafts of at most ``draft_tokens``, [sequences]; None: all of them.

        ``confidences`` [sequences, draft_tokens] are the drafter's own, given if ``needs_confidences``; a decider
        uses those of a token only to decide about tokens from it on.
        """
        ...

    @property
    def needs_confidences(self) -> bool: ...

    def observe(self, rounds: Rounds) -> None:
        """Learn from a step that has ended."""
        ...


class DraftPolicy(Protocol):
    """A rule as data."""

    def start(self, setting: Setting) -> Decider: ...

    @property
    def longest(self) -> int | None:
        """The longest draft it ever asks for; None: the scenario's maximum."""
        ...
