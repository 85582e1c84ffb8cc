"""A system's tables on disk: which are read, whose, and which of their rows are left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from specsim.errors import InvalidInput, MissingExtra, NoAnswer, unknown_name
from specsim.interop.aiconfigurator.narrow import (
    slower_than_wide,
    without_detours,
    without_fallbacks,
    without_quantising,
)
from specsim.interop.aiconfigurator.rows import READERS, Record
from specsim.profiles.schema import Ceilings, Row
from specsim.profiles.store import faster_than_possible

PACKAGE = "aiconfigurator-core"
# Whose all-reduce table of a system is read where the backend's own was measured on a poor host: eight L40S of vLLM's
# (and NCCL's) tables reach 2 GB/s of bus bandwidth over PCI Express 4.0, the same cards in SGLang 0.5.12's 21. Both
# engines leave all-reduce over more than two such cards to NCCL. All-gathers, NCCL's alone, are left out.
COLLECTIVES = {"l40s": ("sglang", "0.5.12")}

OWN = ""
# Whose tables hold a format's usable rows, best first, and of which version (none: the newest). vLLM's of blocks of
# FP8 were launched from the host one by one (55 us at least, where SGLang's graphs take 3.4), its NVFP4 ones replay
# one matrix out of the cache, its experts in 4 bits are one model's (where SGLang 0.5.10 has them too: 1 % apart). All
# engines run these formats by the same libraries: DeepGEMM, FlashInfer, Marlin. TensorRT-LLM 1.0's weight-only and
# INT8 GEMMs of the A100 are not read: plug-ins of a TensorRT engine, timed to 1 us, 4 to 7 us slower than its own
# 16-bit ones on the smallest matrices, by kernels that no engine has kept.
FORMAT_HOMES: dict[tuple[str, str], tuple[tuple[str, str | None], ...]] = {
    ("gemm", "fp8-block"): (("sglang", None), ("trtllm", None)),
    ("gemm", "nvfp4"): (("sglang", None),),
    ("moe", "int4-weight-g128"): (("sglang", "0.5.10"),),
    ("moe", "fp8"): ((OWN, None), ("trtllm", None)),
}
HOMES = {"nccl": "nccl", "sparse_attention": "sglang"}  # whose tables are read whatever the backend


@dataclass(slots=True)
class Tables:
    """Rows read from a system's tables. ``skipped``: by class, of formats, masks or layouts that specsim has none of;
    ``rejected``: by class, that cannot be true."""

    system: str
    backend: str
    version: str
    rows: dict[str, list[Row]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What draws are named after: the GPU without its socket."""
        return self.system.split("_")[0]


def data_folder(given: Path | None) -> Path:
    """The folder of systems: the one given, or that of the installed package."""
    if given is not None:
        if not given.is_dir():
            raise InvalidInput(f"there is no folder {given}; give the one that holds the system folders")
        return given
    found = find_spec("aiconfigurator_core")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(PACKAGE, "import")
    return Path(found.submodule_search_locations[0]) / "systems" / "data"


def read_tables(folder: Path, system: str, backend: str, version: str | None, ceilings: Ceilings) -> Tables:
    """All rows of one system and backend.

    Raises InvalidInput for an unknown system, backend or version (near matches offered), NoAnswer for no rows,
    MissingExtra without pyarrow.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", "import")
    tables = Tables(system, backend, _known_version(folder, system, backend, version))
    for operation, name, kind, read in READERS:
        home, wanted = HOMES.get(operation, backend), tables.version
        if kind == "collective" and system in COLLECTIVES:
            home, wanted = COLLECTIVES[system]
        path = _table(folder / system / ("comm" if operation == "nccl" else operation) / home, wanted, name)
        if path is not None:
            _read(path, kind, read, f"{home} {path.parent.name}", tables)
    _read_from_their_homes(folder / system, tables)
    path = _table(folder / system / "quantize" / backend, tables.version, "scale_matrix_perf.parquet")
    products = tables.rows.get("gemm", [])
    _keep(tables, "gemm", without_detours(products if path is None else without_quantising(products, path)))
    _keep(tables, "attention", without_fallbacks(tables.rows.get("attention", [])))
    _reject_too_fast(tables, ceilings)
    if not any(tables.rows.values()):
        raise NoAnswer(
            f"{folder / system} holds no {backend} {tables.version} rows that specsim reads; try another backend"
        )
    return tables


def _known_version(folder: Path, system: str, backend: str, version: str | None) -> str:
    """The version asked for, or the newest of the backend's on this system."""
    systems = sorted(path.parent.name for path in folder.glob("*/gemm"))
    if system not in systems:
        raise unknown_name("system", system, systems)
    backends = sorted(path.name for path in (folder / system / "gemm").iterdir() if path.is_dir())
    if backend not in backends:
        raise unknown_name(f"backend of {system}", backend, backends)
    versions = _versions(folder / system / "gemm" / backend)
    if version is not None and version not in versions:
        raise unknown_name(f"version of {backend} on {system}", version, versions)
    return version or versions[-1]


