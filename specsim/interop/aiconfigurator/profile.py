"""The profile made of AIConfigurator's tables: which rows to keep, its header, its check against the tables."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from specsim.errors import InvalidInput, unknown_name
from specsim.interop.aiconfigurator.tables import COLLECTIVES, PACKAGE, Tables, data_folder, read_tables
from specsim.profiles.schema import Ceilings, HeldoutError, ProfileHeader
from specsim.profiles.store import Profile
from specsim.specs.hardware import Hardware
from specsim.surfaces.heldout import score
from specsim.surfaces.row_groups import row_groups, surface_of
from specsim.surfaces.selection import SelectionPlan

IMPORTER = "aiconfigurator"
PRESETS = {
    "h200_sxm": "h200",
    "h100_sxm": "h100-sxm",
    "a100_sxm": "a100-80gb",
    "l40s": "l40s",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "gb200": "gb200",
    "gb300": "gb300",
    "rtx_pro_6000_server": "rtx-pro-6000",
}
COLLECTIVES_NOTE = (
    "collectives are {} {}'s: those of the other tables are of a host that gives its cards a sixteenth of their links"
)

ROWS = 10500
SEED = 20260611
QUOTAS = {
    "attention decode bfloat16": 1500,
    "attention prefill bfloat16": 1475,
    "attention decode fp8": 375,
    "gemm fp8": 525,
    "moe bfloat16": 450,
    "elementwise index bfloat16": 400,
    "elementwise top_k bfloat16": 400,
}
# Of narrow formats, beside those rows.
NARROW = {
    "gemm fp8-block": 450,
    "gemm nvfp4": 450,
    "moe fp8": 250,
    "moe fp8-block": 300,
    "moe nvfp4": 300,
    "moe mxfp4": 350,
    "moe mxfp4-mxfp8": 350,
    "moe int4-weight-g128": 170,
    "attention prefill fp8": 200,
}
TESTS = {
    "gemm bfloat16": 1000,
    "attention decode bfloat16": 600,
    "attention prefill bfloat16": 600,
    "moe bfloat16": 600,
    "elementwise index bfloat16": 40,
    "elementwise top_k bfloat16": 40,
}


def plan_of(rows: int = ROWS, keep: Mapping[str, int] | None = None) -> SelectionPlan:
    """What a profile of about ``rows`` rows keeps; what the other surfaces leave goes to 16-bit GEMMs.

    Narrow formats come on top. ``keep``: quotas of one's own, by surface. Raises InvalidInput for a surface that has
    none.
    """
    quotas, narrow = ({name: n * rows // ROWS for name, n in counts.items()} for counts in (QUOTAS, NARROW))
    for name, count in (keep or {}).items():
        if name not in (known := quotas | narrow):
            raise unknown_name("surface", name, known)
        (quotas if name in quotas else narrow)[name] = count
    return SelectionPlan(rows, quotas, "gemm bfloat16", "collective", TESTS, narrow)


def preset_of(system: str) -> str:
    """The hardware preset of a system, by default; raises InvalidInput where there is none."""
    if system not in PRESETS:
        raise InvalidInput(
            f"no hardware preset is known for system {system!r}; name one with --gpu (known: {', '.join(PRESETS)})"
        )
    return PRESETS[system]


def package_version() -> str:
    """The installed package's version, or "unknown version" for a folder of one's own."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown version"


def header_of(tables: Tables, hardware: Hardware, heldout: dict[str, HeldoutError]) -> ProfileHeader:
    """The header of an imported profile: facts from the hardware preset, the tables' own origin."""
    package = package_version()
    return ProfileHeader(
        schema=1, gpu=hardware.name, device_name=f"{tables.system} of {PACKAGE}", device="cuda", threads=1,
        clocks="unknown", driver="unknown", versions={PACKAGE: package, tables.backend: tables.version},
        date=datetime.date.today().isoformat(),
        attribution=f"NVIDIA AIConfigurator, {PACKAGE} {package}, Apache-2.0; latencies measured by its authors",
        last_level_cache_bytes=hardware.last_level_cache_bytes, memory_bytes=int(hardware.memory_bytes),
        launch_s=hardware.launch_s, ceilings=ceilings_of(hardware), backend=f"{tables.backend} {tables.version}",
        importer=IMPORTER, system=tables.system, rejected_rows=dict(tables.rejected), heldout_error=heldout,
        notes=[COLLECTIVES_NOTE.format(*COLLECTIVES[tables.system])] if tables.system in COLLECTIVES else [],
    )  # fmt: skip


def ceilings_of(hardware: Hardware) -> Ceilings:
    """A datasheet's rates and processors as a profile's ceilings."""
    return Ceilings(
        copy_bytes_per_s=hardware.bandwidth_bytes_per_s,
        flops_per_s=hardware.flops_per_s,
        processors=hardware.processors,
    )


def check_against_tables(profile: Profile, folder: Path | None) -> dict[str, HeldoutError]:
    """The errors of an imported profile on the test rows of its tables, drawn again by the seeds of its header.

    Of its rows as they are: prices come from surfaces that are made to ascend besides.

    Raises InvalidInput for a profile that was not imported from these tables.
    """
    header = profile.header
    if header.importer != IMPORTER or header.system is None or header.backend is None:
        raise InvalidInput(f"{profile.name} was not imported by {IMPORTER}; check it without --source")
    backend, _, version = header.backend.partition(" ")
    tables = read_tables(data_folder(folder), header.system, backend, version, header.ceilings)
    whole = {group.name: group for kind, rows in tables.rows.items() for group in row_groups(kind, rows)}
    found: dict[str, HeldoutError] = {}
    for kind, rows in profile.rows.items():
        for group in row_groups(kind, rows):
            stated = header.heldout_error.get(group.name)
            if stated is None or stated.seed is None or group.name not in whole:
                continue
            source = whole[group.name]
            test = [source.rows[i] for i in plan_of().draw(source, tables.label, stated.seed).test]
            surface = surface_of(group, group.rows, header.ceilings, stated.error_scale, stated.metric)
            kept = {"error_scale", "metric", "calibration_n", "seed"}
            found[group.name] = score(surface, group.rows, test).model_copy(
                update={name: getattr(stated, name) for name in kept}
            )
    return found
