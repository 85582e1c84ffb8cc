"""Laws fitted on one half of the recorded requests, and what they say of the other half."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specsim.profiling.acceptance.record_file import RecordedRequest, RecordedTraces, read_traces
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    AcceptanceLaw,
    ConditionalAcceptance,
    RoundHistory,
    TraceAcceptance,
)
from specsim.speculation.fit import (
    fit_conditional,
    fit_constant,
    fit_hurdle,
    fit_power_law,
    fit_request_levels,
    fit_spans,
)

HERE = Path(__file__).parent
Floats = NDArray[np.float64]

SPLIT_SEED = 1  # chosen before any trace was looked at, as were the numbers below
LENGTHS = (1, 2, 4, 8)
FITTED_AT = 8  # k of the rounds that laws by position are fitted to, or the cap if lower
SHAPE_AT = 4  # k of the spread and the autocorrelation
RESAMPLES, LEVEL = 2000, 0.90
SIMULATED = 4000  # requests drawn from a law for its spread and autocorrelation
ALL = "all"


@dataclass(frozen=True, slots=True)
class Score:
    """A prediction beside the test half's own number and its bootstrap interval."""

    target: str  # greedy or sampled
    drafter: str
    tested: str  # second or first: the half tested on, the law being fitted on the other
    scope: str  # a domain, or all of them mixed
    law: str
    quantity: str
    predicted: float
    measured: float
    low: float
    high: float

    @property
    def error(self) -> float:
        return self.predicted - self.measured

    @property
    def inside(self) -> bool:
        return self.low <= self.predicted <= self.high


