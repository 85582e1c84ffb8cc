"""The sweep on a CPU: every line of it but the CUDA clock and capture runs here."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.errors import InvalidInput, NoAnswer  # noqa: E402
from specsim.profiles.rows import read_rows  # noqa: E402
from specsim.profiles.schema import Ceilings, Probe, Row  # noqa: E402
from specsim.profiles.store import HEADER, MOST_OF_MEASURED, Profile, load_profile, write_header  # noqa: E402
from specsim.profiling.device import (  # noqa: E402
    anchors,
    ceilings,
    facts,
    machine,
    probe,
    timer,
)
from specsim.profiling.device.anchors import ANCHORS  # noqa: E402
from specsim.profiling.device.ceilings import compute_ceilings  # noqa: E402
from specsim.profiling.kernels import host as host_module  # noqa: E402
from specsim.profiling.kernels import (  # noqa: E402
    in_pass,
    passes,
)
from specsim.profiling.kernels import launches as kernels  # noqa: E402
from specsim.profiling.sweep import (  # noqa: E402  # noqa: E402
    parts,
    plan,
    run,
    sweep,
    table,
)
from specsim.reference.network import (  # noqa: E402
    cpu,
    layers,
    transformer,
)
from specsim.reference.network import kernels as kernels_of_the_engine  # noqa: E402
from specsim.reference.network.cpu import this_cpu  # noqa: E402
from specsim.reference.timing import host  # noqa: E402

COLD_POOL = kernels.COLD_POOL
DTYPE = this_cpu().default_dtype
TINY = plan.Grid(
    blocks=(
        plan.Block("gemm", ((1, 4), (64, 128), (64,)), caches=("cold", "warm")),
        plan.Block("gemm", ((2,), (64,), (128,)), dtypes=plan.NARROW),
        plan.Block("attention", ((1, 2), (1, 3), (16, 32)), (4, 2, 16)),
        plan.Block("attention", ((2,), (4,), (16,)), (4, 2, 16), operations=("tree",)),
        plan.Block("elementwise", ((1, 8), (128,)), operations=plan.ELEMENTWISE, caches=("warm",)),
        plan.Block("sampling", ((1, 8), (256,)), operations=plan.SAMPLING, caches=("warm",)),
        plan.Block("moe", ((3,),), (32, 16, 4, 2)),
    ),
    most_flops=1e9,
    most_bytes=1e8,
    pass_tokens=(1, 8),
    pass_hidden_sizes=(64,),
    host_batches=(1, 2),
    whole_passes=((1, 2, 16),),
)
ONE = plan.Grid(
    blocks=TINY.blocks[1:2],
    most_flops=1e9,
    most_bytes=1e8,
    pass_tokens=(1,),
    pass_hidden_sizes=(64,),
    host_batches=(1,),
    whole_passes=((1, 2, 16),),
)
"""A shape of a kind, where only the folder and its header matter."""
KERNEL_CLASSES = ("gemm", "attention", "elementwise", "sampling", "moe")
TINY_MODEL = passes.generic_model(64, 1, (2, 1, 32), vocab_size=128)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few samples a shape and small ceilings: this tests the sweep, not the machine."""
    monkeypatch.setattr(timer, "TARGET_S", 0.0)
    monkeypatch.setattr(timer, "MIN_SAMPLES", 3)
    monkeypatch.setattr(probe, "LONG", 3)
    monkeypatch.setattr(probe, "UNBROKEN", 3)
    monkeypatch.setattr(probe, "SHORT", 1)
    monkeypatch.setattr(anchors, "HOST_TURNS", 50)
    monkeypatch.setitem(run.QUICK_ROUNDS, "cpu", 1)
    small = {"gemm": (3, 96, 64), "attention": (2, 4, 16, 4, 2, 16), "elementwise": (4, 64)}
    looked_at = {name: replace(work, shape=small[work.kind]) for name, work in anchors.WORK.items()}
    monkeypatch.setattr(anchors, "WORK", looked_at)
    monkeypatch.setattr(facts, "copy_ceiling", lambda *_: 1e10)
    monkeypatch.setattr(sweep, "copy_ceiling", lambda *_: 1e10)
    monkeypatch.setattr(facts, "compute_ceilings", lambda device, dtypes, *_: {dtypes[0]: 1e11})
    monkeypatch.setattr(parts, "CHECKED", {"cpu": (TINY_MODEL,)})
    monkeypatch.setattr(kernels, "COLD_POOL", 0.01)
    monkeypatch.setattr(in_pass, "WEIGHTS_IN_CACHES", 0.01)
    monkeypatch.setattr(host, "CELL_S", 0.01)
    monkeypatch.setattr(host, "EVICTED_BY_TARGET_BYTES", 1_000_000)
    monkeypatch.setattr(host, "EVICTED_BY_DRAFT_BYTES", 100_000)


