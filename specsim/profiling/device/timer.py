"""Timing one kernel: warm-up, repeated samples, median and spread.

The sweep knows two objects of a device, and CUDA differs from CPU in nothing else: a Clock that times a replay, and a
Capture that turns launches into a replay (plain calls on a CPU, one CUDA graph on a GPU, so that a small kernel's time
is not its launch time).
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from specsim.errors import NoAnswer
from specsim.profiles.schema import spread_of
from specsim.reference.network.capture import cuda_graph

KernelLaunch = Callable[[int], object]  # runs the kernel on its i-th set of buffers

SAMPLE_S = 1e-4  # a sample repeats short kernels up to this long, well above the clock's resolution
TARGET_S = 0.05  # time spent on samples of one shape
MIN_SAMPLES, MAX_SAMPLES = 7, 60
SLOW_S, SLOW_SAMPLES = 0.02, 4  # kernels longer than this need fewer samples: what disturbs them is short
MAX_DISTURBED_SAMPLES = 16  # where something slow runs before each
LEAD_CYCLES = 400_000  # of a GPU's clock, 0.2 ms: twice what launching the largest graph takes the host
LONGEST_S = 0.25  # of a launch in a graph; one of a big layer's prompt takes a tenth of it
ATTEMPTS, SHORT_S = 3, 0.01  # tries at a sample that no other process interrupts, where it is this short


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one launch over ``samples`` samples."""

    median_s: float
    p10_s: float
    p90_s: float
    samples: int


class Clock(Protocol):
    """Times one call on a device."""

    def seconds(self, run: Callable[[], None], before: Callable[[], object] | None = None) -> float:
        """Device seconds that ``run`` takes; ``before`` runs first and is not counted."""
        ...


class Capture(Protocol):
    """Turns launches into something to replay."""

    mode: str

    def capture(self, launch: KernelLaunch, *, launches: int, buffers: int) -> tuple[Callable[[], None], int]:
        """A replay and how many launches it holds; it goes on cycling through the ``buffers`` sets."""
        ...


class WallClock:
    """A CPU runs when called.

    A sample during which the system took a core away from this process is taken again: with one thread a core, a
    neighbour's time slice (milliseconds) holds up every thread that waits for the one it displaced.
    """

    def seconds(self, run: Callable[[], None], before: Callable[[], object] | None = None) -> float:
        elapsed = 0.0
        for _ in range(ATTEMPTS):
            if before is not None:
                before()
            displaced = displacements()
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if elapsed > SHORT_S or displacements() == displaced:
                break
        return elapsed


def displacements() -> int:
    """How often the system has taken a core away from this process's threads."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class CallCapture:
    """Calls, one after another, through all buffer sets in turn."""

    mode = "eager"

    def capture(self, launch: KernelLaunch, *, launches: int, buffers: int) -> tuple[Callable[[], None], int]:
        turn = 0

        def replay() -> None:
            nonlocal turn
            for _ in range(launches):
                launch(turn % buffers)
                turn += 1

        return replay, launches


class CudaClock:
    """CUDA events around a replay.

    The GPU first spins for ``lead_cycles``, in which the host queues all that is timed: a graph's launch would else
    count as its own time, as long as ten small kernels.
    """

    def __init__(self, lead_cycles: int = LEAD_CYCLES) -> None:
        self._lead_cycles = lead_cycles
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def seconds(self, run: Callable[[], None], before: Callable[[], object] | None = None) -> float:
        if before is not None:
            before()
        if self._lead_cycles:
            torch.cuda._sleep(self._lead_cycles)
        self._start.record()
        run()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3


def clock_of_mode(clock: Clock, mode: str) -> Clock:
    """The clock for calls one by one where ``mode`` is eager: on a GPU the host's pace is then part of the time."""
    return CudaClock(lead_cycles=0) if mode == "eager" and isinstance(clock, CudaClock) else clock


class GraphCapture:
    """One CUDA graph over whole cycles of the buffer sets."""

    mode = "graph"

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # one for all, because libraries keep a workspace for each

    def capture(self, launch: KernelLaunch, *, launches: int, buffers: int) -> tuple[Callable[[], None], int]:
        """Raises RuntimeError for a launch longer than LONGEST_S, which would take up a sweep's minutes."""
        launch(0)  # loads the kernel
        torch.cuda.synchronize()
        start_s = time.perf_counter()
        launch(1 % buffers)
        torch.cuda.synchronize()
        if time.perf_counter() - start_s > LONGEST_S:
            raise RuntimeError(f"one launch takes more than {LONGEST_S:g} s")
        total = -(-max(launches, buffers) // buffers) * buffers

        def whole_cycles() -> None:
            for i in range(total):
                launch(i % buffers)

        graph, _ = cuda_graph(lambda: launch(0), whole_cycles, self._stream)
        return graph.replay, total


def clock_and_capture(device: str) -> tuple[Clock, Capture]:
    """The two objects of a device; raises NoAnswer for cuda without a usable GPU."""
    if device == "cpu":
        return WallClock(), CallCapture()
    if not torch.cuda.is_available():
        raise NoAnswer("torch sees no CUDA device; run with --device cpu, or where a GPU build of torch is installed")
    return CudaClock(), GraphCapture()


class Replay:
    """A kernel captured once, to be sampled in one visit or several.

    With ``before``, every launch is a sample of its own, so that each one meets what ``before`` left behind.
    """

    def __init__(
        self,
        launch: KernelLaunch,
        *,
        buffers: int,
        clock: Clock,
        capture: Capture,
        before: Callable[[], object] | None = None,
    ) -> None:
        self._clock, self._before = clock, before
        replay, launches = capture.capture(launch, launches=1, buffers=buffers)
        replay()
        estimate_s = clock.seconds(replay, before) / launches
        wanted = 1 if before else max(1, int(SAMPLE_S / max(estimate_s, 1e-9)))
        if wanted > launches:
            replay, launches = capture.capture(launch, launches=min(wanted, 256), buffers=buffers)
            replay()
        self._replay, self._launches = replay, launches
        self._slow = estimate_s * launches > SLOW_S

    def visit(self, share: float = 1.0) -> list[float]:
        """Seconds of one launch: samples until TARGET_S or MAX_SAMPLES, MIN_SAMPLES at least; a share of each."""
        least = math.ceil(share * (min(MIN_SAMPLES, SLOW_SAMPLES) if self._slow else MIN_SAMPLES))
        most = share * (MAX_DISTURBED_SAMPLES if self._before else MAX_SAMPLES)
        samples: list[float] = []
        spent = 0.0
        while len(samples) < least or (spent < share * TARGET_S and len(samples) < most):
            seconds = self._clock.seconds(self._replay, self._before)
            spent += seconds
            samples.append(seconds / self._launches)
        return samples


def summary(samples: list[float]) -> Timing:
    """Median and percentiles of samples."""
    return Timing(*spread_of(samples), len(samples))


def measure(
    launch: KernelLaunch, *, buffers: int, clock: Clock, capture: Capture, before: Callable[[], object] | None = None
) -> Timing:
    """Time a kernel in one visit."""
    return summary(Replay(launch, buffers=buffers, clock=clock, capture=capture, before=before).visit())
