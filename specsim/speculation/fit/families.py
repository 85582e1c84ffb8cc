"""The laws that a log can decide between: how each is fitted, and how likely it makes rounds that it has not seen.

All likelihoods are of the same events, so that they compare: which tried drafts were right, in rounds of given
lengths, and which rounds proposed anything. Rounds without a proposal say nothing of a law by position; what share of
rounds they are is a number of its own beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import xlogy

from specsim.arrays import Floats
from specsim.speculation.acceptance import AcceptanceLaw, ConditionalAcceptance
from specsim.speculation.acceptance.law import PositionLaw
from specsim.speculation.fit.estimate import Estimate
from specsim.speculation.fit.observed import Observed
from specsim.speculation.fit.rates import fit_conditional, fit_constant, fit_power_law
from specsim.speculation.fit.requests import (
    FittedLatent,
    decaying_likelihood,
    fit_decaying_levels,
    fit_request_levels,
    fit_spans,
    level_likelihood,
    observations,
    span_likelihood,
)
from specsim.speculation.fit.runs import fit_hurdle_rounds, run_events, run_likelihood

SPAN_TOKENS = 6_000  # of output that spans are fitted to and scored on: seconds, where all would take minutes
IN_ORDER = "rounds in order"
BY_REQUEST = "rounds request by request"


@dataclass(frozen=True, slots=True)
class Fit:
    """``numbers``: by name, with intervals. ``score``: log-likelihood of each unit of other rounds, [units], NaN
    where it is not computed.
    """

    law: AcceptanceLaw
    numbers: Mapping[str, Estimate]
    score: Callable[[Observed], Floats]


class Family(Protocol):
    """One kind of law."""

    @property
    def name(self) -> str: ...

    def parameters(self, rounds: Observed) -> int:
        """Numbers that are fitted."""

    def missing(self, rounds: Observed) -> str | None:
        """What the rounds lack to fit it; None: nothing."""

    def fit(self, rounds: Observed, level: float) -> Fit:
        """Raises InvalidInput for rounds that do not determine it."""


@dataclass(frozen=True, slots=True)
class ByPosition:
    """A law by draft position, the same in every round and for every request."""

    name: str
    count: int | None  # None: one a position
    make: Callable[[Observed, float], tuple[PositionLaw, dict[str, Estimate]]]

    def parameters(self, rounds: Observed) -> int:
        return rounds.longest if self.count is None else self.count

    def missing(self, rounds: Observed) -> str | None:
        return "a second draft position" if self.count is None and rounds.longest < 2 else None

    def fit(self, rounds: Observed, level: float) -> Fit:
        law, numbers = self.make(rounds, level)
        share = rounds.proposing_share()
        floor = 0.5 / (1.0 + rounds.tried.sum(axis=0))

        def score(other: Observed) -> Floats:
            rates = np.clip(law.conditional_rates(other.longest), floor, 1 - floor)
            hits, misses = xlogy(other.right, rates), xlogy(other.tried - other.right, 1 - rates)
            return np.asarray((hits + misses).sum(axis=1) + other.proposing_likelihood(share), dtype=np.float64)

        return Fit(law, numbers, score)


@dataclass(frozen=True, slots=True)
class ByRequest:
    """A level for each request."""

    name: str
    decays: bool

    def parameters(self, rounds: Observed) -> int:
        return 3 if self.decays else 2

    def missing(self, rounds: Observed) -> str | None:
        return BY_REQUEST if rounds.pooled else None

    def fit(self, rounds: Observed, level: float) -> Fit:
        found = (fit_decaying_levels if self.decays else fit_request_levels)(rounds.counts, level=level)
        share = rounds.proposing_share()
        mean, concentration = found.mean.value, found.concentration.value

        def score(other: Observed) -> Floats:
            silent = other.proposing_likelihood(share)
            if found.decay is None:
                tried, right = other.tried.sum(axis=1), other.right.sum(axis=1)
                return silent + level_likelihood(tried, right, mean, concentration)
            return silent + decaying_likelihood(other.tried, other.right, mean, concentration, found.decay.value)

        return Fit(found.law(), _numbers(found), score)


@dataclass(frozen=True, slots=True)
class BySpan:
    """A level for each request, and spans within it."""

    name: str = "latent, requests and spans"

    def parameters(self, rounds: Observed) -> int:
        return 4

    def missing(self, rounds: Observed) -> str | None:
        return None if rounds.histories else IN_ORDER

    def fit(self, rounds: Observed, level: float) -> Fit:
        found = fit_spans(rounds.histories[: rounds.requests_of(SPAN_TOKENS)], level=level)
        assert found.span_tokens is not None
        assert found.span_concentration is not None
        at = (found.mean, found.concentration, found.span_tokens, found.span_concentration)
        mean, concentration, tokens, span_concentration = (one.value for one in at)
        share = rounds.proposing_share()

        def score(other: Observed) -> Floats:
            scored = np.full(len(other.tried), np.nan)
            first = other.requests_of(SPAN_TOKENS)
            seen = observations(other.histories[:first])
            scored[:first] = span_likelihood(seen, mean, concentration, tokens - 1.0, span_concentration)
            return scored + other.proposing_likelihood(share)

        return Fit(found.law(), _numbers(found), score)


@dataclass(frozen=True, slots=True)
class ByRun:
    """Copying: a hit, then a run."""

    name: str = "hurdle, geometric runs"

    def parameters(self, rounds: Observed) -> int:
        return 3 if rounds.silent.any() else 2

    def missing(self, rounds: Observed) -> str | None:
        return None if rounds.histories else IN_ORDER

    def fit(self, rounds: Observed, level: float) -> Fit:
        found = fit_hurdle_rounds(rounds.histories, level=level)
        numbers = {"hit_rate": found.hit_rate, "runs.continue_rate": found.continue_rate}
        if found.false_match_rate is not None:
            numbers["false_match_rate"] = found.false_match_rate
        at = [one.value for one in numbers.values()]
        law = found.law() if rounds.silent.any() else found.law().model_copy(update={"false_match_rate": 1.0})
        return Fit(law, numbers, lambda other: run_likelihood(run_events(other.histories), *at))


def _constant(rounds: Observed, level: float) -> tuple[PositionLaw, dict[str, Estimate]]:
    found = fit_constant(rounds.records(), level=rounds.honest(level))
    return found.law(), {"rate": found.rate}


def _power_law(rounds: Observed, level: float) -> tuple[PositionLaw, dict[str, Estimate]]:
    found = fit_power_law(rounds.records(), level=rounds.honest(level))
    return found.law(), {"c": found.c, "gamma": found.gamma}


def _conditional(rounds: Observed, level: float) -> tuple[PositionLaw, dict[str, Estimate]]:
    """Positions that no round got to have the rate of the last one that some did."""
    found = fit_conditional(rounds.records(), level=rounds.honest(level))
    rates = [rate.value for rate in found.rates]
    rates += [rates[-1]] * (rounds.longest - len(rates))
    numbers = {f"rates[{position}]": rate for position, rate in enumerate(found.rates, start=1)}
    return ConditionalAcceptance(rates=tuple(rates)), numbers


def _numbers(found: FittedLatent) -> dict[str, Estimate]:
    numbers = {"requests.mean": found.mean, "requests.concentration": found.concentration}
    if found.decay is not None:
        numbers["decay"] = found.decay
    if found.span_tokens is not None and found.span_concentration is not None:
        numbers |= {"spans.mean_tokens": found.span_tokens, "spans.concentration": found.span_concentration}
    return numbers


FAMILIES: tuple[Family, ...] = (
    ByPosition("constant", 1, _constant),
    ByPosition("power law", 2, _power_law),
    ByRequest("latent, requests", decays=False),
    ByRun(),
    ByRequest("latent, requests, decaying", decays=True),
    BySpan(),
    ByPosition("conditional", None, _conditional),
)
