"""Rows of narrow formats in AIConfigurator's tables: what was timed beside a product, and what no engine runs."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from specsim.profiles.schema import Row
from specsim.specs.formats import format_of

# Median time of narrow experts over 16-bit ones of the same shapes from which on a table was measured with a kernel
# that no engine would choose: FP8 experts on Hopper take 2.4 times as long in vLLM's, 0.6 in TensorRT-LLM's.
SLOWEST_NARROW = 1.5
# Median time of products of some rows over those of the next more from which on the fewer are no kernel's: CUTLASS's
# FP8 products of one row take 13 us more than of two on B200, B300, GB200 and GB300, whatever the matrix, in vLLM's
# tables, and as long in SGLang's and TensorRT-LLM's, as on every other card. Elsewhere the ratio is 1.2 at most.
DETOUR = 1.5
FALLBACK = "triton_attn"
LOAD_BYTES = 16  # that kernels load at once, where rows of a matrix begin at whole ones


def slower_than_wide(narrow: Sequence[Row], others: Sequence[Row]) -> bool:
    """Whether narrow weights take longer than 16-bit ones of the same shapes, in the median."""
    wide = {row.shape: row.median_s for row in others if row.dtype == "bfloat16"}
    ratios = [row.median_s / wide[row.shape] for row in narrow if row.shape in wide]
    return bool(ratios) and statistics.median(ratios) > SLOWEST_NARROW


def in_whole_loads(width: float, dtype: str) -> bool:
    """Whether a rank's share of an expert begins at whole loads, as engines require of 8-bit weights.

    Where the tables split 704 inner values over 8 ranks, 88 bytes each, FP8 experts take up to 60 times as long as in
    16 bits on an L40S, and 3 to 8 times on others: value by value.
    """
    return format_of(dtype).bits != 8 or width % LOAD_BYTES == 0


def without_detours(rows: Sequence[Row]) -> list[Row]:
    """GEMM rows but for those of narrow formats and fewer tokens that take much longer than of the next more."""
    times: dict[tuple[str, float], dict[tuple[float, ...], float]] = {}
    for row in rows:
        if format_of(row.dtype).bits < 16:
            times.setdefault((row.dtype, row.shape[0]), {})[row.shape[1:]] = row.median_s
    slow = set()
    for (dtype, few), (other, more) in pairwise(sorted(times)):
        if dtype != other:
            continue
        one, two = times[dtype, few], times[dtype, more]
        ratios = [one[matrix] / two[matrix] for matrix in one.keys() & two.keys()]
        if ratios and statistics.median(ratios) > DETOUR:
            slow.add((dtype, few))
    return [row for row in rows if (row.dtype, row.shape[0]) not in slow]


def without_fallbacks(rows: Sequence[Row]) -> list[Row]:
    """Attention rows but for those of narrow caches that Triton ran where another library ran the most.

    On B200, B300, GB200 and GB300 FlashInfer reads FP8 caches of heads of 64, 128, 256 and 512 values in 0.9 to 1.2 of
    the time of 16 bits; Triton's rows, of heads of 192 alone, would bend what is told of all others.
    """
    narrow = [row for row in rows if format_of(row.dtype).bits < 16]
    slow = [row for row in narrow if FALLBACK in row.kernel]
    if not slow or 2 * len(slow) >= len(narrow):
        return list(rows)
    left_out = {(row.dtype, row.kernel) for row in slow}
    return [row for row in rows if (row.dtype, row.kernel) not in left_out]


def without_quantising(rows: Sequence[Row], path: Path) -> list[Row]:
    """GEMM rows, those of FP8 without the quantisation of their input: that of the next smaller shape in the table.

    At most half of a row is taken for it.
    """
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path, columns=["m", "k", "latency"]).to_pydict()
    taken = dict(zip(zip(columns["m"], columns["k"], strict=True), columns["latency"], strict=True))
    tokens, widths = sorted(set(columns["m"])), sorted(set(columns["k"]))

    def quantising_s(m: float, k: float) -> float:
        near = tokens[max(0, bisect_right(tokens, m) - 1)], widths[max(0, bisect_right(widths, k) - 1)]
        return float(taken.get(near, 0.0)) * 1e-3

    return [
        replace(row, median_s=max(row.median_s - quantising_s(row.shape[0], row.shape[2]), row.median_s / 2))
        if row.dtype == "fp8"
        else row
        for row in rows
    ]