def measure_tiny(folder: Path, **options: Any) -> Path:
    return run.run_sweep("cpu", DTYPE, folder, **({"grid": TINY, "quick": True} | options))


def shapes() -> list[plan.Shape]:
    thin = plan.thinned(TINY)
    return list(plan.shapes(thin, DTYPE, machine.inspect("cpu").last_level_cache_bytes))


def test_a_sweep_writes_every_shape_once(tmp_path: Path) -> None:
    profile = load_profile(str(measure_tiny(tmp_path / "p")))
    counts = Counter((row.key(), kind) for kind, rows in profile.rows.items() for row in rows)
    wanted = {((*s.shape, s.operation, s.dtype, s.cache, "eager"), s.kind) for s in shapes()}
    assert wanted <= set(counts)
    assert set(counts.values()) == {1}
    assert profile.header.gpu.startswith("cpu-")
    assert profile.header.probe.after_s is not None
    assert tuple(profile.header.probe.anchors) == ANCHORS
    assert not profile.header.notes
    assert {row.operation for row in profile.rows["host"]} >= {*get_args(host.HostPart), "layer", "launch"}
    assert [(row.operation, row.shape) for row in profile.rows["pass"]] == [(TINY_MODEL.name, (1.0, 2.0, 16.0))]
    assert all(row.median_s > 0 for rows in profile.rows.values() for row in rows)


def test_an_interrupted_sweep_resumes_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "p"
    visits: list[float] = []
    visit, prepare = timer.Replay.visit, sweep.Kernels.prepare

    def counted(self: timer.Replay, share: float = 1.0) -> list[float]:
        if len(visits) == 37:
            raise KeyboardInterrupt
        visits.append(share)
        return visit(self, share)

    monkeypatch.setattr(timer.Replay, "visit", counted)
    with pytest.raises(KeyboardInterrupt):
        measure_tiny(folder)
    monkeypatch.setattr(timer.Replay, "visit", visit)
    stored = {(row.key(), kind) for kind in KERNEL_CLASSES for row in read_rows(folder / f"{kind}.csv", kind)}
    assert stored
    again: list[plan.Shape] = []
    monkeypatch.setattr(sweep.Kernels, "prepare", lambda self, shape: again.append(shape) or prepare(self, shape))
    profile = load_profile(str(measure_tiny(folder)))
    assert {((*s.shape, s.operation, s.dtype, s.cache, "eager"), s.kind) for s in again}.isdisjoint(stored)
    keys = Counter((row.key(), kind) for kind, rows in profile.rows.items() for row in rows)
    assert set(keys.values()) == {1}
    assert set(keys) >= stored | {((*s.shape, s.operation, s.dtype, s.cache, "eager"), s.kind) for s in shapes()}
    bare = Probe(before_s=profile.header.probe.before_s)
    write_header(folder, profile.header.model_copy(update={"probe": bare}))
    complete = load_profile(str(measure_tiny(folder)))  # measures nothing, and says nothing of the machine meanwhile
    assert (complete.rows, complete.header.probe.anchors) == (profile.rows, {})


