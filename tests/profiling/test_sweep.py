"""The sweep on a CPU: every line of it but the CUDA clock and capture runs here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.errors import InvalidInput, NoAnswer  # noqa: E402
from specsim.profiles.store import load_profile, read_rows  # noqa: E402
from specsim.profiling import in_pass, kernels, machine, plan, sweep, timer  # noqa: E402
from specsim.reference import transformer  # noqa: E402

COLD_POOL = kernels.COLD_POOL
TINY = plan.Grid(
    gemm_m=(1, 4), gemm_n=(64, 128), gemm_k=(64,), attention_sequences=(1, 2), attention_queries=(1, 3),
    attention_keys=(16, 32), attention_heads=((4, 2, 16),), tokens=(1, 8), widths=(128,), vocabularies=(256,),
    most_flops=1e9, most_bytes=1e8, pass_hidden_sizes=(64,),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few samples a shape and small ceilings: this tests the sweep, not the machine."""
    monkeypatch.setattr(timer, "TARGET_S", 0.0)
    monkeypatch.setattr(timer, "MIN_SAMPLES", 3)
    monkeypatch.setattr(sweep, "copy_ceiling", lambda *_: 1e10)
    monkeypatch.setattr(sweep, "compute_ceiling", lambda *_: 1e11)
    monkeypatch.setattr(sweep, "HOST_BATCHES", (1, 2))
    monkeypatch.setattr(kernels, "COLD_POOL", 0.01)
    monkeypatch.setattr(in_pass, "WEIGHTS_IN_CACHES", 0.01)


def shapes() -> list[plan.Shape]:
    return list(plan.shapes(TINY, machine.inspect("cpu").last_level_cache_bytes))


def test_a_sweep_writes_every_shape_once(tmp_path: Path) -> None:
    folder = sweep.run_sweep("cpu", "bfloat16", tmp_path / "p", grid=TINY)
    profile = load_profile(str(folder))
    counts = Counter((row.shape, row.operation, row.cache) for rows in profile.rows.values() for row in rows)
    wanted = {(s.shape, s.operation, s.cache) for s in shapes()}
    assert wanted <= set(counts)
    assert set(counts.values()) == {1}
    assert profile.header.gpu.startswith("cpu-")
    assert profile.header.probe.after_s is not None
    assert {row.operation for row in profile.rows["host"]} >= {"step", "draft_pass", "ngram"}
    assert all(row.median_s > 0 for rows in profile.rows.values() for row in rows)


def test_an_interrupted_sweep_resumes_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "p"
    measured: list[plan.Shape] = []
    prepare = sweep.Kernels.prepare

    def counted(self: sweep.Kernels, shape: plan.Shape) -> object:
        measured.append(shape)
        return prepare(self, shape)

    def stop_at_seven(done: int, total: int, what: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep.Kernels, "prepare", counted)
    with pytest.raises(KeyboardInterrupt):
        sweep.run_sweep("cpu", "bfloat16", folder, grid=TINY, progress=stop_at_seven)
    assert sum(len(read_rows(folder / f"{k}.csv", k)) for k in ("gemm", "attention", "elementwise", "sampling")) == 7
    sweep.run_sweep("cpu", "bfloat16", folder, grid=TINY)
    assert len(measured) == len(shapes())
    assert len(set(measured)) == len(measured)


def test_a_folder_of_another_dtype_or_machine_is_refused(tmp_path: Path) -> None:
    folder = sweep.run_sweep("cpu", "bfloat16", tmp_path / "p", grid=TINY)
    with pytest.raises(InvalidInput, match=r"holds a profile of .* write to another folder"):
        sweep.run_sweep("cpu", "float32", folder, grid=TINY)


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'int3'"):
        sweep.run_sweep("cpu", "int3", tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(NoAnswer, match="no CUDA device"):
            sweep.run_sweep("cuda", "bfloat16", tmp_path)


def test_cold_launches_walk_through_more_than_the_cache_and_warm_ones_stay_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "COLD_POOL", COLD_POOL)
    facts = machine.inspect("cpu")
    one = sweep.Kernels(facts, "bfloat16")
    weight_bytes = 2 * 512 * 512
    cold = one.prepare(plan.Shape("gemm", "", (1, 512, 512), "cold"))
    warm = one.prepare(plan.Shape("gemm", "", (1, 512, 512), "warm"))
    assert cold.buffers * weight_bytes > 2 * facts.last_level_cache_bytes
    assert warm.buffers * weight_bytes <= facts.last_level_cache_bytes / 2


def test_replays_cycle_through_all_buffers() -> None:
    seen: list[int] = []
    replay, launches = timer.CallCapture().capture(seen.append, launches=4, buffers=3)
    replay()
    replay()
    assert launches == 4
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1]


def test_measured_median_follows_the_clock() -> None:
    """A clock that charges 1 ms a launch must come back as 1 ms."""

    class FakeClock:
        calls = 0

        def seconds(self, run: object, before: object = None) -> float:
            before = FakeClock.calls
            run()  # type: ignore[operator]
            return 1e-3 * (FakeClock.calls - before)

    def launch(_: int) -> None:
        FakeClock.calls += 1

    timing = timer.measure(launch, buffers=2, clock=FakeClock(), capture=timer.CallCapture())
    assert timing.median_s == pytest.approx(1e-3)
    assert timing.p10_s <= timing.median_s <= timing.p90_s


def test_elementwise_kernels_are_timed_inside_passes_and_put_back() -> None:
    """A row an operation and token count; kv_write counts K and V; the engine's functions are its own again after."""
    before = {name: getattr(transformer, name) for name, _ in in_pass.FUNCTIONS.values()}
    rows = list(in_pass.times(machine.inspect("cpu"), "bfloat16", 128, (1, 16)))
    assert {name: getattr(transformer, name) for name in before} == before
    assert {(row.operation, row.shape) for row in rows} == {
        (operation, (float(tokens), float(width)))
        for tokens in (1, 16)
        for operation, width in in_pass.widths(128).items()
    }
    assert in_pass.widths(128) == {
        "embedding": 128, "norm": 128, "add": 128, "activation": 512, "rotary": 3 * 64, "kv_write": 2 * 64,
    }  # fmt: skip
    layers = max(row.samples for row in rows) // (2 * in_pass.PASSES)  # two adds (and a norm more) a layer
    samples = {row.operation: row.samples for row in rows}
    assert samples["norm"] == in_pass.PASSES * (2 * layers + 1)
    assert samples["kv_write"] == 2 * samples["rotary"] == 2 * in_pass.PASSES * layers
    assert all(0 < row.p10_s <= row.median_s <= row.p90_s for row in rows)
