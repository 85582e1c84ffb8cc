"""Fields that computed and adaptive policies share: which k they may choose, and how often they may change it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt, PositiveInt, field_validator

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceLaw, RecallAcceptance
from specsim.speculation.policy.deciders import ByBatch, at_most, held, limited
from specsim.speculation.policy.protocol import Decider, Setting
from specsim.validated import Validated

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


class PolicyData(Validated, ABC):
    """A policy's parameters; immutable and without state."""

    @property
    @abstractmethod
    def longest(self) -> int | None:
        """The longest draft it ever asks for; None: the scenario's maximum."""

    @property
    @abstractmethod
    def named(self) -> tuple[int, ...]:
        """Draft lengths that its text names, ascending."""

    @abstractmethod
    def start(self, setting: Setting) -> Decider:
        """A fresh decider. Raises InvalidInput where ``check`` does."""

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        """Raises InvalidInput where a scenario lacks what the policy needs.

        ``acceptance``: what the run draws; ``choices``: draft lengths that the program can run.
        """
        self.check_lengths(choices)

    def check_lengths(self, choices: Sequence[int]) -> None:
        """Raises InvalidInput for a draft length that is not among ``choices``."""
        for k in self.named:
            if k not in choices:
                raise InvalidInput(
                    f"the policy drafts {k} tokens and the program can run {_listed(choices)}; "
                    "choose among these or raise max_draft_tokens"
                )


class ChoosingPolicy(PolicyData):
    """A policy that chooses among draft lengths.

    ``choices``: draft lengths to choose from, 0 always among them; None: all that the program can run. Engines capture
    graphs for some lengths only, and any other leaves the captured set (vLLM issue 49548: a loss of about 14 %).
    ``stay_captured``: never so many that batch·(k + 1) tokens exceed the largest captured graph, where a step falls
    to eager launches. ``hold_steps``: steps that k stays once it has changed.
    """

    choices: tuple[NonNegativeInt, ...] | None = None
    stay_captured: bool = False
    hold_steps: PositiveInt = 1

    @field_validator("choices")
    @classmethod
    def _with_zero(cls, choices: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if choices is None else tuple(sorted({0, *choices}))

    @property
    def longest(self) -> int | None:
        return None if self.choices is None else self.choices[-1]

    @property
    def named(self) -> tuple[int, ...]:
        return self.choices or ()

    def start(self, setting: Setting) -> Decider:
        allowed = self.allowed(setting)
        decider, graphs = self.decide(setting, allowed), setting.graph_sizes
        if self.stay_captured and graphs:
            batches = range(setting.max_num_seqs + 1)
            decider = limited(decider, [at_most(allowed, graphs[-1] // max(batch, 1) - 1) for batch in batches])
        return held(decider, self.hold_steps)

    def allowed(self, setting: Setting) -> tuple[int, ...]:
        """Ascending draft lengths to choose from."""
        self.check_lengths(setting.choices)
        return setting.choices if self.choices is None else self.choices

    @abstractmethod
    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> ByBatch | Learning:
        """The decider proper, whose k are all ``allowed``, before they are limited and held."""


def _listed(choices: Sequence[int]) -> str:
    """0, 1, .. as a range where they are one."""
    whole = list(choices) == list(range(len(choices)))
    return f"0 to {choices[-1]}" if whole else ", ".join(map(str, choices))


def check_counts_in_a_row(acceptance: AcceptanceLaw, kind: str) -> None:
    """Raises InvalidInput where k counts the nodes of a tree, whose accepted depth says nothing about a longer k."""
    if isinstance(acceptance, RecallAcceptance) and acceptance.tree != "chain":
        raise InvalidInput(
            f"policy {kind!r} learns from drafts accepted in a row and k counts a tree's nodes; take kind profiled"
        )
