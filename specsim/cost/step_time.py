"""The bill of one engine step: what each part of it takes, where the figures come from, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Booleans, Reals
from specsim.cost.forward import SOURCES, Source
from specsim.surfaces.estimates import Z90

WEIGHTY_SHARE = 0.1  # a source behind less of the time than this does not name the whole step's
# ``verify`` is a whole verify pass, from a price source that does not tell its kernels apart; ``prompts`` what steps
# that compute prompts take beyond decoding.
PARTS = (
    "draft", "verify", "gemm", "lm_head", "attention", "elementwise", "sampling", "communication", "host", "prompts",
)  # fmt: skip
BOUNDS = ("memory", "compute", "host", "communication")


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one engine step, or arrays of them for alternatives.

    ``parts``: seconds by name of PARTS. ``low_s`` and ``high_s`` bound a 90 % interval: errors inside a kernel class
    fully correlated, between classes (and the machine's drift, and the host) independent. ``bound``: what most of the
    time waits for, one of BOUNDS. ``seconds`` occupy the replica: then the next step may start. This one's tokens are
    out ``lag_s`` later: time of the host that overlaps with what follows, or of later pipeline stages.
    """

    seconds: Reals
    parts: dict[str, Reals]
    source: Source | NDArray[np.str_]  # the worst one among those that priced a WEIGHTY_SHARE of the time
    low_s: Reals
    high_s: Reals
    errors_s: dict[str, Reals] = field(default_factory=dict)  # one standard deviation by kernel class
    bound: str | NDArray[np.str_] = "memory"
    lag_s: float = 0.0

    @property
    def latency_s(self) -> Reals:
        """From the step's start until its tokens are out."""
        return self.seconds + self.lag_s

    def alternative(self, place: int) -> StepTime:
        """One of array prices, by its place along the first axis; what has no such axis is the same for all."""
        axes = np.ndim(self.seconds)

        def at(value: Any) -> Any:
            return value[place] if np.ndim(value) == axes else value

        return replace(
            self,
            seconds=at(self.seconds),
            parts={name: at(seconds) for name, seconds in self.parts.items()},
            source=at(self.source),
            low_s=at(self.low_s),
            high_s=at(self.high_s),
            errors_s={name: at(error) for name, error in self.errors_s.items()},
            bound=at(self.bound),
        )


def mixture(steps: Sequence[StepTime], shares: Sequence[NDArray[np.float64]]) -> StepTime:
    """The mean of steps of array prices that occur with ``shares`` (arrays like theirs that add up to 1).

    Errors of the same class are taken to go together; source and bound are those of the commonest step.
    """

    def mean(values: Sequence[Reals]) -> Reals:
        return sum((share * value for share, value in zip(shares, values, strict=True)), 0.0)

    def means(tables: Sequence[dict[str, Reals]]) -> dict[str, Reals]:
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: mean([table.get(name, 0.0) for table in tables]) for name in names}

    commonest = np.argmax(np.stack(shares), axis=0)[None]

    def chosen(values: Sequence[object]) -> NDArray[np.str_]:
        stacked = np.stack([np.broadcast_to(np.asarray(value), shares[0].shape) for value in values])
        return np.asarray(np.take_along_axis(stacked, commonest, axis=0)[0])

    return StepTime(
        mean([step.seconds for step in steps]),
        means([step.parts for step in steps]),
        chosen([step.source for step in steps]),
        mean([step.low_s for step in steps]),
        mean([step.high_s for step in steps]),
        means([step.errors_s for step in steps]),
        chosen([step.bound for step in steps]),
    )


def placed(steps: Sequence[tuple[Booleans, StepTime]]) -> StepTime:
    """One StepTime from several of array prices: each with the places of its own, which it has in their order."""

    def together(values: Sequence[object], kind: type) -> NDArray[Any]:
        whole: NDArray[Any] = np.zeros(steps[0][0].shape, dtype=kind)
        for (places, _), value in zip(steps, values, strict=True):
            whole[places] = value
        return whole

    def tables(found: Sequence[dict[str, Reals]]) -> dict[str, Reals]:
        names = dict.fromkeys(name for table in found for name in table)
        return {name: together([table.get(name, 0.0) for table in found], float) for name in names}

    prices = [step for _, step in steps]
    return StepTime(
        together([step.seconds for step in prices], float),
        tables([step.parts for step in prices]),
        together([step.source for step in prices], object).astype(str),
        together([step.low_s for step in prices], float),
        together([step.high_s for step in prices], float),
        tables([step.errors_s for step in prices]),
        together([step.bound for step in prices], object).astype(str),
    )


@dataclass(frozen=True, slots=True)
class Charge:
    """What one kernel adds to a step: ``seconds`` of all its launches."""

    part: str
    kind: str
    seconds: Reals
    error_s: Reals
    rank: Reals
    compute_bound: Reals
    launches: Reals
    launching_s: Reals = 0.0  # that the host spends on launching the pass
    waiting_s: Reals = 0.0  # of ``seconds``, that the device waits for it if the host begins when the device does
    launching_error_s: Reals = 0.0  # of ``launching_s``, one standard deviation


