"""How much requests differ, and how long a level lasts within one: the latent law from rounds kept by request.

Totals a request (trials, accepted) give the Beta law of levels by its exact marginal likelihood, totals by draft
position also how fast acceptance decays along a draft. Rounds in order give the spans: the likelihood of a hidden
Markov chain, the request's level and its spans' integrated by quadrature. Counters pooled over requests hold none of
it; they can only place the mean of a law whose spread is known from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import betainc, betaln, expit, logit

from specsim.arrays import Floats
from specsim.errors import InvalidInput, NoAnswer
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import BetaLevels, LatentAcceptance, RoundHistory, Spans
from specsim.speculation.acceptance.levels import beta_levels
from specsim.speculation.fit.estimate import DEFAULT_LEVEL, Estimate, covariance, transformed
from specsim.speculation.fit.rates import tables

REQUEST_NODES, SPAN_NODES = 10, 10
LEVELS = 200  # of the integral over a request's level; one of 1,000 trials knows its own to about 3 of them
FARTHEST = 12.0  # from 0 that a logit or logarithm is followed


@dataclass(frozen=True, slots=True)
class FittedLatent:
    """``span_tokens`` and ``span_concentration`` are None where no spans were fitted, ``decay`` where it was taken as
    1. Standard errors are NaN at an optimum that has no curvature, for instance where requests do not differ at all.
    """

    mean: Estimate
    concentration: Estimate
    span_tokens: Estimate | None
    span_concentration: Estimate | None
    log_likelihood: float
    requests: int
    decay: Estimate | None = None

    def law(self) -> LatentAcceptance:
        spans = None
        if self.span_tokens is not None and self.span_concentration is not None:
            spans = Spans(mean_tokens=self.span_tokens.value, concentration=self.span_concentration.value)
        return LatentAcceptance(
            requests=BetaLevels(mean=self.mean.value, concentration=self.concentration.value),
            spans=spans,
            decay=1.0 if self.decay is None else self.decay.value,
        )


def fit_request_levels(records: Sequence[AcceptanceCounts], *, level: float = DEFAULT_LEVEL) -> FittedLatent:
    """One level a request: maximum of Π_r B(a + S_r, b + T_r - S_r)/B(a, b), S accepted of T tried drafts.

    Spans within requests, if any, count as difference between requests; fit_spans tells the two apart.
    """
    tried, right = (table.sum(axis=1) for table in _by_request(records))

    def loss(at: Floats) -> float:
        if np.abs(at).max() > FARTHEST:
            return 1e12
        return -float(level_likelihood(tried, right, float(expit(at[0])), float(np.exp(at[1]))).sum())

    best, errors = _optimum(loss, np.array([_logit_share(right, tried), np.log(10.0)]))
    return FittedLatent(
        transformed(best[0], errors[0], expit, level),
        transformed(best[1], errors[1], np.exp, level),
        None,
        None,
        -loss(best),
        len(records),
    )


def fit_decaying_levels(records: Sequence[AcceptanceCounts], *, level: float = DEFAULT_LEVEL) -> FittedLatent:
    """A level a request, and one decay for all: draft i is accepted with probability level·decay^(i-1)."""
    tried, right = _by_request(records)

    def loss(at: Floats) -> float:
        if np.abs(at).max() > FARTHEST:
            return 1e12
        mean, decay = expit(at[[0, 2]]).tolist()
        return -float(decaying_likelihood(tried, right, mean, float(np.exp(at[1])), decay).sum())

    start = np.array([_logit_share(right, tried), np.log(10.0), 3.0])
    best, errors = _optimum(loss, start)
    return FittedLatent(
        transformed(best[0], errors[0], expit, level),
        transformed(best[1], errors[1], np.exp, level),
        None,
        None,
        -loss(best),
        len(records),
        transformed(best[2], errors[2], expit, level),
    )


def level_likelihood(tried: Floats, right: Floats, mean: float, concentration: float) -> Floats:
    """Log-likelihood of each request's drafts, given how many were tried and right, [requests]."""
    a, b = mean * concentration, (1 - mean) * concentration
    return np.asarray(betaln(a + right, b + tried - right) - betaln(a, b), dtype=np.float64)


def decaying_likelihood(tried: Floats, right: Floats, mean: float, concentration: float, decay: float) -> Floats:
    """The same with a decay, from totals by draft position, [requests, k]; the level integrated on a grid."""
    edges = np.linspace(0.0, 1.0, LEVELS + 1)
    shares = np.diff(betainc(mean * concentration, (1 - mean) * concentration, edges))
    rates = (edges[1:] + edges[:-1])[:, None] / 2 * decay ** np.arange(tried.shape[1])
    found = right @ np.log(rates).T + (tried - right) @ np.log1p(-rates).T
    peak = found.max(axis=1, keepdims=True)
    return np.asarray(peak[:, 0] + np.log(np.maximum(np.exp(found - peak) @ shares, 1e-300)), dtype=np.float64)


def fit_spans(requests: Sequence[RoundHistory], *, level: float = DEFAULT_LEVEL) -> FittedLatent:
    """Levels of requests and spans within them, from rounds in order. Each round's first draft follows on the last
    round's bonus token; rounds without drafts move one token on. Takes seconds per ten thousand output tokens.
    """
    seen = observations(requests)
    if len(requests) < 2 or not (seen >= 0).any():
        raise InvalidInput(f"{len(requests)} requests; give at least two that drafted")
    start = fit_request_levels([one.counts() for one in requests], level=level)

    def loss(at: Floats) -> float:
        if np.abs(at).max() > FARTHEST:
            return 1e12
        return -float(span_likelihood(seen, float(expit(at[0])), *np.exp(at[1:]).tolist()).sum())

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


def _by_request(records: Sequence[AcceptanceCounts]) -> tuple[Floats, Floats]:
    """Trials and hits by request and draft position. Raises InvalidInput for fewer than two that drafted."""
    drafted = [one for one in records if one.drafting_rounds()]
    if len(drafted) < 2:
        raise InvalidInput(f"{len(drafted)} requests drafted; give at least two that did")
    return tables(drafted)


def _logit_share(right: Floats, tried: Floats) -> float:
    return float(logit((right.sum() + 1) / (tried.sum() + 2)))


def observations(requests: Sequence[RoundHistory]) -> NDArray[np.int8]:
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


def span_likelihood(
    seen: NDArray[np.int8], mean: float, concentration: float, more_tokens: float, span_concentration: float
) -> Floats:
    """Log-likelihood of each request: a forward pass over output positions, for every request level at once.

    ``more_tokens``: those of a span beyond its first, in the mean.
    """
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
    return np.asarray(peak + np.log(np.exp(scale - peak[:, None]) @ shares), dtype=np.float64)


def _optimum(loss: Callable[[Floats], float], start: Floats) -> tuple[Floats, Floats]:
    """Where the loss is least, and the standard errors there."""
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-5, "maxiter": 2000})
    at = np.asarray(best.x, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return at, np.sqrt(np.diag(covariance(loss, at)))
