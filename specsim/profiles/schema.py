"""What a profile holds: a YAML header and one CSV a kernel class, readable in a diff.

Each class has its own shape columns, then the same measurement columns. A row is one median over repeated launches
of one shape; a row that cannot be true (non-finite, negative, faster than the machine could be) is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from specsim.arrays import Floats
from specsim.specs.hardware import Dtype
from specsim.validated import Validated

Cache = Literal["cold", "warm"]

SHAPE_COLUMNS: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("sequences", "query_tokens", "kv_tokens", "num_heads", "num_kv_heads", "head_dim"),
    "elementwise": ("tokens", "width"),
    "sampling": ("rows", "vocab_size"),
    "moe": ("tokens", "hidden_size", "intermediate_size", "num_experts", "experts_per_token"),
    "collective": ("bytes", "ranks"),
    "host": ("sequences",),
    "pass": ("sequences", "query_tokens", "kv_tokens"),
    "steps": ("sequences", "query_len", "kv_len", "num_draft_tokens", "prefill_tokens"),
}
MEASUREMENT_COLUMNS = (
    "operation", "dtype", "kernel", "cache", "mode", "median_s", "p10_s", "p90_s", "samples", "source",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One measured shape. ``operation`` tells kernels of one class apart (elementwise, sampling, host).

    ``source``: measured, or the foreign table the row comes from. ``p10_s``, ``p90_s``, ``samples``: None where that
    table gives none.
    """

    shape: tuple[float, ...]
    operation: str
    dtype: str
    kernel: str  # what ran, for instance torch.linear
    cache: str  # cold: read from memory; warm: left in the last-level cache by the pass before
    mode: str  # eager or graph
    median_s: float
    p10_s: float | None
    p90_s: float | None
    samples: int | None
    source: str = "measured"

    @property
    def spread(self) -> float:
        """(p90 - p10) / median; 0 where the percentiles are unknown."""
        if self.p10_s is None or self.p90_s is None:
            return 0.0
        return (self.p90_s - self.p10_s) / self.median_s

    def key(self) -> tuple[object, ...]:
        """What makes a measurement the same one when a sweep resumes."""
        return (*self.shape, self.operation, self.dtype, self.cache, self.mode)


def spread_of(samples: Sequence[float] | Floats) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of measured seconds, each at least a nanosecond: no row holds less."""
    p10, median, p90 = np.maximum(np.percentile(samples, [10, 50, 90]), 1e-9).tolist()
    return median, p10, p90


class Ceilings(Validated):
    """The two measured rates every efficiency refers to: a large copy (read plus write) and large matrix products."""

    copy_bytes_per_s: PositiveFloat
    flops_per_s: dict[Dtype, PositiveFloat] = Field(min_length=1)
    processors: PositiveInt | None = None  # that share out a matrix product's tiles, where known


class HeldoutError(Validated):
    """|predicted / measured - 1| over rows predicted from a profile without them.

    ``coverage``: share of them inside the stated 90 % intervals; ``interval``: half the width of these as a share of
    the prediction, the median. ``error_scale``: what those intervals are scaled by, found on ``calibration_n`` other
    rows, as the index of the surface's ``metric`` was. ``seed``, ``unseen``: of the draw from a large table, and how
    many test rows have a matrix or head layout that the profile does not hold at all.
    """

    median: float = Field(ge=0)
    p90: float = Field(ge=0)
    n: PositiveInt
    coverage: float | None = Field(None, ge=0, le=1)
    interval: float | None = Field(None, ge=0)
    error_scale: PositiveFloat | None = None
    metric: NonNegativeInt | None = None
    calibration_n: PositiveInt | None = None
    seed: NonNegativeInt | None = None
    unseen: NonNegativeInt | None = None


class Probe(Validated):
    """The same GEMM and copy before, during and after the sweep: how far the machine drifted meanwhile.

    ``interrupted``: mean over median of consecutive probes, less 1, each time: the share of its time that the system
    took away or others slowed. Kernel times are medians of samples that nothing interrupted and do not hold it.
    ``anchors``: seconds of each anchor (profiling/device/anchors.py), their trimmed mean over the sweep.
    """

    before_s: PositiveFloat
    during_s: list[PositiveFloat] = Field(default_factory=list)
    after_s: PositiveFloat | None = None
    interrupted: list[NonNegativeFloat] = Field(default_factory=list)
    anchors: dict[str, PositiveFloat] = Field(default_factory=dict)


class ProfileHeader(Validated):
    """Who measured what, where and with what.

    A profile from another project's tables has ``importer``, ``backend`` and ``rejected_rows`` (by class, rows that
    cannot be true) and no ``probe``; its ceilings are a datasheet's.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    gpu: str  # name of a hardware preset, or a name of the user's own
    device_name: str
    device: Literal["cpu", "cuda"]
    threads: PositiveInt
    clocks: str
    driver: str
    versions: dict[str, str]
    date: str
    attribution: str
    last_level_cache_bytes: PositiveInt
    memory_bytes: PositiveInt
    launch_s: PositiveFloat
    ceilings: Ceilings
    probe: Probe | None = None
    backend: str | None = None  # engine and version whose kernels were timed
    importer: str | None = None
    system: str | None = None  # what the importer's tables call this machine
    rejected_rows: dict[str, NonNegativeInt] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)  # what this device could not run, one line a kind of kernel
    heldout_error: dict[str, HeldoutError] = Field(default_factory=dict)  # by class, and by class and surface

    @property
    def dtype(self) -> str:
        """What its passes run in: the first of its ceilings, whose sweep it was."""
        return next(str(name) for name in self.ceilings.flops_per_s)
