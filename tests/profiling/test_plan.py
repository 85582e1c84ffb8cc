"""What the grids cover."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch", reason="specsim.profiling needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.sweep import plan  # noqa: E402
from specsim.specs.catalog import load_model, model_names  # noqa: E402

CACHE_BYTES = 32 * 2**20


def shapes(grid: plan.Grid) -> list[plan.Shape]:
    return list(plan.shapes(grid, "bfloat16", CACHE_BYTES))


@pytest.mark.parametrize("grid", [plan.CPU, plan.CUDA, plan.thinned(plan.CPU), plan.thinned(plan.CUDA)])
def test_every_shape_is_possible_and_there_once(grid: plan.Grid) -> None:
    found = shapes(grid)
    assert len(set(found)) == len(found)
    assert all(s.shape[1] <= s.shape[2] for s in found if s.kind == "attention")
    assert all(plan.size(s)[1] <= grid.most_flops for s in found)


def test_the_gpu_grid_spans_every_matrix_of_every_preset() -> None:
    """No N or K of a preset lies outside the measured corners, so that none is extrapolated."""
    gemms = [s.shape for s in shapes(plan.CUDA) if s.kind == "gemm" and s.dtype == "bfloat16" and s.cache == "cold"]
    for name in model_names():
        for linear in load_model(name).linears():
            below = [s for s in gemms if s[1] <= linear.n and s[2] <= linear.k]
            above = [s for s in gemms if s[1] >= linear.n and s[2] >= linear.k]
            assert linear.name == "router" or (below and above), (name, linear)


def test_the_gpu_grid_has_every_verify_width_an_engine_uses() -> None:
    widths = {s.shape[1] for s in shapes(plan.CUDA) if s.kind == "attention" and s.shape[3:] == (32, 8, 128)}
    assert widths >= {1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 17, 32, 64}


def test_groups_share_weights_and_lie_in_no_order_of_any_axis() -> None:
    found = [s for s in shapes(plan.CPU) if s.kind == "gemm" and s.dtype == "bfloat16"]
    groups = plan.by_weights(found, seed=0)
    assert sorted(s.shape for g in groups for s in g) == sorted(s.shape for s in found)
    for group in groups:
        assert len({(s.shape[1:], s.cache) for s in group}) == 1
    assert len({(g[0].shape[1:], g[0].cache) for g in groups}) == len(groups)
    for axis in range(3):
        column = [s.shape[axis] for g in groups for s in g]
        ups = sum(a < b for a, b in itertools.pairwise(column))
        downs = sum(a > b for a, b in itertools.pairwise(column))
        assert abs(ups - downs) < 0.2 * len(column)


def test_a_thinner_grid_keeps_the_ends() -> None:
    full, thin = plan.CPU.blocks, plan.thinned(plan.CPU).blocks
    for before, after in zip(full, thin, strict=True):
        for axis, kept in zip(before.axes, after.axes, strict=True):
            assert (kept[0], kept[-1]) == (axis[0], axis[-1])
            assert set(kept) <= set(axis)


@pytest.mark.parametrize("grid", [plan.CPU, plan.CUDA, plan.thinned(plan.CPU)], ids=["cpu", "cuda", "quick"])
def test_levels_go_from_coarse_to_fine(grid: plan.Grid) -> None:
    """Each level holds the one before, the last is the grid; the first has every class, and short kernels only."""
    levels = plan.levels(grid)
    assert levels[-1] == grid
    found = [set(shapes(level)) for level in levels]
    for coarse, fine in itertools.pairwise(found):
        assert coarse < fine
    for coarse, fine in itertools.pairwise(levels):
        assert set(coarse.host_batches) <= set(fine.host_batches)
        assert set(coarse.pass_tokens) <= set(fine.pass_tokens)
        assert set(coarse.whole_passes) <= set(fine.whole_passes)
    assert {shape.kind for shape in found[0]} == {shape.kind for shape in found[-1]}
    assert len(found[0]) < len(found[-1]) / 3
    assert max(plan.size(shape)[1] for shape in found[0]) <= grid.most_flops / 16
