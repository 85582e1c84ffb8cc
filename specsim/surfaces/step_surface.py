"""Whole measured steps between the shapes that were measured: a physical mean, and a smooth correction to it.

The mean is what a step's time is made of: a constant (weights, host), and shares a draft (a pass of the drafter), a
sequence, a token, a key read and a pair of token and key, all non-negative. The correction is of the logarithm of
measured over mean, in logarithmic coordinates of tokens, sequences and keys, tabulated once: matrix products know only
how many tokens a step has, and some numbers of them suit a machine better than their neighbours do. Beyond the
measured range it stays at its edge and the mean goes on.

Compared on a vLLM table whose rows repeat within 5 %: bracketing every axis, linearly or by PCHIP, in the time or its
logarithm, hands their noise on; this averages it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from specsim.arrays import Floats, Reals
from specsim.surfaces.correction import Correction
from specsim.surfaces.estimates import EXTRAPOLATED, INTERPOLATED, MEASURED, Z90
from specsim.surfaces.look_up import LookUp, grid

FEWEST_TO_HALVE = 40
SEQUENCE_KNOTS = 48
EXTRAPOLATED_ERROR = 2.0  # beyond the measured range a time is taken to be this many times less certain


@dataclass(frozen=True, slots=True)
class StepEstimates:
    """``rank``: 0 measured, 1 interpolated, 2 extrapolated. ``error``: one standard deviation as a share of seconds.

    ``compute``: the share of the mean that grows with tokens, not with what is read.
    """

    seconds: Reals
    rank: Reals
    error: Reals
    compute: Reals


class StepSurface:
    """Seconds of decode and verify steps over (sequences, query_len, kv_len)."""

    def __init__(self, shapes: Floats, seconds: Floats, *, noise: float = 0.01) -> None:
        """``shapes``: [rows, 3], positive. ``seconds``: [rows]; several rows of one shape are averaged.

        ``noise``: one standard deviation of a row's time, as a share; the rows may show it to be more, not less.
        """
        if len(seconds) == 0:
            raise ValueError("a surface needs at least one row")
        self._mean, correction = _fit(shapes, seconds, noise)
        knots = (_sequence_knots(shapes[:, 0]), _integers(shapes[:, 1]), _with_middles(shapes[:, 2]))
        nodes = [np.log(axis) for axis in knots]
        log_factor, error = correction.at(_coordinates(grid(nodes)))
        self._look_up = LookUp(nodes, (log_factor, error * _error_scale(shapes, seconds, noise)))
        self._measured = frozenset(map(tuple, shapes.tolist()))

    def at(self, sequences: Reals, query_len: Reals, kv_len: Reals) -> StepEstimates:
        """Seconds of steps; all floats give floats, arrays broadcast like NumPy's."""
        weights, a_draft, a_sequence, a_token, a_key, a_pair = self._mean
        tokens = sequences * query_len
        compute = a_token * tokens + a_pair * tokens * kv_len
        mean = weights + a_draft * (query_len - 1) + a_sequence * sequences + a_key * sequences * kv_len + compute
        place = (sequences, query_len, kv_len)
        if isinstance(mean, np.ndarray):
            (factors, errors), beyond, _ = self._look_up.many([np.log(x) for x in place])
            outside = beyond > 0.0
            ranks = np.where(outside, EXTRAPOLATED, INTERPOLATED)
            errors = errors * np.where(outside, EXTRAPOLATED_ERROR, 1.0)
            return StepEstimates(mean * np.exp(factors), ranks, errors, compute / mean)
        (factor, error), distance, _ = self._look_up.one([math.log(x) for x in place])
        seconds, share = float(mean * math.exp(factor)), float(compute / mean)
        if distance:
            return StepEstimates(seconds, EXTRAPOLATED, error * EXTRAPOLATED_ERROR, share)
        known = tuple(map(float, place)) in self._measured
        return StepEstimates(seconds, MEASURED if known else INTERPOLATED, error, share)


def _features(sequences: Floats, query_len: Floats, kv_len: Floats) -> Floats:
    """[rows, 6]: constant, draft, sequence, token, key read, pair of token and key."""
    tokens, ones = sequences * query_len, np.ones_like(sequences)
    return np.stack([ones, query_len - 1, sequences, tokens, sequences * kv_len, tokens * kv_len], axis=1)


