"""One sweep over a device: shapes in, a profile folder out, resumable at any point.

First a coarse grid in random order, then midpoints where interpolation is worst, until the minutes are spent. Rows
are appended as they are measured. A second run with the same folder skips what its tables hold, so nothing is
measured twice; a folder begun on another device or dtype is refused.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from specsim.cost.heldout import heldout_error
from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, HeldoutError, Probe, ProfileHeader, Row
from specsim.profiles.store import HEADER, load_profile
from specsim.profiling import in_pass
from specsim.profiling.budget import Budget
from specsim.profiling.ceilings import compute_ceilings, copy_ceiling, launch_overhead_s
from specsim.profiling.collectives import collective_rows
from specsim.profiling.host import host_rows
from specsim.profiling.kernels import Kernels
from specsim.profiling.machine import DTYPES, Machine, inspect
from specsim.profiling.passes import CHECKED, captures_of, pass_rows
from specsim.profiling.plan import CPU, CUDA, Grid, Shape, by_weights, shapes, size, thinned, worthwhile
from specsim.profiling.probe import MachineProbe
from specsim.profiling.refine import worst_midpoint
from specsim.profiling.table import Table
from specsim.profiling.timer import Capture, Clock, clock_and_capture, measure

Progress = Callable[[float, float, str], None]  # seconds spent, seconds in all, what is being measured
SEED = 0
LEAST_MINUTES = 1.0
FINISHING_SHARE = 0.08  # of the time, kept for what comes after the last shape
PROBES = 20  # in one sweep
HELD_OUT = ("gemm", "attention", "elementwise", "sampling", "moe", "collective")
GOOD_ENOUGH = 0.02  # expected interpolation error below which no more shapes are added: less is noise
# Axes as interpolation descends them, as columns of the class, and the step of new values (0: none are added).
REFINED = {
    "gemm": ((2, 1, 0), (64, 64, 1)),
    "attention": ((5, 3, 4, 1, 0, 2), (0, 0, 0, 1, 1, 16)),
}


def run_sweep(
    device: str, dtype: str, folder: Path | None = None, *, gpu: str | None = None, quick: bool = False,
    minutes: float = 8.0, progress: Progress = lambda spent, total, what: None,
    warn: Callable[[str], None] = lambda line: None, grid: Grid | None = None,
) -> Path:  # fmt: skip
    """Measure this machine into ``folder`` (default ``profiles/<machine>``) for at most ``minutes`` and return it.

    ``gpu`` names the hardware preset it stands for; None: the machine's name. ``quick`` stops after a thinner coarse
    grid. Raises InvalidInput for an unknown dtype, too few minutes or a folder that holds another machine's profile,
    NoAnswer without the device or where the folder cannot be written.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: the reference kernels run in {', '.join(DTYPES)}; choose one")
    if not minutes >= LEAST_MINUTES:
        raise InvalidInput(f"--minutes {minutes:g}: a coarse grid needs at least {LEAST_MINUTES:g}; give more")
    budget = Budget(60.0 * minutes, FINISHING_SHARE, progress)
    device_of = clock_and_capture(device)
    machine = inspect(device)
    probe = MachineProbe(device, dtype, *device_of)
    folder = Path("profiles") / machine.slug() if folder is None else folder
    grid = grid or (CPU if device == "cpu" else CUDA)
    grid = thinned(grid) if quick else grid
    table = Table(folder)
    table.write_header(_header(machine, dtype, folder, gpu or machine.slug(), device_of, probe, grid))
    sweep = _Sweep(machine, dtype, grid, table, budget, device_of, probe, warn)
    sweep.measure_coarse_grid()
    if not quick:
        sweep.refine()
    sweep.finish()
    return folder


def _header(
    machine: Machine,
    dtype: str,
    folder: Path,
    gpu: str,
    device: tuple[Clock, Capture],
    probe: MachineProbe,
    grid: Grid,
) -> ProfileHeader:
    """The header of a new profile, or that of the one being resumed."""
    clock, capture = device
    if (folder / HEADER).exists():
        header = load_profile(f"{folder}/").header
        known = header.device_name == machine.device_name and dtype in header.ceilings.flops_per_s
        if not known or header.probe is None:
            raise InvalidInput(
                f"{folder} holds a profile of {header.device_name} in {', '.join(header.ceilings.flops_per_s)}; "
                "write to another folder with --out"
            )
        return header
    formats = {name for block in grid.blocks for name in block.dtypes}
    dtypes = [dtype, *(name for name in ("fp8", "int8") if name in formats)]
    return ProfileHeader(
        schema=1, gpu=gpu, device_name=machine.device_name, device="cpu" if machine.device == "cpu" else "cuda",
        threads=machine.threads, clocks=machine.clocks, driver=machine.driver, versions=machine.versions,
        date=datetime.date.today().isoformat(), attribution="measured by specsim profile run",
        last_level_cache_bytes=machine.last_level_cache_bytes, memory_bytes=machine.memory_bytes,
        launch_s=launch_overhead_s(machine.device, clock),
        ceilings=Ceilings.model_validate({
            "copy_bytes_per_s": copy_ceiling(machine.device, clock, capture),
            "flops_per_s": compute_ceilings(machine.device, dtypes, clock, capture),
        }),
        probe=Probe(before_s=probe.seconds()),
    )  # fmt: skip