def test_a_folder_of_another_dtype_or_machine_is_refused(tmp_path: Path) -> None:
    folder = measure_tiny(tmp_path / "p", grid=ONE)
    other = "float16"
    with pytest.raises(InvalidInput, match=rf"holds a profile of .* in {DTYPE}, .* in {other}; write to another"):
        run.run_sweep("cpu", other, folder, grid=ONE)


def test_a_kernel_that_fails_is_skipped_with_a_line_and_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    prepare = sweep.Kernels.prepare
    failed = [s for s in shapes() if s.kind == "gemm" and s.dtype == DTYPE]

    def failing(self: sweep.Kernels, shape: plan.Shape) -> object:
        if shape in failed:
            raise RuntimeError("no such kernel\nwith a long trace")
        return prepare(self, shape)

    monkeypatch.setattr(sweep.Kernels, "prepare", failing)
    profile = load_profile(str(measure_tiny(tmp_path / "p", warn=lines.append)))
    assert len(lines) == len(failed) > 1
    assert all("\n" not in line and "no such kernel" in line for line in lines)
    assert profile.header.notes == [f"gemm {DTYPE} is not measured everywhere: no such kernel"]
    assert {row.dtype for row in profile.rows["gemm"]} == set(plan.NARROW)
    assert profile.rows["attention"]


def test_a_full_disk_is_one_line_and_what_was_measured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, written = tmp_path / "p", []
    append = table.append_rows

    def fills_up(folder: Path, kind: str, rows: list[Row]) -> None:
        if len(written) == 5:
            with (folder / f"{kind}.csv").open("a") as file:
                file.write("1,64,6")  # what a full disk leaves of a line
            raise OSError(errno.ENOSPC, "No space left on device")
        append(folder, kind, rows)
        written.extend(rows)

    monkeypatch.setattr(table, "append_rows", fills_up)
    with pytest.raises(NoAnswer, match="No space left on device") as error:
        measure_tiny(folder)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(table, "append_rows", append)
    profile = load_profile(str(measure_tiny(folder)))
    keys = Counter((kind, row.key()) for kind, rows in profile.rows.items() for row in rows)
    assert set(keys.values()) == {1}
    assert {row.key() for row in written} <= {key for _, key in keys}


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'int3'"):
        run.run_sweep("cpu", "int3", tmp_path)
    for minutes in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match="--minutes"):
            run.run_sweep("cpu", DTYPE, tmp_path / "none", minutes=minutes)
    assert not (tmp_path / "none").exists()
    if not torch.cuda.is_available():
        with pytest.raises(NoAnswer, match="no CUDA device"):
            run.run_sweep("cuda", DTYPE, tmp_path)


def test_cold_launches_walk_through_more_than_the_cache_and_warm_ones_stay_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "COLD_POOL", COLD_POOL)
    facts = machine.inspect("cpu")
    one = sweep.Kernels(facts, DTYPE, *timer.clock_and_capture("cpu"))
    weight_bytes = machine.DTYPES[DTYPE].itemsize * 512 * 512
    cold = one.prepare(plan.Shape("gemm", "", (1, 512, 512), "cold", DTYPE))
    warm = one.prepare(plan.Shape("gemm", "", (1, 512, 512), "warm", DTYPE))
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


def test_elementwise_kernels_are_timed_inside_passes_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row an operation and token count; kv_write counts K and V; the engine's functions are its own again after."""
    monkeypatch.setattr(in_pass, "displacements", lambda: 0)  # every call counts
    before = [vars(module).copy() for module in (layers, transformer)]
    rows = list(in_pass.times(machine.inspect("cpu"), DTYPE, 128, (1, 16)))
    assert [vars(module) for module in (layers, transformer)] == before
    assert {(row.operation, row.shape) for row in rows} == {
        (operation, (float(tokens), float(width)))
        for tokens in (1, 16)
        for operation, width in in_pass.widths(128).items()
    }
    assert in_pass.widths(128) == {
        "embedding": 128,
        "norm": 128,
        "add": 128,
        "activation": 512,
        "rotary": 3 * 64,
        "kv_write": 2 * 64,
    }
    depth = max(row.samples for row in rows) // (
        2 * in_pass.VISITS * in_pass.PASSES
    )  # two adds (and a norm more) a layer
    samples = {row.operation: row.samples for row in rows}
    passes = in_pass.VISITS * in_pass.PASSES
    assert samples["norm"] == passes * (2 * depth + 1)
    assert samples["kv_write"] == 2 * samples["rotary"] == 2 * passes * depth
    assert all(0 < row.p10_s <= row.median_s <= row.p90_s for row in rows)


