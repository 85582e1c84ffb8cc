"""A profile's header: what is known before a sweep, and how well its rows predict one another at the end."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput
from specsim.profiles.schema import HeldoutError, ProfileHeader
from specsim.profiles.store import HEADER, lacks_ceilings, read_header
from specsim.profiling.sweep.table import ProfileTable
from specsim.surfaces.heldout import heldout_error

HELD_OUT = ("gemm", "attention", "elementwise", "sampling", "moe", "collective")


def known_header(folder: Path, facts: Mapping[str, Any], dtype: str) -> ProfileHeader | None:
    """The header of a profile that is being resumed; None where there is none, or one that was never complete.

    ``facts``: of the machine (``machine_facts``). Raises InvalidInput for one of another machine, number of threads,
    instruction set or dtype.
    """
    if not (folder / HEADER).exists() or lacks_ceilings(folder):
        return None
    header = read_header(folder)
    rates = header.ceilings.flops_per_s
    if header.device_name != facts["device_name"] or dtype not in rates or header.probe is None:
        raise InvalidInput(
            f"{folder} holds a profile of {header.device_name} in {', '.join(rates)}, and this would be one of "
            f"{facts['device_name']} in {dtype}; write to another folder with --out"
        )
    instructions = header.versions.get("instructions"), facts["versions"].get("instructions")
    for what, known, here in (("threads", header.threads, facts["threads"]), ("instructions", *instructions)):
        if known != here and known is not None:
            raise InvalidInput(
                f"{folder} holds a profile made with {what} {known} and this run has {here}; make them equal "
                "(OMP_NUM_THREADS, ATEN_CPU_CAPABILITY), or write to another folder with --out"
            )
    return header


def new_header(
    facts: Mapping[str, Any], rates: Mapping[str, Any], probe_s: float, *, gpu: str, attribution: str
) -> ProfileHeader:
    """A complete header: what is known of the machine and what was measured of it (``facts``), before any row."""
    return ProfileHeader.model_validate(
        {
            "schema": 1,
            "gpu": gpu,
            "date": datetime.date.today().isoformat(),
            "attribution": attribution,
            "probe": {"before_s": probe_s},
            **facts,
            **rates,
        }
    )


def heldout_errors(table: ProfileTable) -> dict[str, HeldoutError]:
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
