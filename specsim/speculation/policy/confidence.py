"""Drafting that stops where the drafter itself is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat

from specsim.arrays import Floats, Integers
from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceLaw, ConfidenceAcceptance
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.deciders import DeciderBase, longest_of
from specsim.speculation.policy.protocol import Decider, Drafts, Rounds, Setting
from specsim.validated import Validated

Share = Annotated[float, Field(ge=0, le=1)]


class ThresholdAdaptation(Validated):
    """Moves the threshold up while too few drafts are accepted, down otherwise.

    Self-speculative decoding (Draft & Verify, arXiv 2309.08168, section 3.3): a moving average of the acceptance rate,
    the newest round weighing 1 - ``memory``, against ``target``; the threshold keeps ``smoothing`` of itself and takes
    the rest from itself plus or minus ``step``.
    """

    target: Share = 0.9
    step: NonNegativeFloat = 0.01
    smoothing: Share = 0.9
    memory: Share = 0.5


class ConfidencePolicy(ChoosingPolicy):
    """Stop drafting a sequence at its first draft with a confidence below ``threshold``, at the latest after k.

    Kangaroo 0.6 (arXiv 2404.18911), SWIFT 0.8 (arXiv 2410.06916), Hugging Face 0.4. ``keep_last``: the token that fell
    below is still proposed (Hugging Face); else it was computed for nothing, unless the stop is ``foreseen`` (a head
    says beforehand that drafting ends: HAMburger, arXiv 2505.20438). The drafter runs as long as one sequence of the
    batch goes on. ``adapt``: move the threshold; None keeps it.
    """

    kind: Literal["confidence"] = "confidence"
    threshold: Share
    keep_last: bool = False
    foreseen: bool = False
    adapt: ThresholdAdaptation | None = None

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Decider:
        return _Stop(self, allowed[-1])

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_has_confidences(acceptance, self.kind)


class _Stop(DeciderBase):
    def __init__(self, policy: ConfidencePolicy, longest: int) -> None:
        self._policy, self._longest = policy, longest
        self._threshold = policy.threshold
        self._accepted: float | None = None  # moving average of the acceptance rate

    @property
    def uniform(self) -> bool:
        return False

    @property
    def needs_confidences(self) -> bool:
        return True

    def observe(self, rounds: Rounds) -> None:
        adapt = self._policy.adapt
        if adapt is None:
            return
        for drafted, accepted in zip(rounds.drafted.tolist(), rounds.accepted.tolist(), strict=True):
            rate = accepted / drafted
            before = rate if self._accepted is None else self._accepted
            self._accepted = adapt.memory * before + (1.0 - adapt.memory) * rate
            moved = self._threshold + (adapt.step if self._accepted < adapt.target else -adapt.step)
            blended = adapt.smoothing * self._threshold + (1.0 - adapt.smoothing) * moved
            self._threshold = min(1.0, max(0.0, blended))

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        return self._longest

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        confidences = required(confidences)[:, :draft_tokens]
        sure = np.cumprod(confidences >= self._threshold, axis=1).sum(axis=1)  # drafts before the first unsure one
        computed = np.minimum(sure + 1, draft_tokens)
        lengths = computed if self._policy.keep_last else sure
        computed = lengths if self._policy.foreseen else computed
        return Drafts(np.asarray(lengths, dtype=np.int64), longest_of(computed, draft_tokens))


def check_has_confidences(acceptance: AcceptanceLaw, kind: str) -> None:
    """Raises InvalidInput for a law that gives drafts no confidence."""
    if not isinstance(acceptance, ConfidenceAcceptance):
        raise InvalidInput(
            f"policy {kind!r} looks at confidences and acceptance {getattr(acceptance, 'kind', '?')!r} has none; "
            "give speculation.acceptance of kind confidence"
        )


def required(confidences: Floats | None) -> Floats:
    """The confidences; raises InvalidInput without any."""
    if confidences is None:
        raise InvalidInput(
            "this policy looks at confidences and nothing gives any; impose acceptance of kind confidence"
        )
    return confidences
