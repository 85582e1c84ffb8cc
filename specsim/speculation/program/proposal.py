"""What is proposed to the target: how many tokens in which shape, and how wide the passes are that draft them.

k counts drafted tokens verified beside a sequence's last one, so that the verify pass is k + 1 wide: the length of a
chain, the nodes of a tree.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from specsim.validated import Validated


class _Proposal(Validated):
    tree: ClassVar[bool] = True  # several candidates a position: k nodes are fewer than k in a row

    def sizes(self, most: int) -> tuple[int, ...]:
        """Draft lengths of 1 to ``most`` that make sense, ascending."""
        raise NotImplementedError

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        """Tokens a sequence of each sequential pass that drafts so many."""
        raise NotImplementedError


class Chain(_Proposal):
    """One candidate a position, of any length."""

    kind: Literal["chain"] = "chain"
    tree: ClassVar[bool] = False

    def sizes(self, most: int) -> tuple[int, ...]:
        return tuple(range(1, most + 1))

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        return (1,) * draft_tokens


class Copy(Chain):
    """Tokens copied from a text that went before; a round without a match proposes nothing."""

    kind: Literal["copy"] = "copy"  # type: ignore[assignment]


class _Budgeted(_Proposal):
    """Trees of one or a few sizes."""

    budgets: tuple[PositiveInt, ...] = ()

    @property
    def largest(self) -> int:
        raise NotImplementedError

    @model_validator(mode="after")
    def _ascending(self) -> _Budgeted:
        if list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets {list(self.budgets)} do not ascend; sort them and name each once")
        if self.budgets and self.budgets[-1] > self.largest:
            raise ValueError(f"budget {self.budgets[-1]} exceeds the proposal's {self.largest} nodes; lower it")
        return self

    def sizes(self, most: int) -> tuple[int, ...]:
        return tuple(size for size in self.budgets or (self.largest,) if size <= most)


class StaticTree(_Budgeted):
    """The same tree every round; ``nodes_per_depth`` candidates for the next token, the one after, and so on.

    A pass expands the nodes of one depth that have children: at most all of them, at most one a child.
    """

    kind: Literal["static_tree"] = "static_tree"
    nodes_per_depth: tuple[PositiveInt, ...] = Field(min_length=1)

    @property
    def largest(self) -> int:
        return sum(self.nodes_per_depth)

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        inner = zip(self.nodes_per_depth, self.nodes_per_depth[1:], strict=False)
        widths = (1, *(min(here, below) for here, below in inner))
        return tuple(min(width, draft_tokens) for width in widths[:draft_tokens])


class DynamicTree(_Budgeted):
    """``depth`` passes, each expanding the ``top_k`` most probable nodes; the best ``nodes`` of all are verified."""

    kind: Literal["dynamic_tree"] = "dynamic_tree"
    nodes: PositiveInt
    depth: PositiveInt
    top_k: PositiveInt

    @property
    def largest(self) -> int:
        return self.nodes

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        widths = (1, *(self.top_k for _ in range(self.depth - 1)))
        return tuple(min(width, draft_tokens) for width in widths[:draft_tokens])


class Dag(DynamicTree):
    """A dynamic tree whose equal nodes are merged: a share ``merge_rate`` of them is not drafted again.

    All ``nodes`` of the unrolled tree are verified (GSD, arXiv 2407.16207).
    """

    kind: Literal["dag"] = "dag"  # type: ignore[assignment]
    merge_rate: float = Field(0.0, ge=0, lt=1)

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        return tuple(max(1, round(width * (1 - self.merge_rate))) for width in super().pass_widths(draft_tokens))


class Window(_Proposal):
    """Lookahead decoding (arXiv 2402.02057): ``guesses`` candidate n-grams are verified, and the target pass also runs
    a Jacobi window, ``window`` wide, that makes the next ones. Tokens a sequence: (ngram - 1)·(window + guesses).
    """

    kind: Literal["window"] = "window"
    ngram: int = Field(ge=2)
    window: PositiveInt
    guesses: PositiveInt

    @property
    def extra_width(self) -> int:
        """Tokens that the target pass takes beside the last one and its drafts."""
        return (self.ngram - 1) * self.window - 1

    def sizes(self, most: int) -> tuple[int, ...]:
        size = (self.ngram - 1) * self.guesses
        return (size,) if size <= most else ()

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        return ()


class NoProposal(_Proposal):
    """Nothing is drafted."""

    kind: Literal["none"] = "none"
    tree: ClassVar[bool] = False

    def sizes(self, most: int) -> tuple[int, ...]:
        return ()

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        return ()


class CopyTree(_Budgeted):
    """Continuations found in a text store, merged into a tree of up to ``nodes``."""

    kind: Literal["copy_tree"] = "copy_tree"
    nodes: PositiveInt

    @property
    def largest(self) -> int:
        return self.nodes

    def pass_widths(self, draft_tokens: int) -> tuple[int, ...]:
        return ()


def _named(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


ProposalSpec = Annotated[
    Annotated[
        Chain | Copy | CopyTree | StaticTree | DynamicTree | Dag | Window | NoProposal, Field(discriminator="kind")
    ],
    BeforeValidator(_named),
]
