"""One sweep over a device: shapes in, a profile folder out, resumable at any point.

First a grid, coarse before fine, each level in random order with something of every kernel class first; then
midpoints where interpolation is worst. On a shared machine that is the smaller part of the time: the rest goes into
coming back to every shape, minutes apart (``visits``). Rows are on disk once measured. A second run with the same
folder skips what its tables hold; a folder begun on another device or dtype is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.kept_files import only_writer
from specsim.profiling.device.facts import machine_facts, measured_rates
from specsim.profiling.device.machine import DTYPES, default_dtype, inspect
from specsim.profiling.device.probe import MachineProbe
from specsim.profiling.device.timer import clock_and_capture
from specsim.profiling.sweep.budget import TimeBudget
from specsim.profiling.sweep.header import known_header, new_header
from specsim.profiling.sweep.plan import CPU, CUDA, Grid, thinned
from specsim.profiling.sweep.sweep import INCOMPLETE, Sweep
from specsim.profiling.sweep.table import ProfileTable, require_writable
from specsim.progress import TimedProgress

LEAST_MINUTES = 1.0
FINISHING_SHARE = 0.08  # of the time, kept for what comes after the last shape
CEILINGS_SHARE = 0.125  # of the time at most, half of what a header may take
ATTRIBUTION = "measured by specsim profile run"
QUICK_ROUNDS, MOST_ROUNDS = {"cpu": 3, "cuda": 0}, {"cpu": 11, "cuda": 0}  # of coming back to every shape


def run_sweep(
    device: str,
    dtype: str | None = None,
    folder: Path | None = None,
    *,
    gpu: str | None = None,
    quick: bool = False,
    minutes: float = 8.0,
    progress: TimedProgress = lambda spent, total, what: None,
    warn: Callable[[str], None] = lambda line: None,
    grid: Grid | None = None,
) -> Path:
    """Measure this machine into ``folder`` (default ``profiles/<machine>``) for at most ``minutes`` and return it.

    ``dtype`` None: what is native to the device. ``gpu`` names the hardware preset it stands for; None: the machine's
    name. ``quick`` stops after a thinner grid. Raises InvalidInput for an unknown dtype, too few minutes or a folder
    that holds another machine's profile, NoAnswer without the device, where no product runs in ``dtype`` or where the
    folder cannot be written.
    """
    _check(dtype, minutes)
    budget = TimeBudget(60.0 * minutes, FINISHING_SHARE, progress)
    timers, machine = clock_and_capture(device), inspect(device)
    dtype = dtype or default_dtype(device)
    probe = MachineProbe(device, dtype, *timers)
    folder = Path("profiles") / machine.slug() if folder is None else folder
    grid = grid or (CPU if device == "cpu" else CUDA)
    grid = thinned(grid) if quick else grid
    header = known_header(folder, machine_facts(machine), dtype)
    require_writable(folder)
    if header is None:
        rates = measured_rates(machine, _dtypes(dtype, grid), *timers, CEILINGS_SHARE * budget.total_s)
        header = new_header(
            machine_facts(machine), rates, probe.seconds(), gpu=gpu or machine.slug(), attribution=ATTRIBUTION
        )
    with only_writer(folder):
        table = ProfileTable(folder)
        table.write_header(header)
        table.raise_ceilings()  # to the rows of an earlier run that was ended before it could
        table.forget_notes(INCOMPLETE)
        sweep = Sweep(machine, dtype, grid, table, budget, timers, probe, warn)
        sweep.note_emulation()
        _measure(sweep, device, quick=quick)
    return folder


def _check(dtype: str | None, minutes: float) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: the reference kernels run in {', '.join(DTYPES)}; choose one")
    if not LEAST_MINUTES <= minutes < math.inf:
        raise InvalidInput(
            f"--minutes {minutes:g}: give a number from {LEAST_MINUTES:g}, which a coarse grid needs, on"
        )


def _dtypes(dtype: str, grid: Grid) -> list[str]:
    """Number formats whose matrix products the grid times."""
    formats = {name for block in grid.blocks for name in block.dtypes}
    return [dtype, *(name for name in ("fp8", "int8") if name in formats)]


def _measure(sweep: Sweep, device: str, *, quick: bool) -> None:
    try:
        sweep.measure_grid()
        if not quick:
            sweep.refine()
        sweep.revisit((QUICK_ROUNDS if quick else MOST_ROUNDS)[device])
    finally:  # an interruption loses nothing either
        sweep.settle()
    sweep.finish()
