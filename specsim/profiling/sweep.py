"""One sweep over a device: shapes in, a profile folder out, resumable at any point.

Rows are appended as they are measured. A second run with the same folder skips what its tables hold, so nothing is
measured twice; a folder begun on another device or dtype is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path

from specsim.cost.efficiency import heldout_error
from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, HeldoutError, Probe, ProfileHeader, Row
from specsim.profiles.store import HEADER, append_rows, load_profile, read_rows, write_header
from specsim.profiling import in_pass
from specsim.profiling.kernels import Kernels, by_weights
from specsim.profiling.machine import (
    DTYPES,
    Machine,
    compute_ceiling,
    copy_ceiling,
    inspect,
    launch_overhead_s,
    probe_s,
)
from specsim.profiling.plan import CPU, CUDA, Grid, Shape, shapes, thinned
from specsim.profiling.timer import Capture, Clock, clock_and_capture, measure
from specsim.reference.grid import host_times

Progress = Callable[[int, int, str], None]  # shapes done, shapes in all, kernel class
HOST_BATCHES = (1, 2, 4, 8, 16, 32, 64)


def run_sweep(
    device: str, dtype: str, folder: Path | None = None, *, gpu: str | None = None, quick: bool = False,
    progress: Progress = lambda done, total, what: None, grid: Grid | None = None,
) -> Path:  # fmt: skip
    """Measure this machine into ``folder`` (default ``profiles/<machine>``) and return it.

    ``gpu`` names the hardware preset it stands for; None: the machine's name. Raises InvalidInput for an unknown
    dtype or a folder that holds another machine's profile, NoAnswer without the device.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: the reference kernels run in {', '.join(DTYPES)}; choose one")
    clock, capture = clock_and_capture(device)
    machine = inspect(device)
    folder = Path("profiles") / machine.slug() if folder is None else folder
    grid = grid or (CPU if device == "cpu" else CUDA)
    grid = thinned(grid) if quick else grid
    todo = by_weights(shapes(grid, machine.last_level_cache_bytes))
    header = _header(machine, dtype, folder, gpu or machine.slug(), (clock, capture))
    write_header(folder, header)
    _measure_shapes(todo, Kernels(machine, dtype), folder, dtype, (clock, capture), progress)
    _measure_in_passes(grid, machine, folder, dtype)
    _measure_host(folder, device, dtype)
    after = probe_s(device, dtype, clock, capture)
    write_header(folder, _finished(header, folder, after))
    return folder


def _header(machine: Machine, dtype: str, folder: Path, gpu: str, device: tuple[Clock, Capture]) -> ProfileHeader:
    """The header of a new profile, or that of the one being resumed."""
    clock, capture = device
    if (folder / HEADER).exists():
        header = load_profile(f"{folder}/").header
        if header.device_name != machine.device_name or dtype not in header.ceilings.flops_per_s:
            raise InvalidInput(
                f"{folder} holds a profile of {header.device_name} in {', '.join(header.ceilings.flops_per_s)}; "
                "write to another folder with --out"
            )
        return header
    return ProfileHeader(
        schema=1, gpu=gpu, device_name=machine.device_name, device="cpu" if machine.device == "cpu" else "cuda",
        threads=machine.threads, clocks=machine.clocks, driver=machine.driver, versions=machine.versions,
        date=datetime.date.today().isoformat(), attribution="measured by specsim profile run",
        last_level_cache_bytes=machine.last_level_cache_bytes, memory_bytes=machine.memory_bytes,
        launch_s=launch_overhead_s(machine.device, clock),
        ceilings=Ceilings(
            copy_bytes_per_s=copy_ceiling(machine.device, clock, capture),
            flops_per_s={dtype: compute_ceiling(machine.device, dtype, clock, capture)},
        ),
        probe=Probe(before_s=probe_s(machine.device, dtype, clock, capture)),
    )  # fmt: skip


def _measure_shapes(
    todo: list[Shape], kernels: Kernels, folder: Path, dtype: str, device: tuple[Clock, Capture], progress: Progress
) -> None:
    clock, capture = device
    known = {kind: _keys(read_rows(folder / f"{kind}.csv", kind)) for kind in {s.kind for s in todo}}
    for index, shape in enumerate(todo):
        progress(index, len(todo), shape.kind)
        if (*shape.shape, shape.operation, dtype, shape.cache, capture.mode) in known[shape.kind]:
            continue
        prepared = kernels.prepare(shape)
        timing = measure(
            prepared.launch, buffers=prepared.buffers, clock=clock, capture=capture, before=prepared.before
        )
        row = Row(
            shape=shape.shape, operation=shape.operation, dtype=dtype, kernel=prepared.kernel, cache=shape.cache,
            mode=capture.mode, median_s=timing.median_s, p10_s=timing.p10_s, p90_s=timing.p90_s,
            samples=timing.samples,
        )  # fmt: skip
        append_rows(folder, shape.kind, [row])
    progress(len(todo), len(todo), "host")


def _measure_in_passes(grid: Grid, machine: Machine, folder: Path, dtype: str) -> None:
    """Elementwise kernels inside passes of generic models; what is already in the table is left out."""
    known = _keys(read_rows(folder / "elementwise.csv", "elementwise"))
    for hidden in grid.pass_hidden_sizes:
        keys = {
            (float(tokens), float(width), operation, dtype, "cold", "eager")
            for tokens in grid.tokens
            for operation, width in in_pass.widths(hidden).items()
        }
        if not keys <= known:
            rows = in_pass.times(machine, dtype, hidden, grid.tokens)
            append_rows(folder, "elementwise", [row for row in rows if row.key() not in known])


def _keys(rows: Iterable[Row]) -> set[tuple[object, ...]]:
    return {row.key() for row in rows}


def _measure_host(folder: Path, device: str, dtype: str) -> None:
    """The reference engine's own time outside its kernels, by batch size."""
    if read_rows(folder / "host.csv", "host"):
        return
    rows = [
        Row(
            shape=(float(time.sequences),), operation=time.part, dtype=dtype, kernel="reference engine", cache="warm",
            mode="eager", median_s=time.median_s, p10_s=time.p10_s, p90_s=time.p90_s, samples=time.samples,
        )
        for time in host_times(list(HOST_BATCHES), device=device)
    ]  # fmt: skip
    append_rows(folder, "host", rows)


def _finished(header: ProfileHeader, folder: Path, probe_after_s: float) -> ProfileHeader:
    """The header with what is known only at the end: drift, and how well withheld shapes are predicted."""
    profile = load_profile(f"{folder}/")
    ceilings = header.ceilings
    errors: dict[str, HeldoutError] = {}
    for kind, rows in profile.rows.items():
        if kind == "host":
            continue
        error = heldout_error(kind, rows, ceilings.copy_bytes_per_s, dict(ceilings.flops_per_s.items()))
        if error is not None:
            errors[kind] = error
    probe = Probe(before_s=header.probe.before_s, after_s=probe_after_s)
    return header.model_copy(update={"probe": probe, "heldout_error": errors})
