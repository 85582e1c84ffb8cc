"""How much requests differ, and how long a level lasts within one: the latent law from rounds kept by request.

Totals a request (trials, accepted) give the Beta law of levels by its exact marginal likelihood. Rounds in order also
give the spans: the likelihood of a hidden Markov chain, the request's level and its spans' integrated by quadrature.
Counters pooled over requests hold neither; they can only place the mean of a law whose spread is known from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import betaln, expit, logit

from specsim.arrays import Floats
from specsim.errors import InvalidInput, NoAnswer
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import BetaLevels, LatentAcceptance, RoundHistory, Spans
from specsim.speculation.acceptance.levels import beta_levels
from specsim.speculation.fit.estimate import DEFAULT_LEVEL, Estimate, covariance, transformed

REQUEST_NODES, SPAN_NODES = 10, 10


@dataclass(frozen=True, slots=True)
class FittedLatent:
    """``span_tokens`` and ``span_concentration`` are None where no spans were fitted. Standard errors are NaN at an
    optimum that has no curvature, for instance where requests do not differ at all.
    """

    mean: Estimate
    concentration: Estimate
    span_tokens: Estimate | None
    span_concentration: Estimate | None
    log_likelihood: float
    requests: int

    def law(self) -> LatentAcceptance:
        spans = None
        if self.span_tokens is not None and self.span_concentration is not None:
            spans = Spans(mean_tokens=self.span_tokens.value, concentration=self.span_concentration.value)
        return LatentAcceptance(
            requests=BetaLevels(mean=self.mean.value, concentration=self.concentration.value), spans=spans
        )


def fit_request_levels(records: Sequence[AcceptanceCounts], *, level: float = DEFAULT_LEVEL) -> FittedLatent:
    """One level a request: maximum of Π_r B(a + S_r, b + T_r - S_r)/B(a, b), S accepted of T tried drafts.

    Spans within requests, if any, count as difference between requests; fit_spans tells the two apart.
    """
    tried = np.array([_tried(one) for one in records], dtype=np.float64)
    right = np.array([one.accepted() for one in records], dtype=np.float64)
    if len(records) < 2 or not tried.sum():
        raise InvalidInput(
            f"{len(records)} requests with {tried.sum():.0f} drafts tried; give at least two that drafted"
        )

    def loss(at: Floats) -> float:
        mean, concentration = expit(at[0]), np.exp(at[1])
        a, b = mean * concentration, (1 - mean) * concentration
        return -float((betaln(a + right, b + tried - right) - betaln(a, b)).sum())

    best, errors = _optimum(loss, np.array([_logit_share(right, tried), np.log(10.0)]))
    return FittedLatent(
        transformed(best[0], errors[0], expit, level),
        transformed(best[1], errors[1], np.exp, level),
        None,
        None,
        -loss(best),
        len(records),
    )


def fit_spans(requests: Sequence[RoundHistory], *, level: float = DEFAULT_LEVEL) -> FittedLatent:
    """Levels of requests and spans within them, from rounds in order. Each round's first draft follows on the last
    round's bonus token; rounds without drafts move one token on. Takes seconds per ten thousand output tokens.
    """
    seen = _observations(requests)
    if len(requests) < 2 or not (seen >= 0).any():
        raise InvalidInput(f"{len(requests)} requests; give at least two that drafted")
    start = fit_request_levels([one.counts() for one in requests], level=level)

    def loss(at: Floats) -> float:
        if np.abs(at).max() > 12:
            return 1e12
        return -_log_likelihood(seen, float(expit(at[0])), *np.exp(at[1:]).tolist())

    first = np.array(
        [logit(start.mean.value), np.log(min(start.concentration.value, 100.0)), np.log(10.0), np.log(3.0)]
    )
    best, errors = _optimum(loss, first)

    def tokens(log_more: float) -> float:
        return 1.0 + float(np.exp(log_more))

    return FittedLatent(
        transformed(best[0], errors[0], expit, level),
        transformed(best[1], errors[1], np.exp, level),
        transformed(best[2], errors[2], tokens, level),
        transformed(best[3], errors[3], np.exp, level),
        -loss(best),
        len(requests),
    )


def latent_from_pooled(acceptance_length: float, draft_tokens: int, concentration: float) -> LatentAcceptance:
    """The law of requests of a known spread whose pooled acceptance length at k is the one given.

    The mean level is not the rate that a constant law would need, since pooled counters weight slow requests more.
    Raises NoAnswer outside (1, k + 1).
    """
    if not 1 < acceptance_length < draft_tokens + 1:
        raise NoAnswer(
            f"no law has acceptance length {acceptance_length:g} at k = {draft_tokens}; it lies inside 1..k+1"
        )

    def law(position: float) -> LatentAcceptance:
        return LatentAcceptance(requests=BetaLevels(mean=float(expit(position)), concentration=concentration))

    def excess(position: float) -> float:
        return law(position).expected_tokens(draft_tokens) - acceptance_length

    if excess(-12.0) > 0 or excess(12.0) < 0:
        raise NoAnswer(
            f"acceptance length {acceptance_length:g} at k = {draft_tokens} is too near its limits to place"
        )
    return law(float(brentq(excess, -12.0, 12.0, xtol=1e-10)))


def autocorrelation(requests: Sequence[RoundHistory], lag: int = 1) -> float | None:
    """Correlation of the accepted counts of rounds ``lag`` apart in one request, around the mean of all rounds.

    None without two such rounds or without any spread.
    """
    pooled = np.concatenate([one.accepted for one in requests]) if requests else np.zeros(0)
    pairs = [(one.accepted[:-lag], one.accepted[lag:]) for one in requests if len(one.accepted) > lag]
    if not pairs or pooled.var() == 0:
        return None
    before, after = (np.concatenate(side) - pooled.mean() for side in zip(*pairs, strict=True))
    return float((before * after).mean() / pooled.var())


def _tried(counts: AcceptanceCounts) -> int:
    return sum(min(j + 1, d) * n for d, row in counts.rounds.items() for j, n in row.items())


def _logit_share(right: Floats, tried: Floats) -> float:
    return float(logit((right.sum() + 1) / (tried.sum() + 2)))


def _observations(requests: Sequence[RoundHistory]) -> NDArray[np.int8]:
    """At each output position 1 for an accepted draft, 0 for a wrong one, -1 for not tried, [requests, positions]."""
    found = []
    for one in requests:
        seen: list[int] = []
        for drafted, accepted in zip(one.drafted.tolist(), one.accepted.tolist(), strict=True):
            seen += [1] * accepted + [0 if accepted < drafted else -1]
        found.append(seen)
    table = np.full((len(found), max(map(len, found), default=0)), -1, dtype=np.int8)
    for row, seen in enumerate(found):
        table[row, : len(seen)] = seen
    return table


def _log_likelihood(
    seen: NDArray[np.int8], mean: float, concentration: float, more_tokens: float, span_concentration: float
) -> float:
    """Forward pass over output positions, for every request and request level at once."""
    persistence = more_tokens / (1.0 + more_tokens)
    levels, shares = beta_levels(np.array(mean), concentration, REQUEST_NODES)
    rates, weights = beta_levels(np.clip(levels, 1e-6, 1 - 1e-6), span_concentration, SPAN_NODES)
    state = np.broadcast_to(weights, (len(seen), *weights.shape))
    scale = np.zeros((len(seen), len(levels)))
    for position in range(seen.shape[1]):
        here = seen[:, position, None, None]
        state = state * np.where(here == 1, rates, np.where(here == 0, 1.0 - rates, 1.0))
        total = np.maximum(state.sum(axis=2), 1e-300)
        scale += np.log(total)
        state = persistence * state / total[:, :, None] + (1.0 - persistence) * weights
    peak = scale.max(axis=1)
    return float((peak + np.log(np.exp(scale - peak[:, None]) @ shares)).sum())


def _optimum(loss: Callable[[Floats], float], start: Floats) -> tuple[Floats, Floats]:
    """Where the loss is least, and the standard errors there."""
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-5, "maxiter": 2000})
    at = np.asarray(best.x, dtype=np.float64)
    return at, np.sqrt(np.diag(covariance(loss, at)))
