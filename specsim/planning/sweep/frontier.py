"""The Pareto frontier of a sweep: throughput a GPU, or cost, against the speed that one user sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.errors import InvalidInput
from specsim.planning.sweep.answers import AnswerRow

PER_GPU, PER_USER = "output_tokens_per_s_per_gpu", "output_tokens_per_s_per_user"
UsdPerGpuHour = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Offer:
    """One answered point. ``batch``: sequences a replica runs. ``usd``: per million output tokens; None: no price."""

    key: str
    drafter: str
    draft_tokens: int
    gpu: str
    gpus: int
    tensor_parallel: int
    replicas: int
    batch: float
    per_gpu: float
    per_user: float
    usd: float | None

    @property
    def speculates(self) -> bool:
        return self.drafter != "off" and self.draft_tokens > 0

    @property
    def label(self) -> str:
        """``eagle3 k=3, 2x TP4 H200``."""
        drafts = f"{self.drafter} k={self.draft_tokens}" if self.speculates else "off"
        replicas = "" if self.replicas == 1 else f"{self.replicas}x "
        return f"{drafts}, {replicas}TP{self.tensor_parallel} {self.gpu}"


def offers(rows: Sequence[AnswerRow], price: UsdPerGpuHour | None = None) -> list[Offer]:
    """The rows that have an answer. Raises InvalidInput where a GPU has no price."""
    found = []
    for row in rows:
        if row.get("error") is not None or not row.get(PER_GPU) or not row.get(PER_USER):
            continue
        usd = None if price is None else _usd_per_hour(price, row["gpu"]) * 1e6 / (3600 * row[PER_GPU])
        found.append(
            Offer(
                row["key"],
                row["drafter"],
                int(row["draft_tokens"]),
                row["gpu"],
                int(row["gpus"]),
                int(row["tensor_parallel"]),
                int(row["replicas"]),
                float(row["batch"] or 0.0),
                float(row[PER_GPU]),
                float(row[PER_USER]),
                usd,
            )
        )
    return found


def throughput(offer: Offer) -> float:
    """Output tokens/s/GPU."""
    return offer.per_gpu


def cheapness(offer: Offer) -> float:
    """Output tokens a dollar."""
    return 1e6 / offer.usd if offer.usd else 0.0


def frontier(points: Sequence[Offer], worth: Callable[[Offer], float] = throughput) -> list[Offer]:
    """The offers that no other beats in both speed for a user and worth, by rising speed."""
    best: list[Offer] = []
    for one in sorted(points, key=lambda offer: (-offer.per_user, -worth(offer))):
        if not best or worth(one) > worth(best[-1]):
            best.append(one)
    return best[::-1]


@dataclass(frozen=True, slots=True)
class Gain:
    """Throughput a GPU of one frontier over another's at the same speed for a user, in output tokens/s."""

    per_user: float
    ratio: float


def gains(on: Sequence[Offer], off: Sequence[Offer]) -> list[Gain]:
    """``on`` over ``off``, two frontiers, at each speed of a point that lies within both; none where they share none.

    Between points both are straight lines, as drawn. A ratio of two lines is monotonic, so that the least and the
    most of all speeds are among these.
    """
    if not on or not off:
        return []
    low, high = max(on[0].per_user, off[0].per_user), min(on[-1].per_user, off[-1].per_user)
    speeds = sorted({one.per_user for one in (*on, *off) if low <= one.per_user <= high})
    return [Gain(speed, _per_gpu_at(on, speed) / _per_gpu_at(off, speed)) for speed in speeds]


def _per_gpu_at(best: Sequence[Offer], per_user: float) -> float:
    return float(np.interp(per_user, [one.per_user for one in best], [one.per_gpu for one in best]))


def _usd_per_hour(price: UsdPerGpuHour, gpu: str) -> float:
    if not isinstance(price, Mapping):
        return price
    named = {name.lower(): usd for name, usd in price.items()}
    if gpu.lower() not in named:
        raise InvalidInput(f"usd_per_gpu_hour names {', '.join(price)} and no {gpu.lower()}; add its price")
    return named[gpu.lower()]