def _reject_too_fast(tables: Tables, ceilings: Ceilings) -> None:
    """Without the rows that beat the machine's ceilings."""
    for kind, rows in tables.rows.items():
        too_fast = faster_than_possible(kind, rows, ceilings, measured=False)
        if too_fast.any():
            tables.rejected[kind] = tables.rejected.get(kind, 0) + int(too_fast.sum())
        tables.rows[kind] = [row for row, wrong in zip(rows, too_fast, strict=True) if not wrong]


def _keep(tables: Tables, kind: str, rows: list[Row]) -> None:
    """These of a class's rows, the others as skipped."""
    tables.skipped[kind] = tables.skipped.get(kind, 0) + len(tables.rows.get(kind, [])) - len(rows)
    tables.rows[kind] = rows


def _read_from_their_homes(folder: Path, tables: Tables) -> None:
    """Replaces the rows of formats whose usable ones are in another engine's tables, or nowhere."""
    for (kind, dtype), homes in FORMAT_HOMES.items():
        if tables.backend in dict(homes):
            continue
        rows = tables.rows.get(kind, [])
        own = [row for row in rows if row.dtype == dtype]
        others = [row for row in rows if row.dtype != dtype]
        tried = (own if home == OWN else _of_format(folder, tables, home, at, kind, dtype) for home, at in homes)
        found = next((chosen for chosen in tried if chosen and not slower_than_wide(chosen, others)), [])
        tables.rows[kind] = others + found
        if found is not own:
            tables.skipped[kind] = tables.skipped.get(kind, 0) + len(own)


def _of_format(folder: Path, tables: Tables, home: str, version: str | None, kind: str, dtype: str) -> list[Row]:
    """The rows in one format of another engine's table, the newest that there is or that of a version."""
    name, read = next((file, reader) for _, file, one, reader in READERS if one == kind)
    path = _table(folder / kind / home, version or "", name)
    if path is None:
        return []
    other = Tables(tables.system, home, "")
    _read(path, kind, read, f"{home} {path.parent.name}", other)
    return [row for row in other.rows[kind] if row.dtype == dtype]


def _versions(folder: Path) -> list[str]:
    """Oldest first, by the numbers in them."""
    names = [path.name for path in folder.glob("*") if any(path.glob("*.parquet"))]
    return sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _table(folder: Path, version: str, name: str) -> Path | None:
    """The file of this version, or of the newest that has it."""
    having = [v for v in _versions(folder) if (folder / v / name).exists()]
    if not having:
        return None
    return folder / (version if version in having else having[-1]) / name


def _read(path: Path, kind: str, read: Callable[[Record], Row | None], source: str, tables: Tables) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        records: list[Record] = pyarrow.parquet.read_table(path).to_pylist()
        if kind == "elementwise":  # of several ways to share tokens out over sequences the narrowest, a decode step's
            records.sort(key=lambda record: int(record["isl"]))
        found = [(record, read(record)) for record in records]
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInput(f"{path}: not a parquet table ({error}); install {PACKAGE} again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"{path}: column {error} is missing or of another type; this importer knows {PACKAGE} 0.12"
        ) from error
    by_key: dict[tuple[object, ...], Row] = {}
    rows = tables.rows.setdefault(kind, [])
    for record, row in found:
        if row is None:
            tables.skipped[kind] = tables.skipped.get(kind, 0) + 1
        elif not 0 < float(record["latency"]) < float("inf"):
            tables.rejected[kind] = tables.rejected.get(kind, 0) + 1
        else:
            by_key.setdefault((*row.key(), row.kernel), replace(row, source=source))
    rows += by_key.values()
