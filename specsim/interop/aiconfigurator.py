"""Kernel profiles from the public tables of NVIDIA's AIConfigurator (package aiconfigurator-core, Apache-2.0).

The package holds measured kernel latencies in milliseconds as parquet files, <system>/<op>/<backend>/<version>/.
Read here: GEMM, attention of prompts and of decoding, MLA attention, the indexer of sparse attention at 1 to 64 query
tokens (the scores of DeepSeek-V4's, the choice of GLM-5's), routed MoE layers, all-reduce and all-gather. It has no
dense attention of 2 or more query tokens over a cache, no drafting and no sampling times, and none are made up. Its
modules of sparse attention at 4 to 64 query tokens are not read: DeepSeek-V3.2's, GLM-5's and MiniMax-M3's hold the
host's launches (0.7 to 1.5 ms whatever the shape, where one decoding token takes 0.05 to 0.1), and all of them run the
kernels of prompts, with which engines verify no drafts. How
the rows were timed is in its collectors (github.com/ai-dynamo/aiconfigurator, collector/): 16-bit and FP8 GEMMs rotate
over six weight matrices in a CUDA graph, so matrices below a sixth of the L2 cache are served by it; attention replays
one cache; the size of a collective counts elements of 2 bytes. An FP8 GEMM was timed with the kernel before it that
quantises its input. Engines quantise in the norm or the activation (vLLM's fuse_norm_quant and fuse_act_quant, on for
FP8), so what the tables say that kernel takes alone is left out.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, MissingExtra, NoAnswer, unknown_name
from specsim.interop.aiconfigurator_narrow import (
    in_whole_loads,
    slower_than_wide,
    without_detours,
    without_fallbacks,
    without_quantising,
)
from specsim.profiles.schema import Ceilings, HeldoutError, ProfileHeader, Row
from specsim.profiles.store import Profile, faster_than_possible
from specsim.specs.hardware import Hardware
from specsim.surfaces.heldout import score
from specsim.surfaces.row_groups import row_groups, surface_of
from specsim.surfaces.selection import SelectionPlan

PACKAGE = "aiconfigurator-core"
IMPORTER = "aiconfigurator"
FORMATS = {
    "bfloat16": "bfloat16", "float16": "float16", "half": "float16", "fp8": "fp8", "sq": "int8",
    "int8_wo": "int8-weight", "int4_wo": "int4-weight-g128", "fp8_block": "fp8-block", "nvfp4": "nvfp4",
    "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4-mxfp8", "w4afp8": "int4-fp8",
}  # fmt: skip
BALANCED = "power_law_1.01"  # how tokens spread over experts: the mildest skew that every table has
# DeepSeek's MLA: absorbed, one shared KV head of kv_lora_rank + qk_rope_head_dim; in a prompt qk_nope + qk_rope.
MLA_CACHED_DIM, MLA_PROMPT_DIM, MLA_HEADS = 576, 192, 128
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
# Whose all-reduce table of a system is read where the backend's own was measured on a poor host: eight L40S of vLLM's
# (and NCCL's) tables reach 2 GB/s of bus bandwidth over PCI Express 4.0, the same cards in SGLang 0.5.12's 21. Both
# engines leave all-reduce over more than two such cards to NCCL. All-gathers, NCCL's alone, are left out.
COLLECTIVES = {"l40s": ("sglang", "0.5.12")}
COLLECTIVES_NOTE = (
    "collectives are {} {}'s: those of the other tables are of a host that gives its cards a sixteenth of their links"
)

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
WIDEST_INDEX, FEWEST_INDEX_KEYS = 64, 256  # query tokens of a sequence; tokens in its cache

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


Record = dict[str, Any]


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


def preset_of(system: str) -> str:
    """The hardware preset of a system, by default; raises InvalidInput where there is none."""
    if system not in PRESETS:
        raise InvalidInput(
            f"no hardware preset is known for system {system!r}; name one with --gpu (known: {', '.join(PRESETS)})"
        )
    return PRESETS[system]


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


def package_version() -> str:
    """The installed package's version, or "unknown version" for a folder of one's own."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown version"


