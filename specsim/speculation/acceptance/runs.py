"""Copy drafters: the text alternates between runs that can be copied and tokens that cannot.

Whether a token can be copied does not depend on k, but how many rounds a run is cut into does: a long run takes few
rounds at large k, so fewer rounds start inside one. r_1 then falls as k grows, and rates measured at one k are wrong
at another. A run law holds the run instead: after each break a run of L tokens follows, L = 0 for no run at all.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from specsim.arrays import Floats, Integers
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.uniform import uniform
from specsim.validated import Share, Validated

NEGLIGIBLE = 1e-15  # probability of a run longer than any that is counted
FALSE_MATCH_STREAM = 1
RENEWED = 4096  # output tokens


class GeometricRuns(Validated):
    """A run goes on after each token with the same probability: P(L ≥ l | L ≥ 1) = continue_rate^(l-1)."""

    smallest: ClassVar[float] = 0.0

    kind: Literal["geometric"] = "geometric"
    continue_rate: float = Field(ge=0, lt=1)

    def at_least(self, lengths: Integers) -> Floats:
        """P(L ≥ l | L ≥ 1) for l ≥ 1."""
        return np.asarray(self.continue_rate ** (lengths - 1.0), dtype=np.float64)

    @property
    def longest(self) -> int:
        rate = self.continue_rate
        return 1 if rate == 0 else 1 + math.ceil(math.log(NEGLIGIBLE) / math.log(rate))


class EmpiricalRuns(Validated):
    """``weights[l - 1]``: how often a run of l tokens was seen; any positive scale."""

    smallest: ClassVar[float] = 0.0

    kind: Literal["empirical"] = "empirical"
    weights: tuple[NonNegativeFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some(self) -> EmpiricalRuns:
        if sum(self.weights) <= 0:
            raise ValueError("all run-length weights are 0; at least one must be positive")
        return self

    def at_least(self, lengths: Integers) -> Floats:
        """P(L ≥ l | L ≥ 1) for l ≥ 1."""
        tail = np.cumsum(np.array(self.weights)[::-1])[::-1]
        inside = np.minimum(lengths, self.longest) - 1
        return np.where(lengths <= self.longest, tail[inside] / tail[0], 0.0)

    @property
    def longest(self) -> int:
        return len(self.weights)


RunLengths = Annotated[GeometricRuns | EmpiricalRuns, Field(discriminator="kind")]


class HurdleAcceptance(AcceptanceLaw):
    """A hit, then a run: prompt look-up, LLMA, suffix decoding, REST's chain.

    ``hit_rate``: P(a run follows a break). ``match_factor``: suffix decoding proposes at most this many times the
    tokens matched so far (None: always k); a run starts with ``min_match`` tokens matched. ``false_match_rate``: P(a
    wrong proposal where no run follows); with no proposal such a round still commits its one token.
    """

    kind: Literal["hurdle"] = "hurdle"
    hit_rate: Share
    runs: RunLengths
    match_factor: PositiveFloat | None = None
    min_match: PositiveInt = 1
    false_match_rate: Share = 0.0

    track_fields: ClassVar[int] = 2  # tokens of the run from here on, tokens of it before

    def run_at_least(self, lengths: Integers) -> Floats:
        """P(L ≥ l), l ≥ 0: what an unlimited round started after a break accepts."""
        return np.where(lengths <= 0, 1.0, self.hit_rate * self.runs.at_least(np.maximum(lengths, 1)))

    def survival(self, draft_tokens: int) -> Floats:
        """Round m of a run starts after t_m of its tokens, t_(m+1) = t_m + d_m + 1, if L ≥ t_m.

        So r_i = Σ_m [i ≤ d_m]·P(L ≥ t_m + i) / Σ_m P(L ≥ t_m). For geometric runs and a fixed k this is
        r_1 = h / (1 - c^(k+1) + h·c^k): h = 0.1, c = 0.95 gives 0.52 at k = 1 and 0.29 at k = 5.
        """
        starts, limits = self._schedule(draft_tokens)
        steps = np.arange(1, draft_tokens + 1)
        reached = self.run_at_least(starts[:, None] + steps) * (steps <= limits[:, None])
        return np.asarray(reached.sum(axis=0) / self.run_at_least(starts).sum(), dtype=np.float64)

    def expected_drafted(self, draft_tokens: int) -> float:
        starts, limits = self._schedule(draft_tokens)
        return float((self._proposing(starts) * limits).sum() / self.run_at_least(starts).sum())

    def drafting_share(self, draft_tokens: int) -> float:
        """Share of rounds that propose anything: vLLM counts only these, so its AL is 1 + (AL - 1) / share."""
        starts, limits = self._schedule(draft_tokens)
        return float((self._proposing(starts) * (limits > 0)).sum() / self.run_at_least(starts).sum())

    def _proposing(self, starts: Integers) -> Floats:
        """P(round m is reached and finds a match), which inside a run it does."""
        reached = self.run_at_least(starts)
        hit = self.run_at_least(np.array([1]))[0]
        reached[0] = hit + (1.0 - hit) * self.false_match_rate
        return reached

    def expected_rounds(self, output_tokens: float, draft_tokens: int) -> float:
        """Of a request, whose output begins after a break: Σ_p P(a break before p)·Σ_m [p + t_m < N - 1]·P(L ≥ t_m).

        Rounds of one run are long together, and an output begins outside of any: with hit rate 0.1 and runs that go on
        with 0.95, 65 tokens at k = 5 take 31.1 rounds, where independent ones of the same mean take 28.3. Beyond
        ``RENEWED`` tokens breaks are as likely everywhere.
        """
        tokens = output_tokens - 1.0
        if tokens <= 0:
            return 0.0
        low = min(int(tokens), RENEWED)
        starts, _ = self._schedule(draft_tokens)
        reached = np.zeros(max(low, int(starts[-1])) + 2)
        reached[starts] = self.run_at_least(starts)
        rounds = np.convolve(self._breaks(low + 1), reached[: low + 1])[: low + 1]  # that start at each token
        further = rounds[low] if low < RENEWED else 1.0 / self.expected_tokens(draft_tokens)
        return float(rounds[:low].sum() + (tokens - low) * further)

    def _breaks(self, tokens: int) -> Floats:
        """P(a run begins at a token), for as many: the renewals of runs of L tokens and the one that ends them."""
        lengths = np.arange(min(tokens, self.runs.longest) + 2)
        ends = -np.diff(self.run_at_least(lengths))  # P(L = 0), P(L = 1), ...
        found = np.zeros(tokens)
        found[0] = 1.0
        for place in range(1, tokens):
            before = found[max(0, place - len(ends)) : place][::-1]
            found[place] = before @ ends[: len(before)]
        return found

    def _schedule(self, draft_tokens: int) -> tuple[Integers, Integers]:
        """t_m and d_m until no run is as long."""
        if self.match_factor is None:
            starts = np.arange(0, self.runs.longest + 1, draft_tokens + 1)
            return starts, np.full(len(starts), draft_tokens)
        start, found = 0, []
        while start <= self.runs.longest:
            limit = min(draft_tokens, int(self.match_factor * (self.min_match + start)))
            found.append((start, limit))
            start += limit + 1
        table = np.array(found, dtype=np.int64)
        return table[:, 0], table[:, 1]

    def track(self, seed: int, request_ids: Integers, tokens: int) -> Floats:
        """Run c of a request takes its length from u(seed, request, c), however the rounds cut it.

        Run 0 begins at output position 1: position 0 comes from the prefill and counts as a break.
        """
        u = uniform(seed, request_ids[:, None], np.arange(tokens)[None, :])
        breaks = np.cumsum(self._length(u) + 1, axis=1)  # the position of the token that ends run c
        here = np.arange(tokens)
        is_break = np.zeros((len(request_ids), tokens), dtype=bool)
        is_break[:, 0] = True
        row, column = np.nonzero(breaks < tokens)
        is_break[row, breaks[row, column]] = True
        beyond = np.where(breaks >= tokens, breaks, np.iinfo(np.int64).max).min(axis=1)  # the last run's end
        upcoming = np.where(is_break, here, beyond[:, None])
        upcoming = np.minimum.accumulate(upcoming[:, ::-1], axis=1)[:, ::-1]
        passed = np.maximum.accumulate(np.where(is_break, here, 0), axis=1)
        passed = np.concatenate((np.full((len(request_ids), 1), -1), passed[:, :-1]), axis=1)
        return np.stack((upcoming - here, here - passed - 1), axis=2).astype(np.float64)

    def _length(self, u: Floats) -> Integers:
        """The inverse of P(L ≥ l): the number of l ≥ 1 with u < P(L ≥ l)."""
        if isinstance(self.runs, GeometricRuns):
            rate = self.runs.continue_rate
            inside = np.maximum(u, np.finfo(np.float64).tiny) / max(self.hit_rate, np.finfo(np.float64).tiny)
            more = np.floor(np.log(inside) / math.log(rate)) if rate > 0 else np.zeros_like(u)
            return np.where(u < self.hit_rate, 1 + np.maximum(more, 0), 0).astype(np.int64)
        tail = self.run_at_least(np.arange(1, self.runs.longest + 1))
        return np.asarray(np.searchsorted(-tail, -u, side="left"), dtype=np.int64)

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        run = track[:, 0, 0].astype(np.int64)
        return np.minimum(run, self._limit(draft_tokens, track))

    def proposed(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        wrong = uniform(seed, request_ids, positions, stream=FALSE_MATCH_STREAM) < self.false_match_rate
        matched = (track[:, 0].sum(axis=1) > 0) | wrong
        return np.where(matched, self._limit(draft_tokens, track), 0)

    def _limit(self, draft_tokens: Integers, track: Floats) -> Integers:
        if self.match_factor is None:
            return draft_tokens
        matched = np.floor(self.match_factor * (self.min_match + track[:, 0, 1])).astype(np.int64)
        return np.minimum(draft_tokens, matched)
