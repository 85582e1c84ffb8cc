"""The machine's own state: a fixed GEMM and copy whose change over time is drift, and a steady moment to measure in.

On a shared machine the same kernel takes 1.5 or 2.7 times as long for seconds at a time while a neighbour uses the
memory. What is measured then says nothing about the kernel, so it is measured again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from specsim.profiling.machine import DTYPES
from specsim.profiling.timer import Capture, Clock, Timing

LONG, SHORT = 40, 5  # samples of a probe that is kept, and of a look between two measurements
DISTURBED = 1.25  # times the typical probe
ATTEMPTS = 3  # at a measurement that no disturbance follows


class MachineProbe:
    """A GEMM of 64 rows and a copy of 16 MiB, prepared once."""

    def __init__(self, device: str, dtype: str, clock: Clock, capture: Capture) -> None:
        x = torch.randn(64, 1024, device=device).to(DTYPES[dtype])
        weights = torch.randn(4096, 1024, device=device).to(DTYPES[dtype])
        source = torch.ones(2**22, device=device)
        target = torch.empty_like(source)

        def work(_: int) -> None:
            torch.nn.functional.linear(x, weights)
            target.copy_(source)

        self._clock = clock
        self._replay, self._launches = capture.capture(work, launches=1, buffers=1)
        self._replay()
        self._looks_s = [self.seconds()]

    def seconds(self, samples: int = LONG) -> float:
        """Median seconds of the probe."""
        return float(np.median([self._clock.seconds(self._replay) for _ in range(samples)])) / self._launches

    def steadily(self, measure: Callable[[], Timing]) -> Timing:
        """What ``measure`` finds, taken again while a disturbance follows it; of disturbed attempts the shortest."""
        found = []
        for _ in range(ATTEMPTS):
            found.append(measure())
            look_s = self.seconds(SHORT)
            self._looks_s.append(look_s)
            if look_s <= DISTURBED * float(np.median(self._looks_s)):
                return found[-1]
        return min(found, key=lambda timing: timing.median_s)


def probe_s(device: str, dtype: str, clock: Clock, capture: Capture) -> float:
    """Median seconds of the probe, once."""
    return MachineProbe(device, dtype, clock, capture).seconds()
