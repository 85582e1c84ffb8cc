"""A profile's header: what is known before a sweep, and how well its rows predict one another at the end."""

from __future__ import annotations

import datetime
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, HeldoutError, Probe, ProfileHeader
from specsim.profiles.store import HEADER, load_profile
from specsim.profiling.ceilings import compute_ceilings, copy_ceiling, launch_overhead_s
from specsim.profiling.machine import Machine
from specsim.profiling.plan import Grid
from specsim.profiling.probe import MachineProbe
from specsim.profiling.table import Table
from specsim.profiling.timer import Capture, Clock
from specsim.surfaces.heldout import heldout_error

HELD_OUT = ("gemm", "attention", "elementwise", "sampling", "moe", "collective")


def header_of(
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
        launch_s=launch_overhead_s(machine.device),
        ceilings=Ceilings.model_validate({
            "copy_bytes_per_s": copy_ceiling(machine.device, clock, capture),
            "flops_per_s": compute_ceilings(machine.device, dtypes, clock, capture),
            "processors": machine.processors,
        }),
        probe=Probe(before_s=probe.seconds()),
    )  # fmt: skip


def heldout_errors(table: Table) -> dict[str, HeldoutError]:
    """By class, how well rows are predicted from a profile without them; classes too sparse to tell are left out."""
    ceilings = table.header.ceilings
    rates = {str(name): rate for name, rate in ceilings.flops_per_s.items()}
    errors: dict[str, HeldoutError] = {}
    for kind in HELD_OUT:
        rows = tuple(table.rows(kind))
        error = heldout_error(kind, rows, ceilings.copy_bytes_per_s, rates) if rows else None
        if error is not None:
            errors[kind] = error
    return errors
