"""Anchors: short fixed kernels, one a kind of work, whose times tell what a shared machine is like at this moment.

A neighbour that reads memory slows what streams weights and leaves matrix products alone; one that computes does the
opposite. A profile keeps what the anchors took while it was measured. What they take now, over that, says how much
longer each kind of kernel takes now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import trim_mean

from specsim.errors import InvalidInput
from specsim.profiles.schema import ProfileHeader
from specsim.profiling.device.machine import Machine, inspect
from specsim.profiling.device.timer import Clock, WallClock, clock_and_capture
from specsim.profiling.kernels.launches import Kernels
from specsim.profiling.sweep.plan import Shape
from specsim.specs.conditions import Conditions

ANCHORS = tuple(Conditions.model_fields)
TRIMMED = 0.1  # of the looks, at either end
HOST_TURNS = 4000  # of the host's loop: a third of a millisecond


@dataclass(frozen=True, slots=True)
class _Work:
    """A kernel that stands for its kind, and how often one look launches it."""

    kind: str
    operation: str
    shape: tuple[float, ...]
    cache: str
    launches: int


WORK = {
    "memory": _Work("gemm", "", (1, 4096, 1024), "cold", 4),  # one row: the weights' way from memory, and no more
    "compute": _Work("gemm", "", (64, 4096, 1024), "warm", 2),
    "attention": _Work("attention", "", (16, 4, 192, 16, 8, 64), "warm", 2),
    "elementwise": _Work("elementwise", "norm", (64, 1024), "warm", 20),
}


@dataclass(frozen=True, slots=True)
class _Prepared:
    replay: Callable[[], None]
    launches: int
    clock: Clock

    def seconds(self) -> float:
        self.replay()  # whatever ran before has filled the caches with its own
        return self.clock.seconds(self.replay) / self.launches


class Anchors:
    """The anchors of one device and dtype, prepared once: on a CPU buffers of nine last-level caches or so.

    Raises NoAnswer for cuda without a usable GPU.
    """

    def __init__(self, device: str, dtype: str, machine: Machine | None = None) -> None:
        clock, capture = clock_and_capture(device)
        machine = inspect(device) if machine is None else machine
        self._prepared: dict[str, _Prepared] = {}
        for name, work in WORK.items():
            kernels = Kernels(machine, dtype, clock, capture)  # it keeps the weights of one shape: one an anchor
            found = kernels.prepare(Shape(work.kind, work.operation, work.shape, work.cache, dtype))
            replay, launches = capture.capture(found.launch, launches=work.launches, buffers=found.buffers)
            self._prepared[name] = _Prepared(replay, launches, clock)
        self._prepared["host"] = _Prepared(_host, 1, WallClock())

    def look(self) -> dict[str, float]:
        """Seconds of one launch of each anchor, now; 20 ms in all on two CPU cores.

        All run once beforehand: right after other work the first ones would take up to 8 % longer than in a second
        look, and looks would depend on what they interrupt.
        """
        for prepared in self._prepared.values():
            prepared.replay()
        return {name: self._prepared[name].seconds() for name in ANCHORS}

    def typical(self, seconds: float) -> dict[str, float]:
        """What looks give that follow one another for ``seconds``; one look at least."""
        until_s = time.monotonic() + seconds
        looks = [self.look()]
        while time.monotonic() < until_s:
            looks.append(self.look())
        return typical(looks)


class Looks:
    """Looks at the anchors while something else is measured, at most one every ``every_s``."""

    def __init__(self, anchors: Anchors, every_s: float) -> None:
        self._anchors, self._every_s = anchors, every_s
        self._looks: list[dict[str, float]] = []
        self._next_s = 0.0

    def look(self) -> dict[str, float]:
        """Look; the caches are then full of the anchors' data."""
        self._looks.append(self._anchors.look())
        self._next_s = time.monotonic() + self._every_s
        return self._looks[-1]

    def look_when_due(self) -> None:
        """Look, where the last look is long enough ago."""
        if time.monotonic() >= self._next_s:
            self.look()

    def take(self) -> tuple[int, dict[str, float]]:
        """How many looks there were since the last time, at least one, and what the anchors typically took."""
        looks, self._looks = self._looks, []
        return len(looks), typical(looks)

    def typical(self) -> dict[str, float]:
        """What the anchors typically took so far; empty before the first look."""
        return typical(self._looks) if self._looks else {}


def typical(looks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The trimmed mean of each anchor over looks [s]; raises ValueError for none.

    A mean, because the machine changes from second to second and passes meet all of it; trimmed, because a look that
    the system interrupts says nothing of the kernel. With fewer than ten looks nothing is trimmed.
    """
    if not looks:
        raise ValueError("no look at the anchors was taken")
    return {name: float(trim_mean([look[name] for look in looks], TRIMMED)) for name in looks[0]}


def ratios(now: Mapping[str, float], profiled: Mapping[str, float]) -> dict[str, float]:
    """Times longer that each anchor takes now than it did while the profile was measured: 1.5 is half as long again.

    Anchors that either side lacks are left out.
    """
    return {name: now[name] / profiled[name] for name in ANCHORS if name in now and name in profiled}


def anchors_of(header: ProfileHeader) -> tuple[dict[str, float], Anchors]:
    """What a profile's anchors took [s], and the same anchors prepared on this machine.

    Raises InvalidInput for a profile without them, of another device or of another number of threads.
    """
    profiled = header.probe.anchors if header.probe is not None else {}
    if not profiled:
        raise InvalidInput(
            f"the profile of {header.device_name} holds no anchors to compare with; profile it again with specsim "
            "profile run"
        )
    clock_and_capture(header.device)  # cuda is there at all
    machine = inspect(header.device)
    if machine.device_name != header.device_name:
        raise InvalidInput(
            f"the profile is of {header.device_name} and this machine is {machine.device_name}; run this where the "
            "profile was measured"
        )
    if machine.threads != header.threads:
        raise InvalidInput(
            f"the profile was measured with {header.threads} threads and torch runs {machine.threads} here; set "
            f"OMP_NUM_THREADS={header.threads}"
        )
    return dict(profiled), Anchors(header.device, header.dtype, machine)


def _host() -> None:
    """What an engine's own Python does: numbers, look-ups, appends."""
    seen: dict[int, int] = {}
    kept: list[int] = []
    value = 1
    for turn in range(HOST_TURNS):
        value = (31 * value + turn) & 1023
        seen[value & 63] = turn
        if value < 512:
            kept.append(value)
