"""By how much the prices, the acceptance and the front end of each of several runs are off: see ``uncertainty``.

Runs come in pairs of opposite draws, and the columns of the draws are orthogonal: first the shared ones and
acceptance's, then the doublings from 1 token on, as many as there are pairs; the front end's comes last. Where a
metric's logarithm is linear in the draws, the spread over the runs is then the true one, whatever the direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats, Reals
from specsim.speculation.round import SHARED_ERRORS

PRICE_STREAM, ACCEPTANCE_STREAM = 301, 302  # generators of a seed
DOUBLINGS = 21  # of a step's tokens that have a draw of their own: 1 to 2^20


@dataclass(frozen=True, slots=True)
class PriceDraw:
    """By how many standard deviations the prices of one run are off; ``by_doubling``: [DOUBLINGS].

    ``acceptance``: by how many the log of accepted tokens is; ``frontend``: the log of its seconds.
    """

    shared: dict[str, float]  # by class of SHARED_ERRORS
    acceptance: float
    stand_ins: float
    by_doubling: Floats
    frontend: float = 0.0

    def kernels(self, tokens: Reals) -> Floats:
        """Of measured kernels in a step of so many tokens."""
        place = np.clip(np.log2(np.maximum(tokens, 1.0)), 0.0, DOUBLINGS - 1.0)
        left = np.minimum(place.astype(np.int64), DOUBLINGS - 2)
        share = place - left
        mixed = (1.0 - share) * self.by_doubling[left] + share * self.by_doubling[left + 1]
        return np.asarray(mixed / np.hypot(1.0 - share, share))


def price_draws(runs: int, seed: int, *, acceptance: bool = True) -> list[PriceDraw]:
    """Draws of an even number of runs, as above; each column has mean 0, mean square 1.

    Without ``acceptance`` it has no column, and is 0.
    """
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PRICE_STREAM,)))
    half, width = runs // 2, len(SHARED_ERRORS) + acceptance + 1 + DOUBLINGS
    drawn = np.column_stack((generator.standard_normal((half, width)), generator.standard_normal(half)))
    orthogonal, upper = np.linalg.qr(drawn[:, :half])
    drawn[:, : orthogonal.shape[1]] = orthogonal * np.sign(np.diag(upper))
    drawn *= math.sqrt(half) / np.linalg.norm(drawn, axis=0)
    if not acceptance:
        drawn = np.insert(drawn, len(SHARED_ERRORS), 0.0, axis=1)
    return [_draw(row) for row in np.concatenate((drawn, -drawn))]


def _draw(row: Floats) -> PriceDraw:
    count = len(SHARED_ERRORS)
    shared, (acceptance, stand_ins) = row[:count].tolist(), row[count : count + 2].tolist()
    found = dict(zip(SHARED_ERRORS, shared, strict=True))
    return PriceDraw(found, acceptance, stand_ins, row[count + 2 : -1], float(row[-1]))


def acceptance_seeds(seed: int, runs: int) -> list[int]:
    """A seed of each run's own luck."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(ACCEPTANCE_STREAM,)))
    return [int(one) for one in generator.integers(2**31, size=runs)]
