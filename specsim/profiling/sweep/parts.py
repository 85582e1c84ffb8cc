"""Parts of a sweep that are not single kernels: which rows a table lacks of each, and how they are measured.

Each function gives the rows to measure, or None where the table holds them all; ``parts_of`` lists them for a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import get_args

from specsim.profiles.schema import Row
from specsim.profiling.device.machine import Machine
from specsim.profiling.device.probe import MachineProbe
from specsim.profiling.device.timer import Capture, Clock
from specsim.profiling.kernels import in_pass
from specsim.profiling.kernels.collectives import collective_rows
from specsim.profiling.kernels.host import LAUNCHED, copy_rows, engine_rows, launch_rows
from specsim.profiling.kernels.passes import CHECKED, PassShape, captures_of, pass_rows
from specsim.profiling.sweep.plan import Grid
from specsim.profiling.sweep.table import ProfileTable
from specsim.reference.timing.host import HostPart
from specsim.specs.model import ModelSpec

Rows = Callable[[], Iterable[Row]]
HOST_CELL_SHARE = 0.002  # of the time at most, for one batch and drafter of the engine's own host time


def parts_of(
    grid: Grid,
    table: ProfileTable,
    machine: Machine,
    dtype: str,
    total_s: float,
    timers: tuple[Clock, Capture],
    probe: MachineProbe,
) -> Iterator[tuple[str, Callable[[], Rows | None]]]:
    """The class of each part, and what it is asked for its rows; ``total_s``: of the sweep."""
    for hidden in grid.pass_hidden_sizes:
        yield "elementwise", partial(elementwise, table, machine, dtype, hidden, grid)
    yield "host", partial(host, table, machine.device, dtype, grid.host_batches, HOST_CELL_SHARE * total_s)
    if machine.device == "cuda":
        yield "collective", partial(collectives, table)
    for spec in CHECKED[machine.device] if grid.whole_passes else ():
        yield "pass", partial(whole_passes, table, spec, grid.whole_passes, machine.device, dtype, timers, probe)


def elementwise(table: ProfileTable, machine: Machine, dtype: str, hidden: int, grid: Grid) -> Rows | None:
    """Elementwise kernels inside passes of a generic model of this hidden size."""
    widths = in_pass.widths(hidden)

    def is_missing(tokens: int) -> bool:
        keys = ((float(tokens), float(width), name, dtype, "cold", "eager") for name, width in widths.items())
        short = in_pass.pass_flops(machine, hidden, tokens) <= grid.most_pass_flops
        return short and not all(table.holds("elementwise", key) for key in keys)

    tokens = [count for count in grid.pass_tokens if is_missing(count)]
    return (lambda: in_pass.times(machine, dtype, hidden, tokens)) if tokens else None


def host(table: ProfileTable, device: str, dtype: str, batches: Sequence[int], seconds_per_cell: float) -> Rows | None:
    """Launches, and the engine's own time by batch: a batch that lacks one of its parts is measured again."""
    known = {(row.operation, int(row.shape[0])) for row in table.rows("host")}
    missing = [batch for batch in batches if not {(part, batch) for part in get_args(HostPart)} <= known]
    launched = LAUNCHED[device] <= {operation for operation, _ in known}

    def rows() -> Iterator[Row]:
        if not launched:
            yield from launch_rows(device, dtype)
        if missing:
            yield from engine_rows(missing, device, dtype, seconds_per_cell)
        if device == "cuda":
            yield from copy_rows(missing, dtype)

    return None if launched and not missing else rows


def collectives(table: ProfileTable) -> Rows | None:
    """Collectives over all GPUs of this machine."""
    return None if table.rows("collective") else collective_rows


def whole_passes(
    table: ProfileTable,
    spec: ModelSpec,
    cells: Sequence[PassShape],
    device: str,
    dtype: str,
    timers: tuple[Clock, Capture],
    probe: MachineProbe,
) -> Rows | None:
    """Whole passes of a model, for the check that kernels add up."""
    clock, capture = timers
    known = {row.shape for row in table.rows("pass") if row.operation == spec.name}
    missing = [cell for cell in cells if tuple(map(float, cell)) not in known]
    modes = captures_of(capture)
    return (lambda: pass_rows(spec, missing, device, dtype, clock, modes, probe)) if missing else None
