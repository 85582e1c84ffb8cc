"""What a pass computes, and its plan: all that does not depend on a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from specsim.arrays import Integers


@dataclass(frozen=True, slots=True)
class Branches:
    """How a group's tokens stand in a tree instead of one behind the other; alike for all its sequences.

    The tree begins ``before`` places before the group's first token. Everything before the tree is seen.
    """

    before: int
    ahead: Integers  # [width], each token's position beyond that of the tree's first place
    seen: NDArray[np.bool_]  # [width, before + width], which places of the tree each token attends to


@dataclass(slots=True)
class TokenGroup:
    """Sequences of equal width in one pass. The last ``logit_rows`` positions of each get logits."""

    slots: Integers  # [n], ascending where their caches should be read in place
    tokens: Tensor  # [n, width]
    starts: Integers  # [n], place of each sequence's first new token
    logit_rows: int
    branches: Branches | None = None
    carried: Tensor | None = None  # [n, width, values], what a pass may need of each token beside its number

    @property
    def width(self) -> int:
        return self.tokens.shape[1]

    def places(self) -> Integers:
        """[n, width]"""
        places: Integers = self.starts[:, None] + np.arange(self.width)
        return places

    def positions(self) -> Integers:
        """[n, width]"""
        if self.branches is None:
            return self.places()
        positions: Integers = (self.starts - self.branches.before)[:, None] + self.branches.ahead
        return positions


@dataclass(slots=True)
class AttentionCall:
    """One attention call: tokens [first, last) of the pass, whose caches are one slice (or index) of slots."""

    first: int
    last: int
    sequences: int
    slots: slice | Tensor
    keys: int
    mask: Tensor | None


@dataclass(slots=True)
class PassPlan:
    """A pass ready to run: everything that does not depend on a layer, built once and shared by all."""

    tokens: Tensor  # [tokens]
    cos: Tensor  # [tokens, 1, head_dim]
    sin: Tensor
    rows: Tensor  # [tokens, kv_heads]
    runs: list[AttentionCall]
    wanted: Tensor | None  # rows of logits; None: every token
    states: Tensor | None  # [tokens], rows of kept states; None: none are kept
    carried: Tensor | None = None  # [tokens, values]
    spare: int = 0  # tokens at the end that no run has, there for the size of the GEMMs


Compute = Callable[[PassPlan], tuple[Tensor, ...]]