def test_a_cpu_without_bfloat16_is_measured_in_float32_and_by_name_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU without AVX-512, where oneDNN refuses to pack bfloat16 and torch widens it."""
    bare = replace(cpu.this_cpu(), packed=frozenset({torch.float32}), native=frozenset({"float32", "float64"}))
    for module in (cpu, kernels_of_the_engine, machine, probe, sweep):
        monkeypatch.setattr(module, "this_cpu", lambda: bare)
    native = load_profile(str(run.run_sweep("cpu", None, tmp_path / "native", grid=TINY, quick=True)))
    assert native.header.dtype == "float32"
    assert native.header.notes == []
    lines: list[str] = []
    asked = load_profile(
        str(run.run_sweep("cpu", "bfloat16", tmp_path / "asked", grid=TINY, quick=True, warn=lines.append))
    )
    assert asked.header.dtype == "bfloat16"
    assert lines[0] == asked.header.notes[0] == bare.emulation("bfloat16")
    kernels_by_dtype = {row.dtype: row.kernel for row in (*native.rows["gemm"], *asked.rows["gemm"])}
    assert kernels_by_dtype["bfloat16"] == "linear"
    for profile in (native, asked):
        assert {kind for kind, rows in profile.rows.items() if rows} >= {*KERNEL_CLASSES, "host", "pass"}


def test_no_ceiling_is_one_line_and_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> object:
        raise RuntimeError("no such product\nat some length")

    monkeypatch.setattr(facts, "compute_ceilings", compute_ceilings)
    monkeypatch.setattr(ceilings, "convert", refuses)
    with pytest.raises(
        NoAnswer, match=rf"no matrix product runs in {DTYPE} here \(no such product\); choose"
    ) as error:
        measure_tiny(tmp_path / "p")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "p").exists()


def test_ceilings_take_no_longer_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of 1 GFLOP/s the largest product alone would take 20 minutes."""
    now, sizes = [0.0], list[int]()

    def measure(launch: object, **_: object) -> timer.Timing:
        size = launch.__defaults__[0].shape[0]  # type: ignore[attr-defined]
        sizes.append(size)
        seconds = 2 * size**3 / 1e9
        now[0] += ceilings.LAUNCHES * seconds
        return timer.Timing(seconds, seconds, seconds, 4)

    monkeypatch.setattr(ceilings.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ceilings, "measure", measure)
    clock, capture = timer.clock_and_capture("cpu")
    assert compute_ceilings("cpu", ["float32"], clock, capture, 7.5) == {"float32": pytest.approx(1e9)}
    assert sizes == [512]
    assert now[0] < 7.5
    compute_ceilings("cpu", ["float32"], clock, capture, 60.0)
    assert sizes == [512, 512, 1024]


def test_a_header_that_never_got_a_ceiling_is_measured_anew_in_place(tmp_path: Path) -> None:
    folder = measure_tiny(tmp_path / "p")
    path = folder / HEADER
    whole = path.read_text()
    path.write_text(whole.replace(f"    {DTYPE}: 100000000000.0\n", "").replace("flops_per_s:", "flops_per_s: {}"))
    with pytest.raises(InvalidInput, match=r"no compute ceiling: .* run the same specsim profile command again"):
        load_profile(str(folder))
    rows = load_rows(folder)
    assert load_profile(str(measure_tiny(folder))).header.ceilings.flops_per_s == {DTYPE: 1e11}
    assert load_rows(folder) == rows


