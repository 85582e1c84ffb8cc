"""What every drafter is given and gives: the tokens known of each slot, and those to verify."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.network.passes import TokenGroup
from specsim.speculation.policy import Drafts
from specsim.speculation.tree import DraftTree, chain

_Result = TypeVar("_Result")
Judge = Callable[[NDArray[np.float64]], Drafts]
"""Says of confidences [n, k], 1 where none is known yet, how many tokens each slot proposes and how many to run."""


class History:
    """The tokens known of each slot, and behind them the drafts to verify, node by node of their tree."""

    def __init__(self, max_sequences: int, max_length: int) -> None:
        self.tokens: Integers = np.zeros((max_sequences, max_length), dtype=np.int64)
        self.lengths: Integers = np.zeros(max_sequences, dtype=np.int64)  # known tokens
        self.drafted: Integers = np.zeros(max_sequences, dtype=np.int64)  # drafts behind them, 0 once verified

    def begin(self, slot: int, known: Integers) -> None:
        """A sequence takes the slot."""
        self.tokens[slot, : len(known)] = known
        self.lengths[slot], self.drafted[slot] = len(known), 0

    def move(self, source: int, target: int) -> None:
        """The sequence in one slot moves to another."""
        for array in (self.tokens, self.lengths, self.drafted):
            array[target] = array[source]

    def window(self, slots: Integers, starts: Integers, width: int) -> Tensor:
        """``width`` tokens of each slot from its start on; shape [n, width]."""
        return torch.from_numpy(self.tokens[slots[:, None], starts[:, None] + np.arange(width)])

    def drafts(self, slots: Integers, width: int) -> Integers:
        """The first ``width`` drafts of each slot; shape [n, width]."""
        drafted: Integers = self.tokens[slots[:, None], self.lengths[slots, None] + np.arange(width)]
        return drafted

    def commit(self, slots: Integers, paths: Integers, accepted: Integers, following: Integers) -> None:
        """Keep the first ``accepted`` drafts of each slot's path [n, depth] and add the token that follows them."""
        begins = self.lengths[slots, None]
        self.tokens[slots[:, None], begins + np.arange(paths.shape[1])] = self.tokens[slots[:, None], begins + paths]
        ends = self.lengths[slots] + accepted
        self.tokens[slots, ends] = following
        self.lengths[slots], self.drafted[slots] = ends + 1, 0

    def append_drafts(self, slots: Integers, drafts: Integers) -> None:
        """Write drafts [n, k] behind the known tokens."""
        self.tokens[slots[:, None], self.lengths[slots, None] + np.arange(drafts.shape[1])] = drafts
        self.drafted[slots] = drafts.shape[1]


class Stopwatch:
    """Seconds spent in parts of the current step; on CUDA the device is idle at both ends of each.

    ``target``: its passes. ``draft``: a drafter's passes and what it samples from them. ``sample``: the target's
    choice of tokens. Parts must not run inside one another: both would count the inner one's time.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.seconds = {"target": 0.0, "draft": 0.0, "sample": 0.0}

    def reset(self) -> None:
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    def now_s(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def run(self, part: str, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Call a function and book its time."""
        start_s = self.now_s()
        result = function(*arguments)
        self.seconds[part] += self.now_s() - start_s
        return result


@dataclass(frozen=True, slots=True)
class Prefills:
    """Slots whose prompt is being computed in chunks, and how far each has come."""

    slots: Integers  # [n]
    computed: Integers  # [n] tokens


@dataclass(frozen=True, slots=True)
class Proposal:
    """Drafts [n, k], node by node of the drafter's tree, and how many of each row are meant, [n].

    ``probabilities`` [n, k, vocab]: what each draft, or the first of its siblings, was drawn from; None where drafting
    was deterministic. ``trees``: parents of each row's drafts; None where all rows have the drafter's tree.
    """

    drafts: Integers
    counts: Integers
    probabilities: Tensor | None = None
    trees: list[tuple[int, ...]] | None = None


class Drafter(ABC):
    """Proposes up to k tokens for each sequence.

    ``confident``: it can tell how sure it is of each draft, and lets a judge end a chain.
    ``from_layer``: when drafts are verified, the target's layers below have run on all of them but perhaps the last.
    """

    confident: bool = False
    from_layer: int = 0

    @abstractmethod
    def propose(
        self,
        history: History,
        slots: Integers,
        draft_tokens: int,
        watch: Stopwatch,
        prefilling: Prefills,
        judge: Judge | None = None,
    ) -> Proposal:
        """Drafts for ascending ``slots``, fewer where a ``judge`` says so.

        ``prefilling`` sequences get no drafts, but a drafter with a cache may keep pace with them.
        """

    def impose(self) -> None:  # noqa: B027 - most do the same passes whoever is right
        """From now on drawn luck says which drafts are right, for the one exit or tree that its law speaks of."""

    def tree(self, draft_tokens: int) -> DraftTree:
        """The shape that so many drafts have, unless a proposal says otherwise."""
        return chain(draft_tokens)

    def lacking(self, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
        """What the target's layers below ``from_layer`` have not seen of a verify pass; asked once for each pass."""
        return list(groups)

    def riders(self, groups: Sequence[TokenGroup], max_length: int) -> list[TokenGroup]:
        """What a verify pass runs beside its groups for the drafter's own sake, behind the places of these."""
        return []

    def learn(self, choices: Integers) -> None:  # noqa: B027
        """The target's most likely tokens after the riders' wanted rows, if any rode."""

    def move(self, source: int, target: int, length: int) -> None:  # noqa: B027 - nothing to do without a cache
        """The sequence in one slot moves to another; ``length`` of its places count."""

    def forget(self, slot: int) -> None:  # noqa: B027
        """A new sequence takes the slot."""

    def resume(self, slot: int, length: int) -> None:  # noqa: B027
        """Take the first ``length`` places of the slot for computed."""
