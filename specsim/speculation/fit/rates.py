"""Laws by draft position from the record h[d][j]: rounds that drafted d tokens and accepted j.

a_i = Σ_(d≥i, j≥i) h / Σ_(d≥i, j≥i-1) h: of the rounds that drafted an i-th token and had all before it accepted, the
share that accepted it. Valid only where d was chosen without looking at the draft. A record a request makes the errors
honest: rounds of one request are alike, so the requests are the independent observations, not the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import ConditionalAcceptance, ConstantAcceptance, PowerLawAcceptance
from specsim.speculation.fit.estimate import DEFAULT_LEVEL, Estimate, covariance, normal, proportion, transformed

CountTables = AcceptanceCounts | Sequence[AcceptanceCounts]


@dataclass(frozen=True, slots=True)
class FittedRates:
    """Conditional rates; ``covariance`` [k, k] is that of their estimates, ``trials`` the rounds each rests on."""

    rates: tuple[Estimate, ...]
    trials: tuple[int, ...]
    covariance: Floats
    level: float

    def law(self) -> ConditionalAcceptance:
        return ConditionalAcceptance(rates=tuple(rate.value for rate in self.rates))

    def acceptance_length(self, draft_tokens: int) -> Estimate:
        """AL at k = ``draft_tokens`` and its error, by the delta method: ∂AL/∂a_i = Σ_(j≥i) r_j / a_i."""
        law = self.law()
        conditional = law.conditional_rates(draft_tokens)
        # r_j / a_i as the product of the other rates, so that a rate of 0 has its slope too.
        slopes = np.array(
            [
                _sum_of_products(np.where(np.arange(draft_tokens) == i, 1.0, conditional), i)
                for i in range(draft_tokens)
            ]
        )
        variance = float(slopes @ self.covariance[:draft_tokens, :draft_tokens] @ slopes)
        return normal(law.expected_tokens(draft_tokens), np.sqrt(max(variance, 0.0)), self.level)


def fit_conditional(records: CountTables, *, level: float = DEFAULT_LEVEL) -> FittedRates:
    """Conditional rates up to the last position that any round got to. Raises InvalidInput if no round drafted."""
    tried, right, clustered = _trials(records)
    trials, hits = tried.sum(axis=0), right.sum(axis=0)
    reached = int((trials > 0).sum())
    trials, hits, tried, right = trials[:reached], hits[:reached], tried[:, :reached], right[:, :reached]
    rates = hits / trials
    if clustered:
        influence = (right - rates * tried) / trials
        matrix = influence.T @ influence * len(tried) / (len(tried) - 1)
    else:
        matrix = np.diag(rates * (1 - rates) / trials)
    errors = np.sqrt(np.diag(matrix))
    found = [proportion(*one, level) for one in zip(rates.tolist(), errors.tolist(), trials.tolist(), strict=True)]
    return FittedRates(tuple(found), tuple(int(n) for n in trials), np.asarray(matrix), level)


@dataclass(frozen=True, slots=True)
class FittedConstant:
    rate: Estimate
    trials: int

    def law(self) -> ConstantAcceptance:
        return ConstantAcceptance(rate=self.rate.value)


def fit_constant(records: CountTables, *, level: float = DEFAULT_LEVEL) -> FittedConstant:
    """The maximum-likelihood rate, accepted / tried: a round of d drafts that accepts j tries min(j + 1, d)."""
    tried, right, clustered = _trials(records)
    by_request, trials = tried.sum(axis=1), tried.sum()
    rate = float(right.sum() / trials)
    if clustered:
        influence = (right.sum(axis=1) - rate * by_request) / trials
        error = float(np.sqrt((influence**2).sum() * len(influence) / (len(influence) - 1)))
    else:
        error = float(np.sqrt(rate * (1 - rate) / trials))
    return FittedConstant(proportion(rate, error, float(trials), level), int(trials))


@dataclass(frozen=True, slots=True)
class FittedPowerLaw:
    """Rounds are taken as independent; the errors of c and γ are independent of each other."""

    c: Estimate
    gamma: Estimate

    def law(self) -> PowerLawAcceptance:
        return PowerLawAcceptance(c=self.c.value, gamma=self.gamma.value)


def fit_power_law(records: CountTables, *, level: float = DEFAULT_LEVEL) -> FittedPowerLaw:
    """Maximum likelihood of r_i = c·(i^γ - (i-1)^γ): c is r_1, and the later conditional rates depend on γ alone.

    Raises InvalidInput if no round got to a second draft, which γ rests on, or if none was ever accepted.
    """
    tried, right, _ = _trials(records)
    trials, hits = tried.sum(axis=0), right.sum(axis=0)
    if trials.size < 2 or trials[1] == 0 or hits[0] == 0:
        raise InvalidInput("no round got past its first draft, so gamma cannot be fitted; record at k = 2 or more")

    def loss(logit: float) -> float:
        law = PowerLawAcceptance(c=1.0, gamma=_logistic(logit))
        rates = np.clip(law.conditional_rates(len(trials))[1:], 1e-12, 1 - 1e-12)
        return -float(hits[1:] @ np.log(rates) + (trials - hits)[1:] @ np.log1p(-rates))

    best = minimize_scalar(loss, bounds=(-8.0, 8.0), method="bounded", options={"xatol": 1e-8})
    error = float(np.sqrt(covariance(lambda x: loss(float(x[0])), np.array([best.x]))[0, 0]))
    c = float(hits[0] / trials[0])
    c_error = float(np.sqrt(c * (1 - c) / trials[0]))
    return FittedPowerLaw(
        proportion(c, c_error, float(trials[0]), level), transformed(float(best.x), error, _logistic, level)
    )


def counts_from_rates(rates: Sequence[float], rounds: int) -> AcceptanceCounts:
    """The record behind unconditional per-position rates over ``rounds`` rounds that all drafted len(rates) tokens.

    Raises InvalidInput if the rates rise, for then they are conditional. (0.5, 0.2) over 10: 5 accepted none, 3 one,
    2 both.
    """
    if any(not 0 <= rate <= 1 for rate in rates) or rounds < 1 or not rates:
        raise InvalidInput(f"rates {list(rates)} over {rounds} rounds; give rates of 0 to 1 and at least one round")
    reached = [rounds, *(round(rate * rounds) for rate in rates), 0]
    counts = AcceptanceCounts()
    for accepted in range(len(rates) + 1):
        ended = reached[accepted] - reached[accepted + 1]
        if ended < 0:
            raise InvalidInput(
                f"unconditional rate {rates[accepted]:g} at position {accepted + 1} exceeds the one before it; "
                "if each rate is given the one before, multiply them up"
            )
        counts.add(len(rates), accepted, ended)
    return counts


def pooled_acceptance_length(lengths: Sequence[float], tokens: Sequence[float]) -> float:
    """Acceptance length of pooled counters over requests: Σ tokens / Σ rounds, rounds being tokens / AL.

    AL 1.5 and 4 over as many tokens each: 2/(1/1.5 + 1/4) = 2.18, not 2.75.
    """
    given = np.array(tokens, dtype=np.float64)
    return float(given.sum() / (given / np.array(lengths, dtype=np.float64)).sum())


def tables(records: Sequence[AcceptanceCounts], longest: int | None = None) -> tuple[Floats, Floats]:
    """Drafts tried and drafts right at each draft position, [records, longest draft of any]."""
    if longest is None:
        longest = max((drafted for one in records for drafted in one.rounds), default=0)
    tried, right = np.zeros((len(records), longest)), np.zeros((len(records), longest))
    for row, one in enumerate(records):
        for drafted, ends in one.rounds.items():
            for accepted, rounds in ends.items():
                if accepted > drafted:
                    raise InvalidInput(f"a round accepted {accepted} of {drafted} drafts; the record is not h[d][j]")
                tried[row, : min(accepted + 1, drafted)] += rounds
                right[row, :accepted] += rounds
    return tried, right


def _trials(records: CountTables) -> tuple[Floats, Floats, bool]:
    """Trials and hits of the records that drafted, and whether they are of requests apart."""
    single = isinstance(records, AcceptanceCounts)
    tried, right = tables([records] if isinstance(records, AcceptanceCounts) else records)
    if not tried.sum():
        raise InvalidInput("the acceptance record has no round that drafted; record with speculation on")
    some = tried.sum(axis=1) > 0
    return tried[some], right[some], not single and int(some.sum()) > 1


def _sum_of_products(factors: Floats, first: int) -> float:
    return float(np.cumprod(factors)[first:].sum())


def _logistic(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))