def read_tables(folder: Path, system: str, backend: str, version: str | None, ceilings: Ceilings) -> Tables:
    """All rows of one system and backend.

    Raises InvalidInput for an unknown system, backend or version (near matches offered), NoAnswer for no rows,
    MissingExtra without pyarrow.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", "import")
    systems = sorted(path.parent.name for path in folder.glob("*/gemm"))
    if system not in systems:
        raise unknown_name("system", system, systems)
    backends = sorted(path.name for path in (folder / system / "gemm").iterdir() if path.is_dir())
    if backend not in backends:
        raise unknown_name(f"backend of {system}", backend, backends)
    versions = _versions(folder / system / "gemm" / backend)
    version = versions[-1] if version is None else version
    if version not in versions:
        raise unknown_name(f"version of {backend} on {system}", version, versions)
    tables = Tables(system, backend, version)
    for operation, name, kind, read in _READERS:
        home, wanted = HOMES.get(operation, backend), version
        if kind == "collective" and system in COLLECTIVES:
            home, wanted = COLLECTIVES[system]
        path = _table(folder / system / ("comm" if operation == "nccl" else operation) / home, wanted, name)
        if path is not None:
            _read(path, kind, read, f"{home} {path.parent.name}", tables)
    _read_from_their_homes(folder / system, tables)
    path = _table(folder / system / "quantize" / backend, version, "scale_matrix_perf.parquet")
    products = tables.rows.get("gemm", [])
    _keep(tables, "gemm", without_detours(products if path is None else without_quantising(products, path)))
    _keep(tables, "attention", without_fallbacks(tables.rows.get("attention", [])))
    for kind, rows in tables.rows.items():
        too_fast = faster_than_possible(kind, rows, ceilings, measured=False)
        if too_fast.any():
            tables.rejected[kind] = tables.rejected.get(kind, 0) + int(too_fast.sum())
        tables.rows[kind] = [row for row, wrong in zip(rows, too_fast, strict=True) if not wrong]
    if not any(tables.rows.values()):
        raise NoAnswer(f"{folder / system} holds no {backend} {version} rows that specsim reads; try another backend")
    return tables


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
    name, read = next((file, reader) for _, file, one, reader in _READERS if one == kind)
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
            by_key.setdefault((*row.key(), row.kernel), _named(row, source))
    rows += by_key.values()


def _named(row: Row, source: str) -> Row:
    return Row(
        shape=row.shape, operation=row.operation, dtype=row.dtype, kernel=row.kernel, cache=row.cache, mode=row.mode,
        median_s=row.median_s, p10_s=None, p90_s=None, samples=None, source=source,
    )  # fmt: skip


def _row(record: Record, shape: Sequence[float], dtype: str, *, operation: str = "", mode: str = "graph") -> Row:
    seconds = float(record["latency"]) * 1e-3
    kernel = str(record.get("kernel_source", ""))
    return Row(tuple(float(x) for x in shape), operation, dtype, kernel, "cold", mode, seconds, None, None, None)


# -- one reader a kind of table: a row, or None where specsim has no such class, format or mask -----------------------


def _gemm(record: Record) -> Row | None:
    dtype = FORMATS.get(record["gemm_dtype"])
    return None if dtype is None else _row(record, (record["m"], record["n"], record["k"]), dtype)


def _attention(record: Record) -> Row | None:
    dtype = FORMATS.get(record["kv_cache_dtype"])
    plain = record["attn_dtype"] in ("bfloat16", "float16") and not record.get("window_size")
    if dtype is None or not plain or record["beam_width"] != 1:
        return None
    heads = record["num_heads"]
    kv_heads = record["num_key_value_heads"] or heads
    queries = record["isl"]
    shape = (record["batch_size"], queries, queries + record["step"], heads, kv_heads, record["head_dim"])
    return _row(record, shape, dtype)


def _mla(record: Record, *, cached: bool) -> Row | None:
    dtype = FORMATS.get(record["kv_cache_dtype"])
    if dtype is None or record["mla_dtype"] not in ("bfloat16", "float16"):
        return None
    heads = record["num_heads"]
    if heads * record["tp_size"] > MLA_HEADS:  # the whole model's heads: those of one rank are fewer
        heads //= record["tp_size"]
    kv_heads, head_dim = (1, MLA_CACHED_DIM) if cached else (heads, MLA_PROMPT_DIM)
    queries = record["isl"]
    shape = (record["batch_size"], queries, queries + record["step"], heads, kv_heads, head_dim)
    return _row(record, shape, dtype)


def _moe(record: Record) -> Row | None:
    dtype = FORMATS.get(record["moe_dtype"])
    if dtype is None or record["moe_ep_size"] != 1 or record["distribution"] != BALANCED:
        return None
    if "w4a4mxfp4moe_marlin" in record["kernel_source"] or "situ" in record["kernel_source"]:
        return None  # one model's layouts by a kernel of its own
    inner = record["inter_size"] // record["moe_tp_size"]
    shape = (record["num_tokens"], record["hidden_size"], inner, record["num_experts"], record["topk"])
    return _row(record, shape, dtype) if in_whole_loads(inner, dtype) else None


def _all_reduce(record: Record) -> Row | None:
    """Eager launches are left out where the table has graph replays too."""
    kernel = str(record["kernel_source"])
    if kernel.endswith("_eager"):
        return None
    mode = "graph" if kernel.endswith("_graph") else "eager"
    shape = (2 * record["message_size"], record["num_gpus"])
    return _row(record, shape, "bfloat16", operation="all_reduce", mode=mode)


def _nccl(record: Record) -> Row | None:
    if record["op_name"] != "all_gather" or record["nccl_dtype"] != "half":
        return None
    return _row(record, (2 * record["message_size"], record["num_gpus"]), "bfloat16", operation="all_gather")


def _index(record: Record) -> Row | None:
    """Scores of cached keys, and the choice of the best: both follow tokens and keys, however sequences share them."""
    if not 1 <= record["isl"] <= WIDEST_INDEX or record["step"] < FEWEST_INDEX_KEYS:
        return None
    if record.get("score_mode", "flat") != "flat":
        return None
    operation = "index" if "logits" in record["op_name"] else "top_k"
    shape = (record["batch_size"] * record["isl"], record["step"] / record["compress_ratio"])
    return _row(record, shape, "bfloat16", operation=operation)


_READERS: tuple[tuple[str, str, str, Callable[[Record], Row | None]], ...] = (
    ("gemm", "gemm_perf.parquet", "gemm", _gemm),
    ("attention", "generation_attention_perf.parquet", "attention", _attention),
    ("attention", "context_attention_perf.parquet", "attention", _attention),
    ("mla", "generation_mla_perf.parquet", "attention", lambda record: _mla(record, cached=True)),
    ("mla", "context_mla_perf.parquet", "attention", lambda record: _mla(record, cached=False)),
    ("moe", "moe_perf.parquet", "moe", _moe),
    ("sparse_attention", "dsv4_paged_mqa_logits_module_perf.parquet", "elementwise", _index),
    ("sparse_attention", "glm5_topk_module_perf.parquet", "elementwise", _index),
    ("comm", "custom_allreduce_perf.parquet", "collective", _all_reduce),
    ("nccl", "nccl_perf.parquet", "collective", _nccl),
)


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
