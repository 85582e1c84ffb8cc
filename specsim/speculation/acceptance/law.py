"""What every acceptance law answers: how many drafts a round gets right, on average and drawn.

``survival`` r_1..r_k and ``expected_tokens`` are over rounds, as pooled counters count them, when every round may
draft k tokens. A draw is a pure function of (seed, request, output position): what a law fixes about a request before
any round is known is its **track**, one row of numbers for each output position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, overload

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.speculation.uniform import uniform
from specsim.validated import Validated


class AcceptanceLaw(Validated, ABC):
    """A law's parameters; immutable and without state."""

    smallest: ClassVar[float] = 0.0

    track_fields: ClassVar[int] = 0

    @abstractmethod
    def survival(self, draft_tokens: int) -> Floats:
        """r_1..r_k: P(the first i drafts of a round are all accepted), shape [draft_tokens]."""

    @abstractmethod
    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        """Accepted drafts of rounds that drafted ``draft_tokens``, arrays of shape [sequences].

        ``positions`` is the output position of each first draft; ``track`` has shape [sequences, width, fields], from
        that position on, width being the longest draft.
        """

    def track(self, seed: int, request_ids: Integers, tokens: int) -> Floats:
        """The tracks of requests over their first ``tokens`` output positions, [requests, tokens, fields]."""
        return np.zeros((len(request_ids), tokens, self.track_fields))

    def conditional_rates(self, draft_tokens: int) -> Floats:
        """a_1..a_k, a_i = r_i / r_(i-1) and 0 where no round gets that far, shape [draft_tokens]."""
        survival = self.survival(draft_tokens)
        before = np.concatenate(([1.0], survival[:-1]))[:draft_tokens]
        return np.divide(survival, before, out=np.zeros(draft_tokens), where=before > 0)

    @overload
    def expected_tokens(self, draft_tokens: int) -> float: ...

    @overload
    def expected_tokens(self, draft_tokens: Integers) -> Floats: ...

    def expected_tokens(self, draft_tokens: int | Integers) -> float | Floats:
        """Mean tokens a round commits, 1 + Σ r_i, for one k or an array of them, any shape.

        Constant rate 0.8 and k = 4: (1 - 0.8^5)/0.2 = 3.3616.
        """
        if isinstance(draft_tokens, int):
            return 1.0 + float(self.survival(draft_tokens).sum())
        lengths, back = np.unique(draft_tokens, return_inverse=True)
        values = np.array([1.0 + self.survival(int(k)).sum() for k in lengths])
        return np.asarray(values[back].reshape(draft_tokens.shape), dtype=np.float64)

    def expected_drafted(self, draft_tokens: int) -> float:
        """Mean tokens a round proposes when it may propose ``draft_tokens``; fewer where nothing can be proposed."""
        return float(draft_tokens)

    def request_spread(self, draft_tokens: int) -> float:
        """One standard deviation of the log of accepted tokens from one request to another; 0 where nothing tells."""
        return 0.0

    def sampling_spread(self, draft_tokens: int) -> float:
        """The same of the law's own mean, for it was counted on some requests and is asked about others."""
        return 0.0

    def proposed(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        """Tokens each round proposes when it may propose ``draft_tokens``; arguments as for ``draw``."""
        return draft_tokens

    def expected_rounds(self, output_tokens: float, draft_tokens: int) -> float:
        """Mean rounds of a request whose first token comes from the prefill: (N - 1 + (E[X²]/E[X] - 1)/2) / E[X].

        N may be a mean: rounds are linear in it. The second term is the mean overshoot of the last round (renewal
        theory, tokens being whole numbers); exact for long outputs and independent rounds.
        Rate 0.8, k = 4, N = 33: (32 + 1.56)/3.36 = 9.98, while 32/3.36 = 9.52.
        """
        if output_tokens <= 1:
            return 0.0
        survival = self.survival(draft_tokens)
        mean = 1.0 + float(survival.sum())
        square = 2.0 * mean - 1.0 + float(((2.0 * np.arange(1, draft_tokens + 1) - 1.0) * survival).sum())
        return (output_tokens - 1 + (square / mean - 1.0) / 2.0) / mean


class PositionLaw(AcceptanceLaw):
    """Draft i is accepted with probability a_i given the drafts before it, anew in every round."""

    @abstractmethod
    def conditional_rates(self, draft_tokens: int) -> Floats:
        """a_1..a_k, shape [draft_tokens]."""

    def survival(self, draft_tokens: int) -> Floats:
        return np.asarray(np.cumprod(self.conditional_rates(draft_tokens)), dtype=np.float64)

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        """A draft for output position p is right when u(seed, request, p) < a_i."""
        return leading_right(seed, request_ids, positions, draft_tokens, self.conditional_rates(track.shape[1]))


def leading_right(
    seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, rates: Floats
) -> Integers:
    """Drafts right before the first wrong one; ``rates`` broadcasts to [sequences, width]."""
    steps = np.arange(rates.shape[-1])
    uniforms = uniform(seed, request_ids[:, None], positions[:, None] + steps)
    right = (uniforms < rates) & (steps < draft_tokens[:, None])
    return np.asarray(np.cumprod(right, axis=1).sum(axis=1), dtype=np.int64)
