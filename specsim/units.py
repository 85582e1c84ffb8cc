"""Unit conversions at the edges; inside specsim everything is SI (seconds, bytes, FLOP).

GB is 10^9 bytes, as datasheets write it (GiB would be 2^30).
"""

from __future__ import annotations

GB = 10**9


def format_gpus(count: int) -> str:
    """``1 GPU``, ``2 GPUs``."""
    return f"{count} GPU{'s' if count != 1 else ''}"


def format_seconds(seconds: float) -> str:
    """A duration with a unit a person reads at ease: ``0.0000123`` is ``12.3 us``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
