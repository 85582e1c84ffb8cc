"""The machine's own state: a fixed GEMM and copy whose change over time is drift, and a steady moment to measure in.

On a shared machine another process or guest can make the same kernel take several times as long for a while. What is
measured then says nothing about the kernel, so it is measured again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from specsim.profiling.device.machine import DTYPES
from specsim.profiling.device.timer import Capture, Clock
from specsim.reference.network.cpu import this_cpu

_Taken = TypeVar("_Taken")
LONG, SHORT = 40, 5  # samples of a probe that is kept, and of a look between two measurements
UNBROKEN = 200  # consecutive probes, a third of a second or so, in which interruptions of milliseconds are counted
PROBING_S, LEAST_PROBES = 0.6, 5  # of such a series on a slow machine
DISTURBED = 1.4  # times the typical probe; memory bandwidth alone moves it by 1.25
ATTEMPTS = 3  # at a measurement that no disturbance follows


class MachineProbe:
    """A GEMM of 64 rows and a copy of 16 MiB, prepared once; the GEMM in ``dtype`` unless the CPU emulates that."""

    def __init__(self, device: str, dtype: str, clock: Clock, capture: Capture) -> None:
        if device == "cpu" and this_cpu().emulation(dtype) is not None:
            dtype = this_cpu().default_dtype  # hundreds of looks, which shall be short
        x = torch.randn(64, 1024, device=device).to(DTYPES[dtype])
        weights = torch.randn(4096, 1024, device=device).to(DTYPES[dtype])
        source = torch.ones(2**22, device=device)
        target = torch.empty_like(source)

        def work(_: int) -> None:
            torch.nn.functional.linear(x, weights)
            target.copy_(source)

        self._clock, self._device = clock, device
        self._replay, self._launches = capture.capture(work, launches=1, buffers=1)
        self._replay()
        self._looks_s = [self.seconds()]

    def seconds(self, samples: int = LONG) -> float:
        """Median seconds of the probe."""
        taken = _within(PROBING_S, samples, lambda: self._clock.seconds(self._replay))
        return float(np.median(taken)) / self._launches

    def interrupted(self) -> float:
        """Mean over median of consecutive probes, less 1; on a CPU by the wall clock, whatever comes between."""
        seconds = np.array(_within(PROBING_S, UNBROKEN, self._unbroken))
        return max(0.0, float(seconds.mean() / np.median(seconds)) - 1.0)

    def steadily(self, take: Callable[[], _Taken]) -> _Taken:
        """What ``take`` measures, taken again, ATTEMPTS times at most, while a disturbance follows it."""
        taken = take()
        for _ in range(ATTEMPTS - 1):
            if self._is_steady():
                break
            taken = take()
        return taken

    def _unbroken(self) -> float:
        if self._device != "cpu":
            return self._clock.seconds(self._replay)
        start = time.perf_counter()  # the sweep's own clock takes interrupted samples again
        self._replay()
        return time.perf_counter() - start

    def _is_steady(self) -> bool:
        look_s = self.seconds(SHORT)
        self._looks_s.append(look_s)
        return look_s <= DISTURBED * float(np.median(self._looks_s))


def _within(limit_s: float, count: int, take: Callable[[], float]) -> list[float]:
    """``count`` values, or those that take ``limit_s`` seconds, LEAST_PROBES at least where so many are asked."""
    until_s = time.monotonic() + limit_s
    taken: list[float] = []
    while len(taken) < count and (len(taken) < LEAST_PROBES or time.monotonic() < until_s):
        taken.append(take())
    return taken


def probe_s(device: str, dtype: str, clock: Clock, capture: Capture) -> float:
    """Median seconds of the probe, once."""
    return MachineProbe(device, dtype, clock, capture).seconds()
