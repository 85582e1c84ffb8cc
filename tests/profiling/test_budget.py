"""A sweep's minutes, on a clock and with kernels whose times are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiles.rows import read_rows  # noqa: E402
from specsim.profiles.schema import Row  # noqa: E402
from specsim.profiles.store import load_profile  # noqa: E402
from specsim.profiling.device import facts  # noqa: E402
from specsim.profiling.kernels import launches as kernels  # noqa: E402
from specsim.profiling.sweep import (  # noqa: E402  # noqa: E402
    budget,
    parts,
    plan,
    run,
    sweep,
)
from specsim.reference.network.cpu import this_cpu  # noqa: E402

DTYPE = this_cpu().default_dtype

ROWS = (1, 4, 16, 64, 256, 1024)
GRID = plan.Grid(
    blocks=(plan.Block("gemm", (ROWS, (512, 1024, 2048), (512, 1024, 2048))),),
    most_flops=1e12,
    most_bytes=1e9,
    pass_tokens=(),
    pass_hidden_sizes=(),
    host_batches=(),
    whole_passes=(),
)
SECONDS_A_SHAPE, PROBE_S = 6.0, 1e-3
Taken = TypeVar("Taken")
HOST = Row((1.0,), "launch", DTYPE, "fake", "warm", "eager", 1e-3, 1e-3, 1e-3, 1)


class FakeProbe:
    def seconds(self) -> float:
        return PROBE_S

    def interrupted(self) -> float:
        return 0.02

    def steadily(self, take: Callable[[], Taken]) -> Taken:
        return take()


LOOK = {"memory": 1e-4, "compute": 2e-4}


class FakeReplay:
    def __init__(self, launch: Callable[[float], float], **_: object) -> None:
        self._launch = launch

    def visit(self, share: float) -> list[float]:
        return [self._launch(share)]


class Machine:
    """Measuring a shape takes SECONDS_A_SHAPE and finds ``cost(m, n, k)``, times ``slow(now)``."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        cost: Callable[[float, float, float], float],
        slow: Callable[[float], float] = lambda now_s: 1.0,
    ) -> None:
        self.now_s = 0.0
        self._slow = slow
        self.measured: list[tuple[float, ...]] = []
        self._cost = cost
        monkeypatch.setattr(budget.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(facts, "copy_ceiling", lambda *_: 1e10)
        monkeypatch.setattr(sweep, "copy_ceiling", lambda *_: 1e10)
        monkeypatch.setattr(facts, "compute_ceilings", lambda *_: {DTYPE: 1e12})
        monkeypatch.setattr(facts, "launch_overhead_s", lambda *_: 1e-6)
        monkeypatch.setattr(run, "MachineProbe", lambda *_: FakeProbe())
        monkeypatch.setattr(sweep, "Anchors", lambda *_: self)
        monkeypatch.setattr(parts, "launch_rows", lambda *_: iter([HOST]))
        monkeypatch.setattr(sweep.Kernels, "prepare", lambda _, shape: self._prepare(shape))
        monkeypatch.setattr(sweep, "Replay", FakeReplay)

    def look(self) -> dict[str, float]:
        return {name: seconds * self._slow(self.now_s) for name, seconds in LOOK.items()}

    def _prepare(self, shape: plan.Shape) -> kernels.Prepared:
        def visited(share: float) -> float:
            self.measured.append(shape.shape)
            seconds = self._cost(*shape.shape) * self._slow(self.now_s)
            self.now_s += share * SECONDS_A_SHAPE
            return seconds

        return kernels.Prepared(visited, 1, "fake")


def power_law(m: float, n: float, k: float) -> float:
    return 1e-6 * m**0.1 * n**0.9 * k**0.8


def test_minutes_bound_the_sweep_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Machine(monkeypatch, power_law)
    lines: list[str] = []
    wanted = {s.shape for s in plan.shapes(GRID, DTYPE, 2**25)}
    before: set[tuple[float, ...]] = set()
    for minutes in (1.0, 2.0):
        start_s, start = fake.now_s, len(fake.measured)
        run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=minutes, grid=GRID, warn=lines.append)
        assert fake.now_s - start_s <= 60 * minutes
        assert before.isdisjoint(fake.measured[start:])
        before = set(fake.measured)
    assert len(lines) == 1
    assert "the grid is incomplete" in lines[0]
    assert before >= wanted


def test_shapes_are_come_back_to_in_other_states_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as slow again and as fast again in turn: rows are those of the typical state, whenever each was visited."""
    fake = Machine(monkeypatch, power_law, slow=lambda now_s: 1.0 + 0.5 * math.sin(now_s / 40.0))
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=8.0, grid=GRID)
    profile = load_profile(str(folder))
    typical = profile.header.probe.anchors["memory"] / LOOK["memory"]
    assert min(fake.measured.count(row.shape) for row in profile.rows["gemm"]) >= 2
    for row in profile.rows["gemm"]:
        assert row.samples == fake.measured.count(row.shape)
        assert row.median_s == pytest.approx(typical * power_law(*row.shape), rel=0.08)


def test_a_gpu_is_not_come_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Machine(monkeypatch, power_law)
    for values, share in ((sweep.FIRST_VISITS, 1.0), (sweep.VISIT, 1.0), (run.MOST_ROUNDS, 0)):
        monkeypatch.setitem(values, "cpu", share)
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=8.0, grid=GRID)
    assert len(set(fake.measured)) == len(fake.measured) == len(load_profile(str(folder)).rows["gemm"]) == 54


def test_a_sweep_cut_short_is_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, power_law)
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=1.0, grid=GRID)
    profile = load_profile(str(folder))
    assert 0 < len(profile.rows["gemm"]) < 54
    assert profile.header.probe.after_s == PROBE_S


def test_probes_are_spread_over_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, lambda m, n, k: power_law(m, n, k) * (1 + 0.3 * math.sin(m)))
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=3.0, grid=GRID)
    assert 10 <= len(load_profile(str(folder)).header.probe.during_s) <= sweep.PROBES


def test_time_left_goes_where_interpolation_is_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the time from 48 rows on, at every N and K: all but the coarse shapes lie around that jump."""
    fake = Machine(monkeypatch, lambda m, n, k: power_law(m, n, k) * (2.0 if m >= 48 else 1.0))
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=6.0, grid=GRID)
    coarse = {s.shape for s in plan.shapes(GRID, DTYPE, 2**25)}
    added = [shape for shape in fake.measured if shape not in coarse]
    assert len(added) > 20
    assert all(16 < m < 256 for m, _, _ in added)  # the two intervals beside the coarse value next to the jump
    rows = read_rows(folder / "gemm.csv", "gemm")
    around = sorted({row.shape[0] for row in rows if row.shape[1:] == (1024.0, 1024.0)})
    low = max(m for m in around if m < 48)
    high = min(m for m in around if m >= 48)
    assert high / low < 1.6


def test_every_class_has_rows_within_the_first_minute_of_a_slow_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A visit takes 0.8 s, so that a minute is enough for a tenth of the first level."""
    Machine(monkeypatch, lambda *shape: 1e-3)
    monkeypatch.setattr(parts, "CHECKED", {"cpu": ()})
    monkeypatch.setitem(globals(), "SECONDS_A_SHAPE", 3.2)
    folder = run.run_sweep("cpu", DTYPE, tmp_path / "p", minutes=1.0, grid=plan.CPU)
    profile = load_profile(str(folder))
    assert {kind for kind, rows in profile.rows.items() if rows} >= {"gemm", "attention", "sampling", "moe"}
