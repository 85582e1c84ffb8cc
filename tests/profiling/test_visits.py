"""Rows over several visits: what the anchors explain is taken out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiles.schema import Ceilings  # noqa: E402
from specsim.profiling.sweep.plan import Shape  # noqa: E402
from specsim.profiling.sweep.visits import MOST_CORRECTION, Visits  # noqa: E402

COPY, RATE = 4e10, 8e11
CEILINGS = Ceilings(copy_bytes_per_s=COPY, flops_per_s={"bfloat16": RATE})
TYPICAL = {"memory": 1e-4, "compute": 2e-4, "attention": 3e-4, "elementwise": 4e-4, "host": 5e-4}
GEMM = Shape("gemm", "", (8, 2048, 1024), "cold", "bfloat16")
factors = st.floats(1.0 / MOST_CORRECTION, MOST_CORRECTION)  # beyond them nothing more is corrected


def look(**factor: float) -> dict[str, float]:
    return {name: seconds * factor.get(name, 1.0) for name, seconds in TYPICAL.items()}


def visits() -> Visits:
    return Visits(CEILINGS, RATE, "eager")


@given(memory=st.lists(factors, min_size=1, max_size=6), compute=factors)
def test_a_product_between_memory_and_compute_keeps_its_time(memory: list[float], compute: float) -> None:
    """Its ideal time is the root of squares of streaming and multiplying, each slowed by its own anchor."""
    streaming = 2 * (2048 * 1024 + 8 * (2048 + 1024)) / COPY
    multiplying = 2 * 8 * 2048 * 1024 / RATE
    found = visits()
    for slow in memory:
        seconds = 1.3 * float(np.hypot(streaming * slow, multiplying * compute))
        found.add(GEMM, "linear", [seconds, seconds], look(memory=slow, compute=compute))
    row = found.row(GEMM, TYPICAL)
    assert row.median_s == pytest.approx(1.3 * float(np.hypot(streaming, multiplying)))
    assert row.p10_s == pytest.approx(row.p90_s)
    assert row.samples == 2 * len(memory)


def test_a_warm_product_does_not_mind_slow_memory() -> None:
    warm = Shape("gemm", "", (8, 512, 256), "warm", "bfloat16")
    found = visits()
    found.add(warm, "linear", [2e-5], look(memory=2.0))
    assert found.row(warm, TYPICAL).median_s == 2e-5
    found.add(warm, "linear", [3e-5], look(compute=1.5))
    assert found.row(warm, TYPICAL).median_s == pytest.approx(2e-5)


@given(slow=factors)
def test_other_classes_have_an_anchor_each(slow: float) -> None:
    norm = Shape("elementwise", "norm", (8, 512), "warm", "bfloat16")
    decode = Shape("attention", "", (8, 1, 128, 8, 2, 64), "cold", "bfloat16")
    found = visits()
    found.add(norm, "norm", [slow * 1e-5], look(elementwise=slow, memory=3.0))
    found.add(decode, "attend", [slow * 1e-4], look(attention=slow, compute=3.0))
    assert found.row(norm, TYPICAL).median_s == pytest.approx(1e-5)
    assert found.row(decode, TYPICAL).median_s == pytest.approx(1e-4)


def test_visits_without_a_look_count_as_they_are() -> None:
    found = visits()
    found.add(GEMM, "linear", [1e-3], {})
    found.add(GEMM, "linear", [2e-3, 3e-3], look())
    row = found.row(GEMM, TYPICAL)
    assert (row.median_s, row.samples, row.kernel, row.mode) == (2e-3, 3, "linear", "eager")


def test_anchors_far_off_correct_no_further_than_was_ever_seen() -> None:
    """Anchors that took ten times as long met time slices which short kernels are spared: the row is not a tenth."""
    visits = Visits(CEILINGS, RATE, "eager")
    wild = dict.fromkeys(("memory", "compute", "attention", "elementwise", "host"), 1.0)
    visits.add(GEMM, "linear", [1e-3] * 5, dict.fromkeys(wild, 10.0))
    assert visits.row(GEMM, wild).median_s == pytest.approx(1e-3 / MOST_CORRECTION)
