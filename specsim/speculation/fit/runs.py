"""Hit rate and run lengths of a copy drafter: from K-free traces, rounds in order, or counters taken at one k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, xlogy

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import (
    EmpiricalRuns,
    GeometricRuns,
    HurdleAcceptance,
    RoundHistory,
    TraceAcceptance,
)
from specsim.speculation.fit.estimate import (
    DEFAULT_LEVEL,
    Estimate,
    clustered_covariance,
    normal,
    proportion,
    transformed,
)


@dataclass(frozen=True, slots=True)
class FittedHurdle:
    """``lengths``: the whole runs that were seen, longest last; none where only counters were given. ``cut``: what was
    seen of runs that the end of a trace cut short. ``false_match_rate`` is None where it is not told.
    """

    hit_rate: Estimate
    continue_rate: Estimate
    lengths: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    false_match_rate: Estimate | None = None

    def law(self) -> HurdleAcceptance:
        """With geometric run lengths."""
        runs = GeometricRuns(continue_rate=min(self.continue_rate.value, 1 - 1e-6))
        false = 0.0 if self.false_match_rate is None else self.false_match_rate.value
        return HurdleAcceptance(hit_rate=self.hit_rate.value, runs=runs, false_match_rate=false)

    def empirical_law(self) -> HurdleAcceptance:
        """With run lengths as seen. Raises InvalidInput without any.

        Leaving cut runs out would favour short ones, for long ones are cut more often. The product-limit estimator
        (Kaplan and Meier 1958) counts them for as long as they were seen: runs of 1 and 2 and one cut after 2 give
        P(L = 1) = 1/3. What goes on behind the longest run seen ends there.
        """
        if not self.lengths:
            raise InvalidInput("no whole run was seen, so run lengths have no empirical law; use the geometric one")
        ends, cut = (np.bincount(x, minlength=max(self.lengths + self.cut) + 1)[1:] for x in (self.lengths, self.cut))
        at_risk = np.cumsum((ends + cut)[::-1])[::-1] - cut
        hazard = np.divide(ends, at_risk, out=np.zeros(len(ends)), where=at_risk > 0)
        going_on = np.cumprod(1.0 - hazard)
        weights = np.concatenate(([1.0], going_on[:-1])) * hazard
        weights[-1] += going_on[-1]
        return HurdleAcceptance(hit_rate=self.hit_rate.value, runs=EmpiricalRuns(weights=tuple(weights.tolist())))


def fit_hurdle(trace: TraceAcceptance, *, level: float = DEFAULT_LEVEL) -> FittedHurdle:
    """Walk each trace from break to break. A run that reaches the end of its trace is one whose length is not known.

    The continue rate is the maximum-likelihood one: continuations / (continuations + ends), a cut run having no end.
    """
    breaks = 0
    lengths: list[int] = []  # of whole runs
    cut: list[int] = []
    for runs in trace.runs:
        position = 0
        while position < len(runs):
            length, whole = _run_at(runs, position, trace.cap)
            breaks += 1
            if length:
                (lengths if whole else cut).append(length)
            position += length + 1
    hits = len(lengths) + len(cut)
    hit_rate = _share(hits, breaks, level)
    if not hits:
        raise InvalidInput("the trace has no run of accepted drafts, so run lengths cannot be fitted")
    continuations = sum(lengths) + sum(cut) - hits
    if not continuations + len(lengths):
        raise InvalidInput(
            "every run was cut short after one token, so run lengths cannot be fitted; record longer outputs"
        )
    continue_rate = _share(continuations, continuations + len(lengths), level)
    return FittedHurdle(hit_rate, continue_rate, tuple(sorted(lengths)), tuple(sorted(cut)))


def fit_hurdle_rounds(requests: Sequence[RoundHistory], *, level: float = DEFAULT_LEVEL) -> FittedHurdle:
    """From rounds in order, at any k: maximum likelihood for geometric runs, errors clustered by request.

    ``false_match_rate`` is found where some rounds proposed nothing, else None. Raises InvalidInput where no round got
    to a second draft.
    """
    seen = run_events(requests)
    total = seen.sum(axis=0)
    if not total[2:4].sum():
        raise InvalidInput("no round got past its first draft, so runs cannot be fitted; record at k = 2 or more")
    silent = total[5] + total[7] > 0

    def loss(at: Floats) -> Floats:
        return -run_likelihood(seen, *expit(at).tolist())

    start = logit([(total[0] + 1) / (total[[0, 4, 5]].sum() + 2), (total[2] + 1) / (total[2:4].sum() + 2), 0.5])
    best = minimize(lambda at: float(loss(at).sum()), start[: 3 if silent else 2], method="Nelder-Mead").x
    errors = np.sqrt(np.diag(clustered_covariance(loss, best)))
    hit_rate, continue_rate, *false = (
        transformed(float(at), float(error), lambda x: float(expit(x)), level)
        for at, error in zip(best, errors, strict=True)
    )
    return FittedHurdle(hit_rate, continue_rate, false_match_rate=false[0] if false else None)


def run_events(requests: Sequence[RoundHistory]) -> Floats:
    """What the likelihood of runs rests on, [requests, 8].

    First drafts right after a break, and after a round that was accepted whole; later drafts right, and wrong; rounds
    with nothing accepted, after a break with a proposal and without, after a whole round with a proposal and without.
    """
    seen = np.zeros((len(requests), 8))
    for row, one in enumerate(requests):
        drafted, accepted = one.drafted, one.accepted
        whole = (accepted == drafted) & (drafted > 0)
        after = np.concatenate(([False], whole[:-1]))
        hit, proposed = accepted > 0, drafted > 0
        seen[row] = (
            (hit & ~after).sum(),
            (hit & after).sum(),
            (accepted - 1)[hit].sum(),
            (hit & ~whole).sum(),
            (~hit & ~after & proposed).sum(),
            (~hit & ~after & ~proposed).sum(),
            (~hit & after & proposed).sum(),
            (~hit & after & ~proposed).sum(),
        )
    return seen


def run_likelihood(seen: Floats, hit_rate: float, continue_rate: float, false_match_rate: float = 1.0) -> Floats:
    """Log-likelihood of each request's ``run_events`` under geometric runs, [requests].

    After a whole round its bonus token belongs to the run with probability c; then a match stands, the run goes on
    with c, and else nothing of the proposal is right. Otherwise it was a break: h hits, and a miss proposes with f.
    """
    h, c, f = hit_rate, continue_rate, false_match_rate
    miss = (1 - c) * (1 - h)
    rates = [h, c * c + (1 - c) * h, c, 1 - c, (1 - h) * f, (1 - h) * (1 - f), c * (1 - c) + miss * f, miss * (1 - f)]
    return np.asarray(xlogy(seen, np.maximum(rates, 1e-300)).sum(axis=1), dtype=np.float64)


def _run_at(runs: tuple[int, ...], position: int, cap: int) -> tuple[int, bool]:
    """Length of the run from a position on, read past the cap, and whether its end was seen."""
    length = 0
    while position + length < len(runs):
        more = runs[position + length]
        length += more
        if more < cap:
            return min(length, len(runs) - position), position + length < len(runs)
    return len(runs) - position, False


def fit_hurdle_counts(counts: AcceptanceCounts, *, level: float = DEFAULT_LEVEL) -> FittedHurdle:
    """From h[d][j] at one k, rounds without a proposal (d = 0) included, for geometric runs that always propose k.

    The continue rate c is the share accepted of second and later drafts tried; the hit rate solves
    r_1 = h / (1 - c^(k+1) + h·c^k), r_1 being over all rounds. So a law fitted at one k answers for another.
    """
    k = max(counts.rounds, default=0)
    if k < 2:
        raise InvalidInput(
            f"counters at k = {k} hold no second draft, so runs cannot be fitted; record at k = 2 or more"
        )
    rounds = sum(sum(row.values()) for row in counts.rounds.values())
    hits = sum(n for row in counts.rounds.values() for j, n in row.items() if j)
    ends = [(d, j, n) for d, row in counts.rounds.items() for j, n in row.items() if j]
    tried = sum((min(j + 1, d) - 1) * n for d, j, n in ends)
    if not tried:
        raise InvalidInput("no round got to a second draft, so runs cannot be fitted; record more rounds")
    first, goes_on = _share(hits, rounds, level), _share(sum((j - 1) * n for _, j, n in ends), tried, level)

    def hit_rate(r: float, c: float) -> float:
        return r * (1 - c ** (k + 1)) / (1 - r * c**k) if r * c**k < 1 else 1.0

    r, c, step = first.value, goes_on.value, 1e-6
    slopes = (
        (hit_rate(r + step, c) - hit_rate(r - step, c)) / (2 * step),
        (hit_rate(r, c + step) - hit_rate(r, c - step)) / (2 * step),
    )
    error = float(np.hypot(slopes[0] * first.standard_error, slopes[1] * goes_on.standard_error))
    found = normal(min(hit_rate(r, c), 1.0), error, level)
    return FittedHurdle(Estimate(found.value, error, max(found.low, 0.0), min(found.high, 1.0)), goes_on)


def _share(hits: int, trials: int, level: float) -> Estimate:
    value = hits / trials
    return proportion(value, float(np.sqrt(value * (1 - value) / trials)), trials, level)
