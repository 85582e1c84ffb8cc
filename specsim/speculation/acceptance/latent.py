"""Requests differ: each has an acceptance level of its own, and within a request the level may come in spans.

Two means must not be mixed. Over **requests**, E[AL_r] weights each request alike. Over **rounds**, as pooled counters
and throughput see it, slow requests weigh more because they take more rounds: 1 / E[1/AL_r] for requests of equal
length. Levels of AL 1.5 and 4, half each: 2.75 over requests, 2.18 over rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from specsim.arrays import Floats, Integers
from specsim.speculation.acceptance.law import AcceptanceLaw, leading_right
from specsim.speculation.acceptance.levels import beta_levels, round_statistics
from specsim.speculation.uniform import stream_seed, uniform
from specsim.validated import Share, Validated

REQUEST_LEVELS, SPAN_LEVELS = 48, 24  # quadrature nodes
REQUEST_STREAM, SPAN_STREAM, LEVEL_STREAM = 1, 2, 3


class BetaLevels(Validated):
    """Levels of requests follow Beta(mean·concentration, (1-mean)·concentration); variance m(1-m)/(c+1)."""

    kind: Literal["beta"] = "beta"
    mean: float = Field(gt=0, lt=1)
    concentration: PositiveFloat

    def nodes(self) -> tuple[Floats, Floats]:
        return _request_nodes(self.mean, self.concentration)

    def quantile(self, u: Floats) -> Floats:
        return _beta_quantile(np.array(self.mean), self.concentration, u)


class DiscreteLevels(Validated):
    """A few kinds of request, for instance domains: the level of each, and its share of the requests."""

    smallest: ClassVar[float] = 0.0

    kind: Literal["discrete"] = "discrete"
    rates: tuple[Share, ...] = Field(min_length=1)
    weights: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _matched(self) -> DiscreteLevels:
        if len(self.weights) != len(self.rates):
            raise ValueError(f"{len(self.rates)} rates and {len(self.weights)} weights; give one weight a rate")
        return self

    def nodes(self) -> tuple[Floats, Floats]:
        weights = np.array(self.weights)
        return np.array(self.rates), weights / weights.sum()

    def quantile(self, u: Floats) -> Floats:
        rates, weights = self.nodes()
        return rates[np.minimum(np.searchsorted(np.cumsum(weights), u, side="right"), len(rates) - 1)]


class Spans(Validated):
    """Within a request: spans of ``mean_tokens`` output tokens, each with a level drawn from a Beta law around the
    request's own. Lengths are geometric, so a token's level is that of the one before with probability 1 - 1/mean.
    """

    mean_tokens: float = Field(ge=1)
    concentration: PositiveFloat

    @property
    def persistence(self) -> float:
        return 1.0 - 1.0 / self.mean_tokens


@dataclass(frozen=True, slots=True)
class RequestLengths:
    """Acceptance length of long requests at each level of the request law, and the share of requests at it."""

    levels: Floats
    acceptance_length: Floats
    share: Floats

    @property
    def mean(self) -> float:
        """Each request counted alike."""
        return float(self.share @ self.acceptance_length)

    @property
    def standard_deviation(self) -> float:
        return float(np.sqrt(self.share @ (self.acceptance_length - self.mean) ** 2))


class LatentAcceptance(AcceptanceLaw):
    """Draft i is accepted with probability level·decay^(i-1), the level being the request's, or its span's."""

    kind: Literal["latent"] = "latent"
    requests: Annotated[BetaLevels | DiscreteLevels, Field(discriminator="kind")]
    spans: Spans | None = None
    decay: Share = 1.0

    track_fields: ClassVar[int] = 1

    def survival(self, draft_tokens: int) -> Floats:
        """Over rounds, for requests of equal, long output. Quadrature over levels, exact to about 1e-9."""
        survival, share = self._by_level(draft_tokens)
        rounds = share / (1.0 + survival.sum(axis=-1))
        return np.asarray(rounds @ survival / rounds.sum(), dtype=np.float64)

    def by_request(self, draft_tokens: int) -> RequestLengths:
        """The law of the acceptance length over requests."""
        survival, share = self._by_level(draft_tokens)
        return RequestLengths(self.requests.nodes()[0], 1.0 + survival.sum(axis=-1), share)

    def _by_level(self, draft_tokens: int) -> tuple[Floats, Floats]:
        """r_1..r_k of a request at each level, [levels, k], and the levels' share of the requests."""
        levels, share = self.requests.nodes()
        if self.spans is None:
            steps = np.arange(draft_tokens)
            return np.asarray(np.cumprod(levels[:, None] * self.decay**steps, axis=1), dtype=np.float64), share
        inner = np.clip(levels, 1e-9, 1.0 - 1e-9)
        rates, weights = beta_levels(inner, self.spans.concentration, SPAN_LEVELS)
        found = round_statistics(rates, weights, self.spans.persistence, draft_tokens, decay=self.decay)
        return found.survival, share

    def track(self, seed: int, request_ids: Integers, tokens: int) -> Floats:
        """Levels, [requests, tokens, 1]."""
        first = np.zeros(1, dtype=np.int64)
        request = self.requests.quantile(uniform(seed, request_ids[:, None], first, stream=REQUEST_STREAM))
        if self.spans is None:
            return np.broadcast_to(request[:, :, None], (len(request_ids), tokens, 1))
        from specsim.speculation.acceptance.compiled_spans import draw_spans  # numba comes with it

        row, start, number = draw_spans(request_ids, tokens, self.spans.persistence, span_seeds(seed))
        levels = _beta_quantile(request[row, 0], self.spans.concentration, number, np.float32)
        lengths = np.diff(row * tokens + start, append=len(request_ids) * tokens)
        return np.repeat(levels, lengths).reshape(len(request_ids), tokens, 1)

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        rates = track[:, :, 0] * self.decay ** np.arange(track.shape[1])
        return leading_right(seed, request_ids, positions, draft_tokens, rates)


def span_seeds(seed: int) -> dict[str, int]:
    """What keys the numbers of spans."""
    return {"span_seed": stream_seed(seed, SPAN_STREAM), "level_seed": stream_seed(seed, LEVEL_STREAM)}


@lru_cache(maxsize=64)
def _request_nodes(mean: float, concentration: float) -> tuple[Floats, Floats]:
    return beta_levels(np.array(mean), concentration, REQUEST_LEVELS)


def _beta_quantile(mean: Floats, concentration: float, u: Floats, precision: type[np.floating] = np.float64) -> Floats:
    """Single precision takes half as long; it is off by about 1e-7, at most 4e-5 (concentrations of 0.5 to 1e4)."""
    from scipy.special import betaincinv  # a slow import that other laws do without

    inside = np.clip(mean, 1e-9, 1.0 - 1e-9)
    shapes = (inside * concentration, (1.0 - inside) * concentration, u)
    return np.asarray(betaincinv(*(one.astype(precision) for one in shapes)), dtype=np.float64)
