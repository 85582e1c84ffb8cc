"""Statistics of latencies, service levels, and whether a run was overloaded: definitions used by every engine."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specsim.results.records import PERCENTILES, RequestRecord, Slo, StepRecord
from specsim.results.sketch import QuantileSketch


def statistics(name: str, seconds: NDArray[np.float64] | QuantileSketch) -> dict[str, float | None]:
    """Mean, median, standard deviation and percentiles in ms under ``vllm bench serve`` keys; None without values."""
    keys = ("mean", "median", "std", *(f"p{p}" for p in PERCENTILES))
    if isinstance(seconds, QuantileSketch):
        quantiles = [seconds.quantile(p / 100) for p in PERCENTILES]
        values, empty = (seconds.mean(), quantiles[0], seconds.std(), *quantiles), not seconds.count
    else:
        empty = seconds.size == 0
        quantiles = [] if empty else np.percentile(seconds, PERCENTILES).tolist()
        values = () if empty else (float(seconds.mean()), quantiles[0], float(seconds.std()), *quantiles)
    if empty:
        return {f"{key}_{name}_ms": None for key in keys}
    return {f"{key}_{name}_ms": 1e3 * value for key, value in zip(keys, values, strict=True)}


def meets(record: RequestRecord, slo: Slo) -> bool:
    """Whether one request stays within every limit of a single request."""
    limits = slo.request_limits()
    return (
        (limits.ttft_s is None or record.ttft_s <= limits.ttft_s)
        and (limits.tpot_s is None or (record.tpot_s or 0.0) <= limits.tpot_s)
        and (limits.e2e_s is None or record.e2e_s <= limits.e2e_s)
    )


def good_requests(records: Sequence[RequestRecord], slo: Slo) -> int:
    """Requests within the SLO's limits."""
    return sum(meets(r, slo) for r in records)


Waiting = tuple[float, float]  # half-way between the first arrival and the last, and at the last


def queue_kept_growing(waiting: Waiting, arrived: int) -> bool:
    """Whether the queue grew as long as requests arrived, so that latencies depend on how long the run was.

    The rule: at the last arrival more than 2·√arrived requests are waiting, and more than 1.5 times those that were
    half-way in time. A queue in balance stays bounded and one at exactly full load wanders by about √arrived, while
    one that cannot be served grows in proportion.
    """
    half_way, at_end = waiting
    return at_end > 2 * arrived**0.5 and at_end > 1.5 * half_way


def left_waiting(
    arrivals_s: Sequence[float], steps: Sequence[Sequence[StepRecord]], others: Sequence[Sequence[StepRecord]] = ()
) -> Waiting:
    """Requests that the steps under way half-way and at the last arrival left waiting; ``steps`` by replica.

    What each replica's last step that started by then left, and its share of what came since. ``others``: of replicas
    to which requests come only from other replicas.
    """
    if not arrivals_s:
        return 0.0, 0.0
    in_order = np.sort(np.asarray(arrivals_s, dtype=np.float64))

    def at(time_s: float) -> float:
        count = 0.0
        for number, one in enumerate((*steps, *others)):
            index = bisect_right(one, time_s, key=lambda step: step.start_s)
            count += one[index - 1].waiting if index else 0
            if number < len(steps):
                begun_s = one[index - 1].start_s if index else -np.inf
                since = np.searchsorted(in_order, [begun_s, time_s], side="right")
                count += float(since[1] - since[0]) / len(steps)
        return count

    first_s, last_s = float(in_order[0]), float(in_order[-1])
    return at((first_s + last_s) / 2) if last_s > first_s else 0.0, at(last_s)