def _coordinates(logarithms: Floats) -> Floats:
    """[rows, 3] logarithms of tokens, sequences and KV length, from those of sequences, query and KV length."""
    sequences, query_len, kv_len = logarithms.T
    return np.stack([sequences + query_len, sequences, kv_len], axis=1)


def _fit(shapes: Floats, seconds: Floats, noise: float) -> tuple[Floats, Correction]:
    """The mean's coefficients, those of least relative squares, and the correction of its logarithm."""
    features = _features(*shapes.T)
    mean = non_negative_fit(features, seconds)
    return mean, Correction(_coordinates(np.log(shapes)), np.log(seconds / (features @ mean)), noise)


def _error_scale(shapes: Floats, seconds: Floats, noise: float) -> float:
    """What makes 90 % intervals hold for rows that a fit has not seen: two halves, each foretold by the other."""
    if len(seconds) < FEWEST_TO_HALVE:
        return 1.0
    first = np.random.default_rng(1).permutation(len(seconds)) < len(seconds) // 2
    deviations: list[float] = []
    for half in (first, ~first):
        mean, correction = _fit(shapes[half], seconds[half], noise)
        log_factor, error = correction.at(_coordinates(np.log(shapes[~half])))
        found = _features(*shapes[~half].T) @ mean * np.exp(log_factor)
        deviations += (np.abs(np.log(seconds[~half] / found)) / error).tolist()
    return max(1.0, float(np.percentile(deviations, 90)) / Z90)


def non_negative_fit(features: Floats, seconds: Floats) -> Floats:
    """Non-negative coefficients that leave the least squares of relative error."""
    relative = features / seconds[:, None]
    scale = np.maximum(relative.max(axis=0), np.finfo(float).tiny)
    coefficients: Floats = nnls(relative / scale, np.ones(len(seconds)))[0] / scale
    return coefficients


# -- where the correction is tabulated --------------------------------------------------------------------------


def _sequence_knots(measured: Floats) -> Floats:
    """What was measured and integers between, about evenly in the logarithm."""
    between = np.geomspace(measured.min(), measured.max(), SEQUENCE_KNOTS).round()
    return np.unique(np.concatenate([measured, between]))


def _integers(measured: Floats) -> Floats:
    return np.unique(
        np.concatenate([measured, np.arange(math.ceil(measured.min()), math.floor(measured.max()) + 1.0)])
    )


def _with_middles(measured: Floats) -> Floats:
    levels = np.unique(measured)
    return np.unique(np.concatenate([levels, np.sqrt(levels[1:] * levels[:-1])]))


# -- prompt chunks ----------------------------------------------------------------------------------------------


class ChunkTimes:
    """Seconds of steps that hold one prompt chunk: linear in its tokens between those measured, and in pairs of
    token and key.
    """

    def __init__(self, shapes: Floats, seconds: Floats) -> None:
        """``shapes``: [rows, 2], chunk tokens and the KV length that they end at."""
        tokens, kv_lens = shapes.T
        pairs = tokens * kv_lens
        features = np.stack([np.ones_like(tokens), tokens, pairs], axis=1)
        self._a_pair = float(non_negative_fit(features, seconds)[2])
        levels = np.unique(tokens)
        rest = [float(np.median((seconds - self._a_pair * pairs)[tokens == level])) for level in levels]
        self._tokens, self._rest_s = levels, np.maximum.accumulate(np.maximum(rest, 0.0))

    def at(self, tokens: float, kv_len: Reals) -> tuple[Reals, bool]:
        """Seconds, and whether the chunk is longer or shorter than any measured: the nearest piece then goes on."""
        levels, rest = self._tokens, self._rest_s
        outside = not levels[0] <= tokens <= levels[-1]
        if tokens > levels[-1]:
            share = rest[-1] / levels[-1] if len(levels) == 1 else (rest[-1] - rest[-2]) / (levels[-1] - levels[-2])
            seconds = rest[-1] + share * (tokens - levels[-1])
        else:
            seconds = np.interp(tokens, levels, rest)
        return float(seconds) + self._a_pair * tokens * kv_len, outside