def load_rows(folder: Path) -> dict[str, tuple[Row, ...]]:
    return {kind: read_rows(folder / f"{kind}.csv", kind) for kind in KERNEL_CLASSES}


def test_host_rows_of_a_batch_cut_short_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measure_tiny(tmp_path / "p")
    path = folder / "host.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))  # the last batch lacks two of its parts
    asked: list[list[int]] = []
    host_times = host_module.host_times
    monkeypatch.setattr(
        host_module, "host_times", lambda batches, **rest: asked.append(batches) or host_times(batches, **rest)
    )
    profile = load_profile(str(measure_tiny(folder)))
    assert asked == [[2]]
    keys = [row.key() for row in profile.rows["host"]]
    assert len(set(keys)) == len(keys) == len(lines) - 1


def test_ceilings_that_met_a_slow_machine_are_raised_by_what_runs_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where neighbours had the cores while the header was measured: the profile loads, and no row is above it."""
    monkeypatch.setattr(facts, "compute_ceilings", lambda device, dtypes, *_: {dtypes[0]: 1.0})
    monkeypatch.setattr(facts, "copy_ceiling", lambda *_: 1e8)
    folder = measure_tiny(tmp_path / "p")
    with pytest.raises(InvalidInput, match="faster than the ceilings"):
        load_profile(str(folder))  # no neighbour makes products a billion times slower
    monkeypatch.setattr(table, "MOST_RAISE", 1e12)
    profile = load_profile(str(measure_tiny(folder)))
    assert profile.header.ceilings.copy_bytes_per_s == 1e10  # the second copy
    rates = [2 * row.shape[0] * row.shape[1] * row.shape[2] / row.median_s for row in profile.rows["gemm"]]
    own = [rate for rate, row in zip(rates, profile.rows["gemm"], strict=True) if row.dtype == DTYPE]
    assert profile.header.ceilings.flops_per_s[DTYPE] >= max(own) / MOST_OF_MEASURED
    write_header(folder, profile.header.model_copy(update={"ceilings": facts_of_a_slow_start(profile)}))
    with pytest.raises(InvalidInput, match="faster than the ceilings"):
        load_profile(str(folder))
    monkeypatch.setattr(sweep, "copy_ceiling", lambda *_: 1e3)  # the second copy meets neighbours too
    again = load_profile(str(measure_tiny(folder))).header.ceilings
    assert again.flops_per_s[DTYPE] > 1e3
    assert 1e3 < again.copy_bytes_per_s < 1e10


def facts_of_a_slow_start(profile: Profile) -> Ceilings:
    """What a header holds whose sweep was killed before it came back to its rows."""
    return profile.header.ceilings.model_copy(update={"flops_per_s": {DTYPE: 1.0}, "copy_bytes_per_s": 1e3})


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measured_rates", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NoAnswer, match=r"cannot be written .*; give another folder with --out"):
        measure_tiny(tmp_path / "file" / "p")
    table.require_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("what", ["threads", "instructions"])
def test_a_folder_of_other_threads_or_instructions_is_not_gone_on_with(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = measure_tiny(tmp_path / "p", grid=ONE)
    known = machine.inspect("cpu")
    other = replace(known, threads=known.threads + 1)
    if what == "instructions":
        other = replace(known, versions=known.versions | {"instructions": "another"})
    monkeypatch.setattr(run, "inspect", lambda _: other)
    with pytest.raises(InvalidInput, match=f"made with {what} .*make them equal .*or write to another folder"):
        measure_tiny(folder, grid=ONE)


def test_a_note_that_is_no_longer_true_goes(tmp_path: Path) -> None:
    folder = measure_tiny(tmp_path / "p", grid=ONE)
    header = load_profile(str(folder)).header
    write_header(folder, header.model_copy(update={"notes": [f"{sweep.INCOMPLETE}: 3 of 4", "another"]}))
    assert load_profile(str(measure_tiny(folder, grid=ONE))).header.notes == ["another"]