class Half:
    """Sums over each request's rounds, from which every quantity follows for any weights of the requests."""

    def __init__(self, accepted: dict[int, list[NDArray[np.int64]]], documents: Sequence[str]) -> None:
        self.documents = documents
        self._accepted = accepted
        self._deepest = max(accepted)

    def point(self) -> dict[str, float]:
        """Every request once."""
        weights = np.ones((1, len(self.documents)))
        return {name: float(values[0]) for name, values in self.quantities(weights).items()}

    def intervals(self, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Bootstrap over documents, for requests of one document are alike."""
        names, owner = np.unique(self.documents, return_inverse=True)
        draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        found = self.quantities(draws[:, owner].astype(np.float64))
        return {name: tuple(np.nanquantile(values, ends).tolist()) for name, values in found.items()}

    def quantities(self, weights: Floats) -> dict[str, Floats]:
        """Acceptance lengths, r_i at the longest k, spread and autocorrelation; ``weights`` [sets, requests]."""
        found = {}
        for k, rounds in self._accepted.items():
            count, total = (weights @ np.array([f(one) for one in rounds], dtype=np.float64) for f in (len, np.sum))
            found[f"AL k={k}"] = 1 + total / count
        deepest = self._accepted[self._deepest]
        count = weights @ np.array([len(one) for one in deepest], dtype=np.float64)
        for i in range(1, self._deepest + 1):
            found[f"r_{i}"] = weights @ np.array([(one >= i).sum() for one in deepest], dtype=np.float64) / count
        shape = self._accepted[min(SHAPE_AT, self._deepest)]
        return found | {"spread": _spread(shape, weights), "lag 1": _lag(shape, weights)}


def _spread(rounds: list[NDArray[np.int64]], weights: Floats) -> Floats:
    """Standard deviation over requests of their acceptance lengths."""
    lengths = np.array([1 + one.mean() for one in rounds])
    requests = weights.sum(axis=1)
    mean = weights @ lengths / requests
    squares = (weights * (lengths - mean[:, None]) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(squares / (requests - 1)))


def _lag(rounds: list[NDArray[np.int64]], weights: Floats) -> Floats:
    """Correlation of neighbouring rounds of a request, around the mean of all rounds."""
    sums = np.array(
        [
            (len(x), x.sum(), (x**2).sum(), len(x) - 1, x[:-1].sum() + x[1:].sum(), (x[:-1] * x[1:]).sum())
            for x in rounds
        ],
        dtype=np.float64,
    )
    count, total, squares, pairs, ends, products = (weights @ sums).T
    mean = total / count
    return np.asarray((products - mean * ends + mean**2 * pairs) / pairs / (squares / count - mean**2))


# -- the two halves -----------------------------------------------------------------------------------------------


def document(request: RecordedRequest) -> str:
    """The file or topic that a prompt was cut from."""
    return request.name.rpartition("@")[0]


def fitting_half(requests: Sequence[RecordedRequest]) -> set[str]:
    """Documents to fit on: drawn in a seeded order, files and topics apart, until they hold half of the requests."""
    chosen: set[str] = set()
    for topics in (False, True):
        owners = [name for name in map(document, requests) if name.startswith("topic:") == topics]
        names = sorted(set(owners))
        for index in np.random.default_rng(SPLIT_SEED).permutation(len(names)).tolist():
            if 2 * sum(owner in chosen for owner in owners) >= len(owners):
                break
            chosen.add(names[index])
    return chosen


def half(traces: RecordedTraces, scope: str, documents: set[str], *, fit: bool) -> tuple[TraceAcceptance, list[str]]:
    """One half's requests as a law, and the document of each."""
    chosen = [one for one in traces.requests if (document(one) in documents) == fit and scope in (ALL, one.domain)]
    law = TraceAcceptance(runs=tuple(one.runs for one in chosen), cap=traces.cap, order="listed")
    return law, [document(one) for one in chosen]


def replayed(law: TraceAcceptance, documents: Sequence[str]) -> Half:
    """The rounds that these traces give at each k."""
    return Half({k: law.replay(k) for k in LENGTHS if k <= law.cap}, documents)


# -- laws ---------------------------------------------------------------------------------------------------------


def fitted_laws(trace: TraceAcceptance) -> Iterator[tuple[str, AcceptanceLaw]]:
    """Every law by name, from the same requests."""
    k = min(FITTED_AT, trace.cap)
    rounds = [RoundHistory(np.zeros_like(x), np.full_like(x, k), x) for x in trace.replay(k)]
    counts = [one.counts() for one in rounds]
    yield "constant", fit_constant(counts).law()
    yield "power law", fit_power_law(counts).law()
    rates = fit_conditional(counts).law().rates  # none for a position that no round got to: taken for never right
    yield "conditional", ConditionalAcceptance(rates=rates + (0.0,) * (k - len(rates)))
    yield "latent, requests", fit_request_levels(counts).law()
    yield "latent, requests and spans", fit_spans(rounds).law()
    hurdle = fit_hurdle(trace)
    yield "hurdle, geometric", hurdle.law()
    yield "hurdle, lengths seen", hurdle.empirical_law()
    yield "replay", trace


def predictions(law: AcceptanceLaw, lengths: Sequence[int], tokens: int) -> dict[str, float]:
    """Acceptance lengths and rates as the law states them; spread and autocorrelation from requests drawn from it."""
    deepest = max(lengths)
    found = {f"AL k={k}": law.expected_tokens(k) for k in lengths}
    found |= {f"r_{i}": float(rate) for i, rate in enumerate(law.survival(deepest), 1)}
    k = min(SHAPE_AT, deepest)
    if isinstance(law, TraceAcceptance):
        rounds = law.replay(k)
    else:
        ids = np.arange(SIMULATED)
        drawn = AcceptanceDraws(law, seed=0).replay(ids, np.full(SIMULATED, tokens + 1), k)
        order = np.argsort(drawn.request, kind="stable")
        rounds = np.split(drawn.accepted[order], np.cumsum(np.bincount(drawn.request))[:-1])
    once = np.ones((1, len(rounds)))
    return found | {"spread": float(_spread(rounds, once)[0]), "lag 1": float(_lag(rounds, once)[0])}


def scores(target: str, traces: RecordedTraces, tested: str = "second") -> Iterator[Score]:
    """Every law of one drafter, fitted on all domains of one half, beside the other half.

    The second half is also scored domain by domain, for the constant law and the domain's own first half.
    """
    first = fitting_half(traces.requests)
    documents = first if tested == "second" else {document(one) for one in traces.requests} - first
    fit, _ = half(traces, ALL, documents, fit=True)
    laws = dict(fitted_laws(fit))
    lengths = [k for k in LENGTHS if k <= traces.cap]
    test = replayed(*half(traces, ALL, documents, fit=False))
    measured, intervals = test.point(), test.intervals()
    for name, law in laws.items():
        for quantity, predicted in predictions(law, lengths, len(fit.runs[0])).items():
            yield Score(
                target,
                traces.drafter,
                tested,
                ALL,
                name,
                quantity,
                predicted,
                measured[quantity],
                *intervals[quantity],
            )
    if tested == "second":
        yield from _by_domain(target, traces, documents, laws["constant"], lengths)


def _by_domain(
    target: str, traces: RecordedTraces, documents: set[str], pooled: AcceptanceLaw, lengths: Sequence[int]
) -> Iterator[Score]:
    for scope in dict.fromkeys(one.domain for one in traces.requests if one.domain):
        test = replayed(*half(traces, scope, documents, fit=False))
        measured, intervals = test.point(), test.intervals()
        own, _ = half(traces, scope, documents, fit=True)
        for name, law in (("constant", pooled), ("replay", own)):
            for quantity in (f"AL k={k}" for k in lengths):
                predicted = law.expected_tokens(int(quantity.removeprefix("AL k=")))
                yield Score(
                    target,
                    traces.drafter,
                    "second",
                    scope,
                    name,
                    quantity,
                    predicted,
                    measured[quantity],
                    *intervals[quantity],
                )


def study(folder: Path = HERE / "traces") -> list[Score]:
    """All scores of all recorded traces."""
    found: list[Score] = []
    for path in sorted(folder.glob("*/*.jsonl")):
        for tested in ("second", "first"):
            found += scores(path.parent.name, read_traces(path), tested)
    return found


def write(rows: Sequence[Score], path: Path) -> None:
    """A line a prediction."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Score)])
        for row in rows:
            values = [getattr(row, field.name) for field in fields(Score)]
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in values])


def read(path: Path) -> list[Score]:
    """What ``write`` wrote."""
    with path.open(newline="") as file:
        return [
            Score(*(row[f.name] if f.type == "str" else float(row[f.name]) for f in fields(Score)))
            for row in csv.DictReader(file)
        ]