class Bill:
    """Sums charges by part, and their errors by kernel class."""

    def __init__(self) -> None:
        self._parts: dict[str, Reals] = {}
        self._errors_s: dict[str, Reals] = {}
        self._ranks: list[Reals] = [0.0] * len(SOURCES)
        self._compute_s: Reals = 0.0
        self._hidden: list[tuple[str, Reals]] = []  # what an asynchronous engine does while the device computes
        self._device_s: Reals = 0.0  # of all charges, what is not waiting for launches
        self._launching_s: Reals = 0.0
        self._waiting: dict[str, Reals] = {}
        self._launching_error_s: Reals = 0.0  # of all passes, and of those that wait
        self._waiting_error_s: Reals = 0.0

    def add(self, charges: Iterable[Charge], part: str | None = None, times: Reals = 1) -> None:
        """Enter kernels ``times`` over, under their own parts or all under ``part``."""
        for charge in charges:
            name = part or charge.part
            seconds = _times(charge.seconds, times)
            self._parts[name] = self._parts.get(name, 0.0) + seconds
            self._errors_s[charge.kind] = self._errors_s.get(charge.kind, 0.0) + _times(charge.error_s, times)
            self._compute_s = self._compute_s + seconds * charge.compute_bound
            if charge.kind == "host":
                self._add_launches(name, charge, times)
            else:
                self._device_s = self._device_s + seconds
            self._add_rank(charge.rank, seconds)

    def _add_launches(self, name: str, charge: Charge, times: Reals) -> None:
        """What the device waits for a pass's launches, and the host takes for them."""
        self._device_s = self._device_s + times * (charge.seconds - charge.waiting_s)
        self._launching_s = self._launching_s + times * charge.launching_s
        self._launching_error_s = self._launching_error_s + times * charge.launching_error_s
        self._waiting_error_s = self._waiting_error_s + times * charge.launching_error_s * (charge.waiting_s > 0)
        self._waiting[name] = self._waiting.get(name, 0.0) + times * charge.waiting_s

    def _add_rank(self, rank: Reals, seconds: Reals) -> None:
        """Seconds to their source's; of an array of ranks most are alike."""
        worst, best = (int(rank.max()), int(rank.min())) if isinstance(rank, np.ndarray) else (int(rank), int(rank))
        if worst == best:
            self._ranks[worst] = self._ranks[worst] + seconds
            return
        for one in range(worst + 1):
            self._ranks[one] = self._ranks[one] + seconds * (rank == one)

    def add_host(self, part: str, seconds: Reals, relative_error: float, exposed: float) -> None:
        """Enter host time; all but the share ``exposed`` of it is hidden by an asynchronous engine."""
        self._errors_s["host"] = self._errors_s.get("host", 0.0) + seconds * relative_error
        self._parts[part] = self._parts.get(part, 0.0) + exposed * seconds
        if exposed < 1:
            self._hidden.append((part, (1.0 - exposed) * seconds))

    def total(self, machine_error: float, *, overlap: bool) -> StepTime:
        """The step.

        With ``overlap`` the host runs ahead: it launches passes and does its other work beside the device, and the
        longer of the two counts. Else every pass waits for its launches, and the other work comes on top.
        """
        parts = dict(self._parts)
        launching_error_s = self._waiting_error_s
        if overlap:
            for part, waiting in self._waiting.items():
                parts[part] = parts[part] - waiting
            busy_s = self._launching_s + sum((seconds for _, seconds in self._hidden), 0.0)
            parts["host"] = parts.get("host", 0.0) + np.maximum(0.0, busy_s - self._device_s)
            launching_error_s = self._launching_error_s * (busy_s > self._device_s)
        else:
            for part, seconds in self._hidden:
                parts[part] = parts.get(part, 0.0) + seconds
        seconds = sum(parts.values(), 0.0)
        errors = dict(self._errors_s)
        if np.any(launching_error_s):
            errors["host"] = errors.get("host", 0.0) + launching_error_s
        if machine_error:
            errors["machine"] = seconds * machine_error
        half = Z90 * sum((error**2 for error in errors.values()), 0.0) ** 0.5
        low = np.maximum(0.0, seconds - half) if isinstance(half, np.ndarray) else max(0.0, float(seconds - half))
        source, bound = self._source(seconds), self._bound(parts, seconds)
        return StepTime(seconds, parts, source, low, seconds + half, errors, bound)

    def _source(self, seconds: Reals) -> Source | NDArray[np.str_]:
        if not isinstance(seconds, np.ndarray):
            weighty = [s for s, spent in zip(SOURCES, self._ranks, strict=True) if spent >= WEIGHTY_SHARE * seconds]
            return weighty[-1] if weighty else SOURCES[0]
        worst = np.zeros(seconds.shape, dtype=np.int64)
        for rank, spent in enumerate(self._ranks):
            worst = np.where(np.broadcast_to(spent, seconds.shape) >= WEIGHTY_SHARE * seconds, rank, worst)
        return np.array(SOURCES)[worst]

    def _bound(self, parts: dict[str, Reals], seconds: Reals) -> str | NDArray[np.str_]:
        communication = parts.get("communication", 0.0)
        device = sum(self._ranks, 0.0)
        host = seconds - device
        memory = device - communication - self._compute_s
        candidates = (memory, self._compute_s, host, communication)
        if not isinstance(seconds, np.ndarray):
            return BOUNDS[max(range(len(BOUNDS)), key=lambda i: cast(float, candidates[i]))]
        stacked = np.stack([np.broadcast_to(value, seconds.shape) for value in candidates])
        bounds: NDArray[np.str_] = np.array(BOUNDS)[stacked.argmax(axis=0)]
        return bounds


def _times(value: Reals, times: Reals) -> Reals:
    """The product; an array that is taken once as it is."""
    return value if isinstance(times, int) and times == 1 else times * value
