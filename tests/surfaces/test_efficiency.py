"""Efficiency surfaces: exact where measured, exact for machines that follow a law, honest in between and beyond."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.profiles.schema import Row
from specsim.specs.kernel_work import work
from specsim.surfaces.axes import unfilled
from specsim.surfaces.efficiency import EfficiencySurface
from specsim.surfaces.regimes import regime, rows_of_regime

BYTES, FLOPS = 1e12, 1e14
M, N, K = (1.0, 2.0, 8.0, 32.0, 100.0, 512.0), (256.0, 1000.0, 4096.0, 16384.0), (128.0, 512.0, 2048.0)
BATCHES, WIDTHS, KEYS = (1.0, 4.0, 32.0, 256.0), (1.0, 2.0, 4.0, 8.0), (64.0, 500.0, 4000.0, 32000.0)
LAYOUTS = ((8.0, 8.0, 64.0), (32.0, 8.0, 128.0), (16.0, 2.0, 128.0))


def row(shape: tuple[float, ...], seconds: float, dtype: str = "bfloat16") -> Row:
    return Row(shape, "", dtype, "made", "cold", "graph", seconds, seconds, seconds, 9)


def gemm_rows(law: object) -> list[Row]:
    return [row(shape, law(*shape)) for shape in itertools.product(M, N, K)]  # type: ignore[operator]


def bumpy(*shape: float) -> float:
    """Times with no law in them, the same each run: what real kernels look like at worst."""
    seed = [int(1000 * value) for value in shape]
    return float(np.random.default_rng(seed).lognormal(np.log(1e-5 * shape[0] ** 0.3 * shape[1] ** 0.4), 0.3))


def attention_shapes() -> list[tuple[float, ...]]:
    return [(b, q, keys, *layout) for b in BATCHES for q in WIDTHS for keys in KEYS for layout in LAYOUTS]


@cache
def bumpy_gemm() -> EfficiencySurface:
    return EfficiencySurface("gemm", gemm_rows(bumpy), BYTES, FLOPS)


@cache
def bumpy_attention() -> EfficiencySurface:
    return EfficiencySurface("attention", [row(s, bumpy(*s)) for s in attention_shapes()], BYTES, FLOPS)


def power_law(m: float, n: float, k: float) -> float:
    return float(3e-6 * m**0.25 * n**0.5 * k**0.3)


@given(st.floats(1, 512), st.floats(256, 16384), st.floats(128, 2048))
@settings(max_examples=50)
def test_a_power_law_machine_is_reproduced_exactly(m: float, n: float, k: float) -> None:
    """Ceilings out of reach leave the ideal time constant, so the efficiency itself is the power law."""
    surface = EfficiencySurface("gemm", gemm_rows(power_law), 1e30, 1e30)
    estimate = surface.seconds((m, n, k))
    assert estimate.seconds == pytest.approx(power_law(m, n, k), rel=1e-6)
    assert estimate.rank < 2


@given(st.floats(1, 512), st.floats(256, 16384), st.floats(128, 2048))
@settings(max_examples=50)
def test_a_machine_at_a_fixed_share_of_its_roofline_is_reproduced_exactly(m: float, n: float, k: float) -> None:
    """The shortest row is the floor; beyond it this machine takes 1.4 times the root of squares."""
    floor = 5e-6

    def seconds(m: float, n: float, k: float) -> float:
        moved, flops = work("gemm", (m, n, k))
        return float(1.4 * (floor / 1.4 + ((moved / BYTES) ** 2 + (flops / FLOPS) ** 2) ** 0.5))

    tiny = row((1.0, 256.0, 128.0), floor)
    rows = [tiny, *(row(s, seconds(*s)) for s in itertools.product(M, N, K) if s != tiny.shape)]
    truth = seconds(m, n, k)
    assert EfficiencySurface("gemm", rows, BYTES, FLOPS).seconds((m, n, k)).seconds == pytest.approx(truth, rel=0.15)


@given(st.floats(1, 512), st.floats(256, 16384), st.floats(128, 2048))
@settings(max_examples=50)
def test_a_machine_that_computes_rows_in_tiles_is_recognised(m: float, n: float, k: float) -> None:
    """65 rows cost as many FLOPs as 128 on it, and a surface of a few sizes says so of every other one."""
    floor = 5e-6

    def seconds(m: float, n: float, k: float) -> float:
        moved, _ = work("gemm", (m, n, k))
        _, flops = work("gemm", (math.ceil(m / 64) * 64, n, k))
        return float(floor + ((moved / BYTES) ** 2 + (flops / FLOPS) ** 2) ** 0.5)

    sizes = (1.0, 16.0, 64.0, 65.0, 128.0, 160.0, 256.0, 257.0, 512.0)
    rows = [row((1.0, 64.0, 64.0), floor), *(row(s, seconds(*s)) for s in itertools.product(sizes, N, K))]
    surface = EfficiencySurface("gemm", rows, BYTES, FLOPS)
    assert surface.seconds((m, n, k)).seconds == pytest.approx(seconds(m, n, k), rel=0.02)


def rounds_machine(m: float, n: float, k: float, processors: int = 100) -> float:
    """Tiles of 128 x 128 on 100 processors, one each at a time: 101 tiles take as long as 200."""
    tiles = math.ceil(m / 128) * math.ceil(n / 128)
    return 2e-6 + math.ceil(tiles / processors) * 2.0 * 128 * 128 * k / (FLOPS / processors)


def test_processors_tell_outputs_of_one_round_from_those_of_two() -> None:
    """Matrices of two widths that were not measured: the errors of a machine of rounds halve once its processors are
    known, and no other number of them does as well."""
    sizes = (512.0, 1024.0, 1536.0, 2048.0, 3072.0, 3584.0, 4096.0, 5120.0, 6144.0)
    row_counts = [128.0 * i for i in range(1, 33)]
    rows = [row(shape, rounds_machine(*shape)) for shape in itertools.product(row_counts, sizes, (2048.0,))]
    asked = list(itertools.product(row_counts, (2560.0, 4608.0), (2048.0,)))
    truth = np.array([rounds_machine(*shape) for shape in asked])

    def error(processors: int | None) -> float:
        surface = EfficiencySurface("gemm", rows, 1e15, FLOPS, 1.0, 4 if processors else 0, processors)
        told = np.asarray(surface.seconds(tuple(np.array(asked).T)).seconds)
        return float(np.mean(np.abs(told / truth - 1.0)))

    assert error(100) < 0.5 * error(None)
    assert error(100) < 0.75 * error(73)


def test_measured_shapes_come_back_exactly_where_processors_are_known() -> None:
    """Full tiles stay full through logarithms and back: 128 rows are one tile of 128, not two."""
    shapes = list(itertools.product((1.0, 127.0, 128.0, 129.0, 384.0), N, K))
    rows = [row(shape, rounds_machine(*shape)) for shape in shapes]
    surface = EfficiencySurface("gemm", rows, 1e15, FLOPS, 1.0, 4, processors=100)
    for shape in shapes:
        estimate = surface.seconds(shape)
        assert estimate.seconds == pytest.approx(rounds_machine(*shape), rel=1e-9)
        assert estimate.rank == 0


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 200))
def test_unfilled_counts_rounds_of_tiles(m: int, n: int, processors: int) -> None:
    """Root mean square over all tile sizes, counted tile by tile."""
    found = unfilled(np.array([float(m)]), np.array([float(n)]), processors)[0]
    counted = []
    for high, wide in itertools.product(range(32, 257, 32), repeat=2):
        tiles = len(range(0, m, high)) * len(range(0, n, wide))
        rounds = len(range(0, tiles, processors))
        counted.append(math.log(rounds * processors * high * wide / (m * n)))
    assert sorted(found * 8.0) == pytest.approx(sorted(counted), abs=1e-9)
    assert found.min() >= 0.0


@pytest.mark.parametrize("make", [bumpy_gemm, bumpy_attention])
def test_measured_shapes_come_back_exactly(make: object) -> None:
    surface = make()  # type: ignore[operator]
    shapes = list(itertools.product(M, N, K)) if make is bumpy_gemm else attention_shapes()
    for shape in shapes:
        estimate = surface.seconds(shape)
        assert estimate.seconds == pytest.approx(bumpy(*shape), rel=1e-9)
        assert estimate.rank == 0
    together = surface.seconds(tuple(np.array(shapes).T))
    assert together.seconds == pytest.approx([bumpy(*shape) for shape in shapes], rel=1e-9)
    assert (np.asarray(together.rank) == 0).all()


@given(
    st.lists(st.tuples(st.floats(0.5, 1000), st.floats(0.5, 20), st.floats(10, 1e5)), min_size=1, max_size=9),
    st.sampled_from([*LAYOUTS, (40.0, 10.0, 96.0), (64.0, 1.0, 576.0)]),
)
@settings(max_examples=100)
def test_one_shape_and_arrays_of_shapes_agree(
    running: list[tuple[float, float, float]], layout: tuple[float, float, float]
) -> None:
    surface = bumpy_attention()
    many = surface.seconds((*np.array(running).T, *layout))
    for i, shape in enumerate(running):
        one = surface.seconds((*shape, *layout))
        assert isinstance(one.seconds, float)
        assert np.asarray(many.seconds)[i] == pytest.approx(one.seconds, rel=1e-12)
        assert np.asarray(many.error)[i] == pytest.approx(one.error, rel=1e-12)
        assert np.asarray(many.rank)[i] == one.rank


def test_arrays_broadcast_over_every_dimension() -> None:
    m, n = np.array([[1.0], [7.0], [300.0]]), np.array([256.0, 700.0, 4096.0, 9000.0])
    found = bumpy_gemm().seconds((m, n, 512.0))
    assert np.shape(found.seconds) == np.shape(found.rank) == np.shape(found.error) == (3, 4)
    one = bumpy_gemm().seconds((7.0, 700.0, 512.0))
    assert np.asarray(found.seconds)[1, 1] == pytest.approx(one.seconds, rel=1e-12)


@given(st.floats(1.01, 100), st.floats(1.01, 100))
@settings(max_examples=50)
def test_the_further_outside_the_less_certain(nearer: float, factor: float) -> None:
    """Beyond the largest measured m and n: extrapolated, and the stated error grows with the distance."""
    surface = bumpy_gemm()
    for grow in (lambda x: (512.0 * x, 1000.0, 512.0), lambda x: (8.0, 16384.0 * x, 512.0)):
        near, far = surface.seconds(grow(nearer)), surface.seconds(grow(nearer * factor))
        assert near.rank == far.rank == 2
        assert far.error >= near.error >= surface.seconds(grow(1.0)).error


def test_between_measurements_the_error_is_larger_than_on_them() -> None:
    surface = bumpy_gemm()
    on, between = surface.seconds((8.0, 1000.0, 512.0)), surface.seconds((16.0, 2000.0, 1000.0))
    assert between.rank == 1
    assert between.error > on.error


def test_stated_intervals_hold_nine_of_ten_left_out_rows() -> None:
    """A machine with 5 % of noise on a smooth law: 90 % intervals from half of the rows cover the other half."""
    rng = np.random.default_rng(1)
    shapes = [(float(m), float(n), float(k)) for m, n, k in np.exp(rng.uniform(1, 8, size=(600, 3)))]
    rows = [row(s, power_law(*s) * float(np.exp(0.05 * rng.normal()))) for s in shapes]
    surface = EfficiencySurface("gemm", rows[::2], 1e30, 1e30)
    told = surface.seconds(tuple(np.array(shapes[1::2]).T))
    truth = np.array([r.median_s for r in rows[1::2]])
    covered = np.abs(truth / np.asarray(told.seconds) - 1) <= 1.645 * np.asarray(told.error)
    assert 0.83 <= covered.mean() <= 0.97


def test_regimes_split_the_rows() -> None:
    def attention(queries: float, keys: float) -> Row:
        return row((1.0, queries, keys, 8.0, 8.0, 64.0), 1e-5)

    decode, narrow, wide, prompt = attention(1, 500), attention(4, 500), attention(32, 500), attention(16, 16)
    rows = [decode, narrow, wide, prompt]
    assert rows_of_regime(rows, "decode") == [decode]
    assert rows_of_regime(rows, "verify") == [decode, narrow, wide]
    assert rows_of_regime(rows, "prefill") == [wide, prompt]
    assert rows_of_regime([decode, prompt], "verify") == []
    assert [regime(q) for q in (1, 2, 64, 65)] == ["decode", "verify", "verify", "prefill"]


@pytest.mark.slow
def test_look_ups_are_fast() -> None:
    """A scalar in tens of microseconds, 100,000 points in well under a tenth of a second, even on a busy machine."""
    surface = bumpy_attention()
    rng = np.random.default_rng(0)
    running = rng.uniform(1, 200, 100_000), rng.uniform(1, 8, 100_000), rng.uniform(64, 30_000, 100_000)
    surface.seconds((3.0, 2.0, 700.0, 32.0, 8.0, 128.0))

    def best(call: object) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(lambda: surface.seconds((*running, 32.0, 8.0, 128.0))) < 0.1
    assert best(lambda: [surface.seconds((3.0, 2.0, 700.0, 32.0, 8.0, 128.0)) for _ in range(100)]) < 100 * 30e-6


def test_rows_that_state_a_spread_are_smoothed_and_the_others_answer_exactly() -> None:
    """Times 30 % off a smooth law, in 4 visits' samples that differ by as much; every second row has no spread."""
    off = np.random.default_rng(5).normal(0.0, 0.3, len(M) * len(N) * len(K))
    rows = []
    for index, (made, error) in enumerate(zip(gemm_rows(power_law), off.tolist(), strict=True)):
        noisy, decile = index % 2 == 0, 1.2816 * 0.3 * 4**0.5
        median = made.median_s * math.exp(error if noisy else 0.0)
        low, high = (median * math.exp(sign * decile * noisy) for sign in (-1, 1))
        rows.append(replace(made, median_s=median, p10_s=low, p90_s=high, samples=60))
    surface = EfficiencySurface("gemm", rows, 1e30, 1e30)
    misses = []
    for measured in rows:
        told = surface.seconds(measured.shape)
        assert told.rank == 0
        if measured.p10_s == measured.p90_s:
            assert told.seconds == pytest.approx(measured.median_s, rel=1e-6)
        else:
            misses.append(math.log(told.seconds / power_law(*measured.shape)))
    assert np.sqrt(np.mean(np.square(misses))) < 0.5 * 0.3


def test_a_row_counts_by_its_samples_up_to_the_visits_of_a_sweep() -> None:
    """One row twice as slow as its neighbours say: 1 sample has no spread, thus no noise; 60 are no more than 4."""
    rows = gemm_rows(power_law)
    odd = len(rows) // 2
    slow = 2 * rows[odd].median_s

    def excess(samples: int) -> float:
        rows[odd] = replace(rows[odd], median_s=slow, p10_s=slow / 2, p90_s=slow * 2, samples=samples)
        told = EfficiencySurface("gemm", rows, 1e30, 1e30, 1.0, 0).seconds(rows[odd].shape)
        return math.log(float(told.seconds) / (slow / 2)) / math.log(2)

    assert excess(1) == pytest.approx(1.0)
    assert 0.0 < excess(2) < 0.9 * excess(4) < 0.9
    assert excess(60) == pytest.approx(excess(4))
