"""Drafting that stops where the drafter itself is unsure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceLaw, ConfidenceAcceptance
from specsim.speculation.policy.base import ChoosingPolicy
from specsim.speculation.policy.protocol import Setting
from specsim.validated import Share, Validated

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


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

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Learning:
        from specsim.speculation.policy.rules.confidence import confidence  # numba comes with it

        rule = self.model_dump(include={"threshold", "keep_last", "foreseen"})
        adapt = {} if self.adapt is None else self.adapt.model_dump()
        return confidence(longest=allowed[-1], adapts=self.adapt is not None, **rule, **adapt)

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_has_confidences(acceptance, self.kind)


def check_has_confidences(acceptance: AcceptanceLaw, kind: str) -> None:
    """Raises InvalidInput for a law that gives drafts no confidence."""
    if not isinstance(acceptance, ConfidenceAcceptance):
        raise InvalidInput(
            f"policy {kind!r} looks at confidences and acceptance {getattr(acceptance, 'kind', '?')!r} has none; "
            "give speculation.acceptance of kind confidence"
        )
