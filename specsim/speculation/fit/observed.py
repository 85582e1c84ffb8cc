"""Rounds as a log has them: pooled, request by request, or in order; cut into parts that a law is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, xlogy

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts, pooled
from specsim.speculation.acceptance import RoundHistory
from specsim.speculation.fit.estimate import normal_quantile
from specsim.speculation.fit.rates import CountTables, tables

POOLED_PARTS = 20
# Standard errors of pooled counters, over those of independent rounds: requests of one drafter differ 1 / 0.42 times
# as much as one rate for all lets them (validation/studies/acceptance, spread ratio of the constant law).
UNSEEN_SPREAD = 2.4


@dataclass(frozen=True, slots=True)
class Observed:
    """Units are requests; of pooled counters, parts of their rounds drawn at random.

    ``tried`` and ``right``: drafts by unit and draft position, [units, k]. ``drafting`` and ``silent``: rounds with a
    proposal and without, [units]. ``histories``: each request's rounds in order, or empty.
    """

    counts: tuple[AcceptanceCounts, ...]
    tried: Floats
    right: Floats
    drafting: Floats
    silent: Floats
    histories: tuple[RoundHistory, ...] = ()
    pooled: bool = False

    @property
    def longest(self) -> int:
        """The longest draft of any round."""
        return int(self.tried.shape[1])

    def records(self) -> CountTables:
        """For fits that count requests as the independent observations; pooled rounds count one by one."""
        return pooled(self.counts) if self.pooled else self.counts

    def honest(self, level: float) -> float:
        """The level at which the error of independent rounds gives an interval of ``level``, the spread of requests
        that pooled counters do not show allowed for.
        """
        return float(2 * ndtr(UNSEEN_SPREAD * normal_quantile(level)) - 1) if self.pooled else level

    def part(self, chosen: NDArray[np.int64]) -> Observed:
        """Some of the units."""
        histories = tuple(self.histories[i] for i in chosen.tolist()) if self.histories else ()
        return Observed(
            tuple(self.counts[i] for i in chosen.tolist()),
            self.tried[chosen],
            self.right[chosen],
            self.drafting[chosen],
            self.silent[chosen],
            histories,
            self.pooled,
        )

    def proposing_share(self) -> float:
        """Share of rounds with a proposal."""
        return float(self.drafting.sum() / (self.drafting.sum() + self.silent.sum()))

    def proposing_likelihood(self, share: float) -> Floats:
        """Log-likelihood of which rounds proposed, [units]; 0 where all did."""
        if not self.silent.any() and share == 1.0:
            return np.zeros(len(self.silent))
        return np.asarray(xlogy(self.drafting, share) + xlogy(self.silent, max(1 - share, 1e-9)), dtype=np.float64)

    def requests_of(self, tokens: int) -> int:
        """The first requests that committed so many tokens together, at least two."""
        committed = np.cumsum([one.accepted.sum() + len(one.accepted) for one in self.histories])
        return max(2, int(np.searchsorted(committed, tokens, side="right")))


def observed(
    counts: AcceptanceCounts,
    requests: Sequence[AcceptanceCounts] = (),
    histories: Sequence[RoundHistory] = (),
    *,
    seed: int = 0,
) -> Observed:
    """The most detailed of what is given. Raises InvalidInput without a round that drafted."""
    if not counts.drafting_rounds():
        raise InvalidInput("the acceptance record has no round that drafted; record with speculation on")
    if len(histories) > 1:
        return _of_units([one.counts() for one in histories], tuple(histories), pooled=False)
    if len(requests) > 1:
        return _of_units(requests, (), pooled=False)
    return _of_units(_drawn_parts(counts, np.random.default_rng(seed)), (), pooled=True)


def _of_units(units: Sequence[AcceptanceCounts], histories: tuple[RoundHistory, ...], *, pooled: bool) -> Observed:
    tried, right = tables(units)
    drafting = np.array([one.drafting_rounds() for one in units], dtype=np.float64)
    silent = np.array([sum(one.rounds.get(0, {}).values()) for one in units], dtype=np.float64)
    return Observed(tuple(units), tried, right, drafting, silent, histories, pooled)


def _drawn_parts(counts: AcceptanceCounts, random: np.random.Generator) -> list[AcceptanceCounts]:
    """Pooled rounds dealt out at random: of each outcome, a multinomial share for each part."""
    parts = [AcceptanceCounts() for _ in range(POOLED_PARTS)]
    for drafted, row in sorted(counts.rounds.items()):
        for accepted, rounds in sorted(row.items()):
            shares = random.multinomial(rounds, [1 / POOLED_PARTS] * POOLED_PARTS)
            for part, share in zip(parts, shares.tolist(), strict=True):
                if share:
                    part.add(drafted, accepted, share)
    return parts
