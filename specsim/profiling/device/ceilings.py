"""The rates a profile's efficiencies refer to, and the launch overhead."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import torch

from specsim.errors import NoAnswer
from specsim.profiling.device.timer import Capture, Clock, WallClock, measure
from specsim.profiling.kernels.formats import activation_dtype, convert, multiply

SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192)}  # of the matrices whose product is a ceiling, ascending
LAUNCHES = 8  # of each size, about
LIMIT_S = 60.0  # for all ceilings together where nobody says


def copy_ceiling(device: str, clock: Clock, capture: Capture) -> float:
    """Bytes per second, read plus write, of one large copy."""
    size = 2**28 if device == "cpu" else 2**31
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    timing = measure(lambda _: target.copy_(source), buffers=1, clock=clock, capture=capture)
    return 2 * size / timing.median_s


def compute_ceilings(
    device: str, dtypes: Iterable[str], clock: Clock, capture: Capture, limit_s: float = LIMIT_S
) -> dict[str, float]:
    """FLOP/s of large matrix products in each dtype this device runs, the best of a few sizes.

    Larger products are tried while they fit into ``limit_s`` seconds. Raises NoAnswer where the first dtype, the
    sweep's own, does not run at all.
    """
    found: dict[str, float] = {}
    wanted = list(dtypes)
    for dtype in wanted:
        try:
            found[dtype] = _compute_ceiling(device, dtype, clock, capture, limit_s / len(wanted))
        except (RuntimeError, NotImplementedError) as error:
            if dtype == wanted[0]:
                reason = str(error).strip().split("\n")[0][:120]
                raise NoAnswer(f"no matrix product runs in {dtype} here ({reason}); choose another --dtype") from error
            continue  # its kernels will say so
    return found


def _compute_ceiling(device: str, dtype: str, clock: Clock, capture: Capture, limit_s: float) -> float:
    best, until_s = 0.0, time.monotonic() + limit_s
    with torch.inference_mode():
        for size in SIZES[device]:
            random = torch.randn(size, size, device=device)
            weight = convert(random, dtype, "bfloat16")
            x = random.to(activation_dtype(dtype, "bfloat16"))
            timing = measure(lambda _, x=x, w=weight: multiply(x, w), buffers=1, clock=clock, capture=capture)  # type: ignore[misc]
            best = max(best, 2 * size**3 / timing.median_s)
            if time.monotonic() + LAUNCHES * 8 * timing.median_s > until_s:  # twice the size, eight times the work
                break
    return best


def launch_overhead_s(device: str) -> float:
    """Host seconds to launch one tiny operation eagerly, from Python."""
    clock, x = WallClock(), torch.zeros(1, device=device)

    def launches() -> None:
        for _ in range(200):
            x.add_(1.0)

    def idle() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    launches()
    return float(np.median([clock.seconds(launches, idle) for _ in range(15)])) / 200
