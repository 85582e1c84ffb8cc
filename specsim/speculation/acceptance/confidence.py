"""The joint law of a draft's confidence and its acceptance, without which a confidence stop cannot be judged.

A stop looks at the draft: the rounds that it lets run on are those that would have been accepted anyway. Rates counted
under one threshold therefore say nothing about another; calibration P(accepted | confidence) does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from specsim.arrays import Floats, Integers
from specsim.speculation.acceptance.latent import span_seeds
from specsim.speculation.acceptance.law import AcceptanceLaw, leading_right
from specsim.speculation.acceptance.levels import RoundStatistics, round_statistics
from specsim.validated import Share, Validated


class ConfidenceLevel(Validated):
    """Drafts of one confidence: their share, and how often they are accepted (None: as often as they claim)."""

    smallest: ClassVar[float] = 0.0

    confidence: Share
    weight: PositiveFloat
    rate: Share | None = None


@dataclass(frozen=True, slots=True)
class StoppedRound:
    """Rounds under a confidence stop."""

    tokens: float  # committed on average, bonus token included
    proposed: Floats  # [k]: P(at least i tokens are proposed to the target)
    computed: Floats  # [k]: P(at least i draft tokens are computed), the one that ended the draft included

    @property
    def drafted(self) -> float:
        """Mean tokens proposed."""
        return float(self.proposed.sum())

    @property
    def passes(self) -> float:
        """Mean draft tokens computed."""
        return float(self.computed.sum())


class ConfidenceAcceptance(AcceptanceLaw):
    """Confidence of the draft for each output position, and acceptance given it.

    A position has the confidence of the one before with probability ``persistence``, else a new one by weight. Drafts
    after a wrong one are taken to look as confident as others: they only cost time. (EAGLE-2 reports calibration:
    confidence below 0.05 accepted 4 %, above 0.95 accepted 98 %; arXiv 2406.16858.)
    """

    kind: Literal["confidence"] = "confidence"
    levels: tuple[ConfidenceLevel, ...] = Field(min_length=1, max_length=256)
    persistence: float = Field(0.0, ge=0, lt=1)

    track_fields: ClassVar[int] = 1

    def survival(self, draft_tokens: int) -> Floats:
        return self._statistics(draft_tokens, None, False).survival

    def stopped(
        self, draft_tokens: int, threshold: float, *, keep_last: bool = False, foreseen: bool = False
    ) -> StoppedRound:
        """Rounds that stop drafting at the first confidence below ``threshold``, and after ``draft_tokens`` anyway.

        ``keep_last``: the token that fell below is still proposed (Hugging Face); else it is dropped (Kangaroo).
        ``foreseen``: it is never computed, because a head of its own says beforehand that drafting ends (HAMburger).
        """
        stops = np.array([level.confidence < threshold for level in self.levels], dtype=np.float64)
        found = self._statistics(draft_tokens, stops, keep_last)
        computed = found.proposed if foreseen else found.computed
        return StoppedRound(1.0 + float(found.survival.sum()), found.proposed, computed)

    def _statistics(self, draft_tokens: int, stops: Floats | None, keep_last: bool) -> RoundStatistics:
        return round_statistics(
            self._rates(), self._weights(), self.persistence, draft_tokens, stops=stops, keep_last=keep_last
        )

    def _rates(self) -> Floats:
        return np.array([level.confidence if level.rate is None else level.rate for level in self.levels])

    def _weights(self) -> Floats:
        weights = np.array([level.weight for level in self.levels])
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    def tables(self) -> tuple[Floats, Floats]:
        """Rate and confidence of each level."""
        return self._rates(), np.array([level.confidence for level in self.levels], dtype=np.float64)

    def confidences(self, track: Floats) -> Floats:
        """Confidence of each draft from a track, [sequences, width]."""
        return np.asarray(self.tables()[1][track[:, :, 0].astype(np.int64)], dtype=np.float64)

    def rates(self, track: Floats) -> Floats:
        """How often each draft is accepted, from a track, [sequences, width]."""
        return np.asarray(self.tables()[0][track[:, :, 0].astype(np.int64)], dtype=np.float64)

    def level_of(self, seed: int, request_ids: Integers, tokens: int) -> NDArray[np.uint8]:
        """Index into ``levels`` of each output position, [requests, tokens]."""
        from specsim.speculation.acceptance.compiled_spans import draw_levels  # numba comes with it

        return draw_levels(request_ids, tokens, self.persistence, span_seeds(seed), self._weights())

    def track(self, seed: int, request_ids: Integers, tokens: int) -> Floats:
        """Indices into ``levels``, [requests, tokens, 1]."""
        return self.level_of(seed, request_ids, tokens)[:, :, None].astype(np.float64)

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        return leading_right(seed, request_ids, positions, draft_tokens, self.rates(track))