class _Sweep:
    """What all parts of one sweep share."""

    def __init__(
        self, machine: Machine, dtype: str, grid: Grid, table: Table, budget: Budget, device: tuple[Clock, Capture],
        probe: MachineProbe, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._machine, self._dtype, self._grid, self._table, self._budget = machine, dtype, grid, table, budget
        self._clock, self._capture = device
        self._probe = probe
        self._kernels = Kernels(machine, dtype, *device)
        self._warn = warn
        self._failed: set[Shape] = set()
        self._probed_s = 0.0

    def measure_coarse_grid(self) -> None:
        """Every part in a seeded random order, so that none is favoured when the minutes run out, and no drift."""
        parts: list[Callable[[], bool]] = [
            partial(self._measure_group, group)
            for group in by_weights(list(shapes(self._grid, self._dtype, self._machine.last_level_cache_bytes)), SEED)
        ]
        parts.extend(partial(self._measure_in_passes, hidden) for hidden in self._grid.pass_hidden_sizes)
        parts.append(self._measure_host)
        if self._machine.device == "cuda":
            parts.append(self._measure_collectives)
        if self._grid.whole_passes:
            parts.extend(
                partial(self._measure_whole_passes, index) for index in range(len(CHECKED[self._machine.device]))
            )
        order = np.random.default_rng(SEED).permutation(len(parts)).tolist()
        incomplete = sum(not parts[index]() for index in order)
        if incomplete:
            self._note(
                f"the coarse grid is incomplete: {incomplete} of {len(parts)} parts had no time left; run the same "
                "command again to go on"
            )

    def refine(self) -> None:
        """Midpoints where interpolation is worst, until the time is spent; each surface gets an equal part of it."""
        spent_s = {(kind, cache): 0.0 for kind in REFINED for cache in ("cold", "warm")}
        while spent_s and not self._budget.over:
            start_s = self._budget.spent_s()
            surface = min(spent_s, key=lambda surface: spent_s[surface])
            group = self._worst_group(*surface)
            if group:
                self._measure_group(group)
                spent_s[surface] += self._budget.spent_s() - start_s
            else:
                del spent_s[surface]

    def finish(self) -> None:
        """Put into the header what is known only at the end."""
        header = self._probed(during=False)
        self._table.write_header(header)
        rates = {str(name): rate for name, rate in header.ceilings.flops_per_s.items()}
        errors: dict[str, HeldoutError] = {}
        for kind in HELD_OUT:
            rows = tuple(self._table.rows(kind))
            error = heldout_error(kind, rows, header.ceilings.copy_bytes_per_s, rates) if rows else None
            if error is not None:
                errors[kind] = error
        self._table.write_header(header.model_copy(update={"heldout_error": errors}))

    def _note(self, line: str, where: str = "") -> None:
        """Warn, and keep the line in the header, once for all the shapes it holds ``where``."""
        self._warn(f"{line} {where}".rstrip())
        header = self._table.header
        if line not in header.notes:
            self._table.write_header(header.model_copy(update={"notes": [*header.notes, line]}))

    def _probe_when_due(self) -> None:
        if self._budget.spent_s() - self._probed_s < self._budget.total_s / PROBES:
            return
        self._probed_s = self._budget.spent_s()
        self._table.write_header(self._probed(during=True))

    def _probed(self, *, during: bool) -> ProfileHeader:
        """The header with the probe taken once more."""
        header = self._table.header
        seconds = self._probe.seconds()
        probe = header.probe or Probe(before_s=seconds)
        update = {"during_s": [*probe.during_s, seconds]} if during else {"after_s": seconds}
        return header.model_copy(update={"probe": probe.model_copy(update=update)})

    # -- single kernels ---------------------------------------------------------------------------------------------

    def _measure_group(self, group: list[Shape]) -> bool:
        """Time shapes that share weights; whether there was time for all of them."""
        for shape in group:
            key = (*shape.shape, shape.operation, shape.dtype, shape.cache, self._capture.mode)
            if self._table.holds(shape.kind, key) or shape in self._failed:
                continue
            if self._budget.over:
                return False
            self._budget.report(shape.kind)
            self._probe_when_due()
            self._measure_shape(shape)
        return True

    def _measure_shape(self, shape: Shape) -> None:
        try:
            prepared = self._kernels.prepare(shape)
            timing = self._probe.steadily(partial(
                measure, prepared.launch, buffers=prepared.buffers, clock=self._clock, capture=self._capture,
                before=prepared.before,
            ))  # fmt: skip
        except (RuntimeError, NotImplementedError) as error:  # running out of memory is a RuntimeError too
            self._failed.add(shape)
            self._kernels.release()
            reason = str(error).strip().split("\n")[0][:120]
            what = " ".join(word for word in (shape.kind, shape.operation, shape.dtype) if word)
            self._note(f"{what} is not measured everywhere: {reason}", f"at {'x'.join(f'{v:g}' for v in shape.shape)}")
            return
        self._table.add_timing(shape, prepared.kernel, self._capture.mode, timing)

    def _worst_group(self, kind: str, cache: str) -> list[Shape]:
        """The shapes of a surface's worst midpoint, those with the same weights together; empty if it is good."""
        columns, steps = REFINED[kind]
        allowed = partial(self._allowed, kind, cache, columns)
        midpoint = worst_midpoint(self._log_efficiencies(kind, cache, columns), steps, allowed)
        if midpoint is None or midpoint.error < GOOD_ENOUGH:
            return []
        found = [self._shape(kind, cache, columns, point) for point in midpoint.points]
        return [shape for group in by_weights(found, SEED) for shape in group]

    def _log_efficiencies(self, kind: str, cache: str, columns: tuple[int, ...]) -> dict[tuple[float, ...], float]:
        ceilings = self._table.header.ceilings
        rate = {str(name): value for name, value in ceilings.flops_per_s.items()}[self._dtype]
        chosen = (self._dtype, cache, "")
        rows = [row for row in self._table.rows(kind) if (row.dtype, row.cache, row.operation) == chosen]
        floor_s = min((row.median_s for row in rows), default=0.0)
        values = {}
        for row in rows:
            moved, flops = size(Shape(kind, "", row.shape, cache, self._dtype))
            ideal_s = floor_s + math.hypot(moved / ceilings.copy_bytes_per_s, flops / rate)
            values[tuple(row.shape[column] for column in columns)] = math.log(ideal_s / row.median_s)
        return values

    def _shape(self, kind: str, cache: str, columns: tuple[int, ...], point: tuple[float, ...]) -> Shape:
        return Shape(kind, "", tuple(point[columns.index(i)] for i in range(len(columns))), cache, self._dtype)

    def _allowed(self, kind: str, cache: str, columns: tuple[int, ...], point: tuple[float, ...]) -> bool:
        shape = self._shape(kind, cache, columns, point)
        return shape not in self._failed and worthwhile(shape, self._grid, self._machine.last_level_cache_bytes)

    # -- whole parts ------------------------------------------------------------------------------------------------

    def _measure_in_passes(self, hidden: int) -> bool:
        """Elementwise kernels inside passes of a generic model; what is already in the table is left out."""
        tokens, machine = self._grid.pass_tokens, self._machine
        keys = [
            (float(count), float(width), operation, self._dtype, "cold", "eager")
            for count in tokens
            for operation, width in in_pass.widths(hidden).items()
        ]
        if all(self._table.holds("elementwise", key) for key in keys):
            return True
        return self._add_all("elementwise", lambda: in_pass.times(machine, self._dtype, hidden, tokens))

    def _measure_host(self) -> bool:
        if self._table.rows("host"):
            return True
        device = self._machine.device
        return self._add_all("host", lambda: host_rows(self._grid.host_batches, device, self._dtype))

    def _measure_collectives(self) -> bool:
        return bool(self._table.rows("collective")) or self._add_all("collective", collective_rows)

    def _measure_whole_passes(self, index: int) -> bool:
        device = self._machine.device
        spec, cells, modes = CHECKED[device][index], self._grid.whole_passes, captures_of(self._capture)
        if sum(row.operation == spec.name for row in self._table.rows("pass")) == len(cells) * len(modes):
            return True
        return self._add_all(
            "pass", lambda: pass_rows(spec, cells, device, self._dtype, self._clock, modes, self._probe)
        )

    def _add_all(self, kind: str, rows: Callable[[], Iterable[Row]]) -> bool:
        """Add what a part yields, row by row; whether there was time for it."""
        if self._budget.over:
            return False
        self._budget.report(kind)
        self._probe_when_due()
        try:
            for row in rows():
                if not self._table.holds(kind, row.key()):
                    self._table.add(kind, row)
        except (RuntimeError, NotImplementedError) as error:
            self._kernels.release()
            self._note(f"{kind} was cut short: {str(error).strip().split(chr(10))[0][:120]}")
        return True
