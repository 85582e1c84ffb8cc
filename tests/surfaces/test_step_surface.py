"""Times between measured steps: against known costs, with rows withheld, noisy and missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.surfaces.estimates import EXTRAPOLATED, INTERPOLATED, MEASURED
from specsim.surfaces.step_surface import ChunkTimes, StepSurface

SEQUENCES, WIDTHS, KV_LENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), (1, 2, 3, 5, 7, 9), (120, 500, 1000, 2000)
GRID = np.array([(b, q, kv) for b in SEQUENCES for q in WIDTHS for kv in KV_LENS], dtype=float)


def physical(b, q, kv):
    """5 ms of weights, 0.1 ms a sequence, 0.3 ms a token, 1 us a key read, 0.2 us a pair."""
    return 5e-3 + 1e-4 * b + 3e-4 * b * q + 1e-6 * b * kv + 2e-7 * b * q * kv


def roofline(b, q, kv):
    """Weights read or tokens multiplied, whichever is longer: 6 ms or 0.25 ms a token; then attention. Kinked."""
    return np.maximum(6e-3, 2.5e-4 * b * q) + 1e-6 * b * kv + 1e-7 * b * q * kv + 3e-4


def checkerboard(shapes):
    ranks = [np.unique(column, return_inverse=True)[1] for column in shapes.T]
    return np.sum(ranks, axis=0) % 2 == 1


def test_a_physical_cost_is_found_anywhere_from_half_of_its_rows():
    hidden = checkerboard(GRID)
    surface = StepSurface(GRID[~hidden], physical(*GRID[~hidden].T))
    for shapes in (GRID[hidden], np.array([(5.0, 4.0, 777.0), (64.0, 5.0, 4000.0), (200.0, 1.0, 30_000.0)])):
        assert surface.at(*shapes.T).seconds == pytest.approx(physical(*shapes.T), rel=2e-3)


def test_a_kinked_cost_is_found_from_half_of_its_rows():
    hidden = checkerboard(GRID)
    surface = StepSurface(GRID[~hidden], roofline(*GRID[~hidden].T))
    error = np.abs(surface.at(*GRID[hidden].T).seconds / roofline(*GRID[hidden].T) - 1)
    assert np.median(error) < 0.01
    assert np.percentile(error, 90) < 0.03


def test_noise_is_averaged_and_intervals_hold():
    """Rows 5 % uncertain: estimates of the true cost are closer than that; withheld rows fall in 90 % intervals."""
    inside, truth_errors = [], []
    for seed in range(6):
        noisy = roofline(*GRID.T) * np.exp(np.random.default_rng(seed).normal(0, 0.05, len(GRID)))
        hidden = checkerboard(GRID)
        found = StepSurface(GRID[~hidden], noisy[~hidden], noise=0.03).at(*GRID[hidden].T)
        inside += (np.abs(np.log(noisy[hidden] / found.seconds)) <= 1.645 * found.error).tolist()
        truth_errors += np.abs(found.seconds / roofline(*GRID[hidden].T) - 1).tolist()
    assert 0.85 <= np.mean(inside) <= 0.95
    assert np.sqrt(np.mean(np.square(truth_errors))) < 0.04


def test_where_an_answer_comes_from():
    surface = StepSurface(GRID, physical(*GRID.T))
    assert surface.at(8.0, 5.0, 1000.0).rank == MEASURED
    assert surface.at(8.0, 5.0, 1001.0).rank == INTERPOLATED
    for outside in ((64.0, 5.0, 1000.0), (8.0, 12.0, 1000.0), (8.0, 5.0, 9000.0), (8.0, 5.0, 60.0)):
        assert surface.at(*outside).rank == EXTRAPOLATED
    inner, outer = surface.at(32.0, 5.0, 1000.0), surface.at(64.0, 5.0, 1000.0)
    assert outer.error > inner.error


def test_beyond_the_edge_the_physical_mean_goes_on_from_the_edges_own_correction():
    """A cost twice the physical one at its largest batch stays twice it beyond, and does not run away."""
    twisted = physical(*GRID.T) * GRID[:, 0] ** 0.1
    surface = StepSurface(GRID, twisted)
    edge = surface.at(32.0, 5.0, 1000.0).seconds
    doubled = surface.at(64.0, 5.0, 1000.0).seconds
    assert edge < doubled < 2 * edge  # more sequences cost more, and not more than themselves


def test_the_share_of_compute_is_that_of_token_terms():
    surface = StepSurface(GRID, physical(*GRID.T))
    b, q, kv = 16.0, 5.0, 1000.0
    assert surface.at(b, q, kv).compute == pytest.approx(
        (3e-4 * b * q + 2e-7 * b * q * kv) / physical(b, q, kv), rel=0.02
    )


@settings(max_examples=40)
@given(
    sequences=st.lists(st.floats(0.5, 80), min_size=1, max_size=5), width=st.floats(0.9, 12), kv=st.floats(20, 5000)
)
def test_arrays_give_what_floats_give(sequences, width, kv):
    surface = SURFACE
    column = np.array(sequences)[:, None]
    kv_row = np.array([kv, 2 * kv])[None, :]
    table = surface.at(column, width, kv_row)
    assert np.shape(table.seconds) == np.shape(table.error) == np.shape(table.rank) == (len(sequences), 2)
    for i, b in enumerate(sequences):
        for j, length in enumerate((kv, 2 * kv)):
            one = surface.at(b, width, length)
            assert isinstance(one.seconds, float)
            assert table.seconds[i, j] == pytest.approx(one.seconds, rel=1e-12)
            assert table.error[i, j] == pytest.approx(one.error, rel=1e-12)
            assert (table.rank[i, j] == EXTRAPOLATED) == (one.rank == EXTRAPOLATED)


SURFACE = StepSurface(GRID, roofline(*GRID.T))


def test_a_table_with_holes_or_a_single_row_still_answers():
    kept = np.random.default_rng(1).random(len(GRID)) < 0.2
    surface = StepSurface(GRID[kept], physical(*GRID[kept].T))
    assert surface.at(*GRID[~kept].T).seconds == pytest.approx(physical(*GRID[~kept].T), rel=0.05)
    alone = StepSurface(np.array([[8.0, 1.0, 500.0]]), np.array([0.02]))
    assert alone.at(8.0, 1.0, 500.0).seconds == pytest.approx(0.02, rel=0.05)
    with pytest.raises(ValueError, match="at least one row"):
        StepSurface(np.zeros((0, 3)), np.zeros(0))


# -- prompt chunks ----------------------------------------------------------------------------------------------


def chunk_s(tokens, kv_len):
    return 4e-3 + 2e-4 * tokens + 3e-8 * tokens * kv_len


def test_chunks_between_and_beyond_those_measured():
    shapes = np.array([(p, kv) for p in (32, 128, 512) for kv in (p, 1000, 2000) if kv >= p], dtype=float)
    chunks = ChunkTimes(shapes, chunk_s(*shapes.T))
    for tokens, kv_len, outside in ((64, 300, False), (512, 8000, False), (1024, 1024, True)):
        seconds, beyond = chunks.at(tokens, kv_len)
        assert seconds == pytest.approx(chunk_s(tokens, kv_len), rel=1e-6)
        assert beyond == outside


def test_a_longer_chunk_never_takes_less():
    rough = ChunkTimes(np.array([(32, 32), (128, 128), (512, 512)], dtype=float), np.array([0.03, 0.028, 0.2]))
    times = [rough.at(tokens, 600)[0] for tokens in (16, 32, 64, 128, 300, 512, 900)]
    assert times == sorted(times)
