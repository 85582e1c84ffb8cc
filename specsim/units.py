"""Unit conversions at the edges; inside specsim everything is SI (seconds, bytes, FLOP).

GB is 10^9 bytes and GiB is 2^30 bytes, as NVIDIA's datasheets and operating systems write them.
"""

from __future__ import annotations

KB = 10**3
MB = 10**6
GB = 10**9
KIB = 2**10
MIB = 2**20
GIB = 2**30
TERA = 10**12
GIGA = 10**9


def format_seconds(seconds: float) -> str:
    """A duration with a unit a person reads at ease: ``0.0000123`` is ``12.3 us``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def format_bytes(count: float) -> str:
    """Bytes in decimal units: ``2_500_000`` is ``2.5 MB``."""
    for scale, unit in ((GB, "GB"), (MB, "MB"), (KB, "kB")):
        if abs(count) >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"
