"""Acceptance that moves between levels along the output: exact statistics of rounds started in such a chain.

The level of an output position stays that of the position before with probability ``persistence`` and is drawn anew
from the weights otherwise. Rounds are longer where the level is high, so fewer of them start there: the law of the
level at a round's start is not the weights but the stationary law of the chain of round starts, solved here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats


@dataclass(frozen=True, slots=True)
class RoundStatistics:
    """Means over rounds. Leading dimensions are those of the chain's weights before the last."""

    survival: Floats  # [..., k]: r_1..r_k
    proposed: Floats  # [..., k]: P(at least i tokens are proposed for verification)
    computed: Floats  # [..., k]: P(at least i draft tokens are computed), the one that ended the draft included


def round_statistics(
    rates: Floats,
    weights: Floats,
    persistence: float,
    draft_tokens: int,
    *,
    decay: float = 1.0,
    stops: Floats | None = None,
    keep_last: bool = False,
) -> RoundStatistics:
    """Rounds of up to ``draft_tokens`` over levels with acceptance ``rates`` and ``weights``, shape [..., levels].

    Draft i is accepted with probability rate·decay^(i-1). Where ``stops`` [levels] is 1 drafting ends, and the token
    at that level is proposed only with ``keep_last``. ``persistence`` must be below 1.
    """
    levels = weights.shape[-1]
    go_on = np.ones(levels) if stops is None else 1.0 - stops
    alive = np.broadcast_to(np.eye(levels), (*weights.shape[:-1], levels, levels))  # from start level to level here
    drafting, following = alive, np.zeros_like(alive)
    reached, computed, proposed = [], [], []
    for step in range(draft_tokens):
        rate = (rates * decay**step)[..., None, :] * (1.0 if keep_last else go_on)
        right = alive * rate
        reached.append(right.sum(axis=-1))
        following = following + _move(alive - right, weights, persistence)
        moved = _move(right, weights, persistence)
        if keep_last:
            ended = _move(right * (1.0 - go_on), weights, persistence)
            following = following + _move(ended, weights, persistence)
            moved = moved - ended
        alive = moved
        computed.append(drafting.sum(axis=-1))
        proposed.append((drafting if keep_last else drafting * go_on).sum(axis=-1))
        drafting = _move(drafting * go_on, weights, persistence)
    following = following + _move(alive, weights, persistence)
    start = _stationary(following)[..., None, :]

    def mean(parts: list[Floats]) -> Floats:
        """[..., k] from k conditional means [..., start level]."""
        if not parts:
            return np.zeros((*start.shape[:-2], 0))
        return np.asarray((np.stack(parts, axis=-2) * start).sum(axis=-1), dtype=np.float64)

    return RoundStatistics(mean(reached), mean(proposed), mean(computed))


def _move(mass: Floats, weights: Floats, persistence: float) -> Floats:
    """One output position further; ``mass`` [..., start, level]."""
    anew = mass.sum(axis=-1, keepdims=True) * weights[..., None, :]
    return np.asarray(persistence * mass + (1.0 - persistence) * anew, dtype=np.float64)


def _stationary(transition: Floats) -> Floats:
    """v with v·P = v and Σ v = 1, for P of shape [..., levels, levels]."""
    levels = transition.shape[-1]
    system = np.swapaxes(transition, -1, -2) - np.eye(levels) + 1.0
    ones = np.ones((*transition.shape[:-1], 1))
    return np.asarray(np.linalg.solve(system, ones)[..., 0], dtype=np.float64)


def beta_levels(mean: Floats, concentration: float, count: int) -> tuple[Floats, Floats]:
    """Gauss quadrature of Beta(m·c, (1-m)·c): nodes and weights, shape [..., count].

    Exact for polynomials of degree below 2·count (Golub and Welsch, Math. Comp. 1969, on the Jacobi polynomials).
    """
    a, b = mean * concentration, (1.0 - mean) * concentration
    n = np.arange(1, count, dtype=np.float64)
    left, right = a[..., None] - 1.0, b[..., None] - 1.0
    total = left + right
    middle = (left**2 - right**2) / ((2 * n + total) * (2 * n + total + 2))
    # For n = 1 one factor cancels, and would be 0/0 at a + b = 1.
    cancelled = np.where(n == 1, 1.0, (n + total) / np.where(n == 1, 1.0, 2 * n + total - 1))
    squares = 4 * n * (n + left) * (n + right) * cancelled / ((2 * n + total) ** 2 * (2 * n + total + 1))
    diagonal = np.concatenate((((a - b) / (a + b))[..., None], middle), axis=-1)
    matrix = np.zeros((*mean.shape, count, count))
    index = np.arange(count)
    matrix[..., index, index] = diagonal
    matrix[..., index[1:], index[:-1]] = np.sqrt(squares)
    values, vectors = np.linalg.eigh(matrix)
    return np.clip((1.0 + values) / 2.0, 0.0, 1.0), vectors[..., 0, :] ** 2
