"""The batch that a scenario's own load leads to: the running sequences of a replica that its verdict speaks about.

A closed loop runs its clients but for those that think: B + X(B)·Z = clients, X being requests/s at batch B and Z the
think time. An open loop of rate λ has j requests in the system with the chance

    π(j) ∝ Π_{i<=j} λ / X(min(i, N)),

N the most that run: the law of processor sharing at a speed that depends on the number served, which holds for Poisson
arrivals whatever the lengths (Cohen 1979), and approximately beyond N. Each batch runs its best draft length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.analytic.rounds import default_batches, largest_batch, speedup_map
from specsim.analytic.speedups import SpeedupMap
from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.errors import InvalidInput, NoAnswer
from specsim.workload.arrivals import ClosedLoopArrivals

PRICED_RATIO = 1.2  # of neighbouring batch sizes whose speed is priced; between them it is linear


@dataclass(frozen=True, slots=True)
class LoadBatch:
    """A batch size and where it is from, in words."""

    batch: int
    why: str


def answered_map(
    assembly: Assembly,
    *,
    batch: int | None = None,
    batches: Sequence[int] | None = None,
    context_tokens: float | None = None,
    decode_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SpeedupMap, LoadBatch]:
    """The map of ``speedup_map``, and the batch that a verdict on it speaks about: a row of it.

    ``batch``: in place of the load's own. ``progress``: as of ``speedup_map``. Raises InvalidInput for a batch that
    the engine never runs, NoAnswer for one that does not fit.
    """
    chosen = load_batch(assembly) if batch is None else LoadBatch(batch, "as asked")
    limit = assembly.limits.max_num_seqs
    if not 1 <= chosen.batch <= limit:
        raise InvalidInput(f"a batch of {chosen.batch} sequences; the engine runs 1 to max_num_seqs, {limit}")
    if batches is None:
        context = assembly.context_tokens if context_tokens is None else context_tokens
        batches = default_batches(min(limit, largest_batch(assembly, max(1.0, context))))
    rows = sorted({*batches, chosen.batch})
    found = speedup_map(
        assembly, batches=rows, context_tokens=context_tokens, decode_only=decode_only, progress=progress
    )
    return found, chosen


def load_batch(assembly: Assembly) -> LoadBatch:
    """The mean batch of a replica that decodes, while it runs, whole. Raises NoAnswer if the models do not fit."""
    workload, replicas = assembly.scenario.workload, assembly.scenario.deployment.decode_replicas
    limit, fits = assembly.limits.max_num_seqs, largest_batch(assembly, assembly.context_tokens)
    most = min(limit, fits)
    limited = f"max_num_seqs is {limit}" if limit <= fits else f"the KV cache holds {fits}"
    if workload.clients is not None:
        clients = max(1, round(workload.clients.concurrency / replicas))
        of_each = "" if replicas == 1 else f" of each of {replicas} replicas"
        if clients > most:
            return LoadBatch(most, f"{clients} closed-loop clients{of_each}, and {limited}")
        if workload.clients.think_s:
            running = _running(clients, workload.clients.think_s, speeds(assembly, most))
            return LoadBatch(running, f"{clients} closed-loop clients{of_each}, less those that think")
        return LoadBatch(clients, f"the closed loop's clients{of_each}")
    rate = arrival_rate_per_s(assembly) / replicas
    speed = speeds(assembly, most)
    each = "" if replicas == 1 else " a replica"
    if rate >= speed[-1]:
        return LoadBatch(most, f"{rate:.3g} requests/s{each} exceed the {speed[-1]:.3g} that can be served; {limited}")
    return LoadBatch(mean_running(rate, speed), f"the mean at {rate:.3g} requests/s{each}")


def arrival_rate_per_s(assembly: Assembly) -> float:
    """Mean arrivals per second of an open loop."""
    workload = assembly.scenario.workload
    arrivals = workload.arrivals
    if arrivals is not None and not isinstance(arrivals, ClosedLoopArrivals):
        return arrivals.mean_rate_per_s()
    times = workload.draw(assembly.seed).arrival_s
    if times is None or len(times) < 2 or not times[-1] > times[0]:
        raise NoAnswer("the trace's requests arrive at one time, which is no rate; add workload.arrivals")
    return float((len(times) - 1) / (times[-1] - times[0]))


def speeds(assembly: Assembly, most: int) -> Floats:
    """Requests/s of a replica at batches 1 to ``most``, each at its best draft length: never falling, [most]."""
    sizes = np.unique(np.round(PRICED_RATIO ** np.arange(np.log(most) / np.log(PRICED_RATIO) + 1)).astype(int))
    sizes = np.unique(np.append(sizes[sizes < most], most))
    found = speedup_map(assembly, batches=sizes.tolist(), acceptance_error=False)
    _, output = assembly.scenario.workload.mean_lengths()
    best = [found.cell(one.batch, one.draft_tokens).output_tokens_per_s / output for one in found.best()]
    return np.maximum.accumulate(np.interp(np.arange(1, most + 1), sizes, best))


def mean_running(rate: float, speed: Floats) -> int:
    """Mean running requests while there are any, at ``rate`` below the last of ``speed`` [N]; at least 1."""
    logs = np.cumsum(np.log(rate / speed))
    weights = np.exp(logs - logs.max())
    full = rate / speed[-1]
    weights[-1] /= 1.0 - full  # a geometric tail of requests that wait
    return max(1, round(float(weights @ np.arange(1, len(speed) + 1) / weights.sum())))


def _running(clients: int, think_s: float, speed: Floats) -> int:
    """The batch at which as many clients run as do not think."""
    batch = np.arange(1, len(speed) + 1)
    return int(batch[np.abs(batch + speed * think_s - clients).argmin()])
