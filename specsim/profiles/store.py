"""Profiles on disk: where they are found, read, checked and written."""

from __future__ import annotations

import csv
import io
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from specsim.errors import InvalidInput, NoAnswer, unknown_name
from specsim.profiles.schema import MEASUREMENT_COLUMNS, SHAPE_COLUMNS, Ceilings, ProfileHeader, Row
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.specs.yaml_file import read_mapping, read_yaml

HEADER = "profile.yaml"
SCHEMA = 1
MAY_BE_ZERO = ("num_draft_tokens", "prefill_tokens")  # a step without drafts or without a prompt chunk
# What a row may reach of its profile's ceilings. FLOP/s: a datasheet's peak holds but for a few percent of boost; a
# measured ceiling is itself one kernel's time at that day's clocks. Bytes/s: a kernel may be served by a cache, and
# no last-level cache of the machines here is 16 times as fast as their memory (an L40S's about 5 times).
MOST_OF_DATASHEET, MOST_OF_MEASURED, MOST_OF_BANDWIDTH = 1.05, 1.5, 16.0
ROOFLINE_CLASSES = ("gemm", "attention", "elementwise", "sampling", "moe", "collective")


@dataclass(frozen=True, slots=True)
class Profile:
    """One machine's measurements: ``rows`` by kernel class."""

    name: str
    folder: Path
    header: ProfileHeader
    rows: dict[str, tuple[Row, ...]]

    def hardware(self) -> Hardware:
        """The machine itself, with the profile's ceilings in place of a datasheet's."""
        header = self.header
        return Hardware(
            name=header.gpu, source=f"profile {self.name}, measured {header.date}",
            kind="cpu" if header.device == "cpu" else "gpu", memory_bytes=header.memory_bytes,
            bandwidth_bytes_per_s=header.ceilings.copy_bytes_per_s, flops_per_s=header.ceilings.flops_per_s,
            last_level_cache_bytes=header.last_level_cache_bytes, launch_s=header.launch_s,
        )  # fmt: skip


def profiles_folder() -> Path:
    """The profiles shipped with specsim: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent.parent
    bundled = package / "bundled" / "profiles"
    return bundled if bundled.exists() else package.parent / "profiles"


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.parent.name for path in profiles_folder().glob(f"*/{HEADER}"))


def load_profile(reference: str) -> Profile:
    """A profile by name or folder.

    Raises InvalidInput: unknown name (near matches offered), another schema version, a header or row that breaks a
    rule (file and line), a row faster than its machine could be.
    """
    folder = Path(reference) if "/" in reference or Path(reference).is_dir() else profiles_folder() / reference
    if not (folder / HEADER).exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no {HEADER}; give a folder that specsim profile run wrote")
        raise unknown_name("profile", reference, profile_names())
    header = _read_header(folder)
    rows = {kind: read_rows(folder / f"{kind}.csv", kind) for kind in SHAPE_COLUMNS}
    for kind in ROOFLINE_CLASSES:
        too_fast = faster_than_possible(kind, rows[kind], header.ceilings, measured=header.importer is None)
        if too_fast.any():
            first = int(np.argmax(too_fast))
            raise InvalidInput(
                f"{folder / kind}.csv:{first + 2}: {rows[kind][first].median_s:g} s is faster than the ceilings of "
                f"{HEADER} allow, as are {int(too_fast.sum())} of {len(too_fast)} rows; check the unit (seconds) or "
                "remove the rows"
            )
    return Profile(folder.name, folder, header, rows)


def lacks_ceilings(folder: Path) -> bool:
    """Whether a folder's header was written before any ceiling was known: to be measured anew, in place."""
    ceilings = read_mapping(folder / HEADER).get("ceilings")
    return not isinstance(ceilings, dict) or not ceilings.get("flops_per_s")


def _read_header(folder: Path) -> ProfileHeader:
    path = folder / HEADER
    return _parsed_header(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=64)
def _parsed_header(path: Path, _changed_ns: int) -> ProfileHeader:
    """A header is hundreds of lines of YAML, and one answer asks every profile for its hardware several times."""
    version = read_mapping(path).get("schema")
    if version != SCHEMA:
        raise InvalidInput(
            f"{path}: schema {version} is not {SCHEMA}, the one this specsim reads; measure again with "
            "specsim profile run, or use the specsim that wrote it"
        )
    if lacks_ceilings(path.parent):
        raise InvalidInput(
            f"{path} holds no compute ceiling: what measured it was cut short; run the same specsim profile command "
            "again, which measures it anew in place"
        )
    return read_yaml(path, ProfileHeader)


def faster_than_possible(
    kind: str, rows: Iterable[Row], ceilings: Ceilings, *, measured: bool
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows no machine of these ceilings could have run: above its FLOP/s, or above any cache's bytes/s.

    ``measured``: the ceilings were measured, not taken from a datasheet.
    """
    found = list(rows)
    too_fast = np.zeros(len(found), dtype=bool)
    rates: Mapping[str, float] = {str(name): rate for name, rate in ceilings.flops_per_s.items()}
    for dtype in {row.dtype for row in found}:
        here = np.array([row.dtype == dtype for row in found])
        chosen = [row for row in found if row.dtype == dtype]
        moved, flops = work(kind, tuple(np.array([row.shape for row in chosen], dtype=np.float64).T), dtype)
        seconds = np.array([row.median_s for row in chosen])
        peak = rates.get(dtype, max(rates.values())) * (MOST_OF_MEASURED if measured else MOST_OF_DATASHEET)
        too_fast[here] = (moved / seconds > MOST_OF_BANDWIDTH * ceilings.copy_bytes_per_s) | (flops / seconds > peak)
    return too_fast


def find_profile(gpu: str) -> Profile | None:
    """What is known of hardware of this name, or None: its own measurements class by class before imported ones."""
    headers = {name: _read_header(profiles_folder() / name) for name in profile_names()}
    names = sorted((name for name in headers if headers[name].gpu == gpu), key=lambda name: _rank(headers[name]))
    if not names:
        return None
    best = load_profile(names[0])
    for name in names[1:]:
        best, _ = merged(best, load_profile(name))
    return best


def find_widths(profile: Profile) -> Profile | None:
    """A shipped profile of the same kind of device that has attention of several tokens a sequence, if this lacks it.

    What it measured between one token and several stands in for what ``profile`` does not hold.
    """
    if any(1 < row.shape[1] < row.shape[2] for row in profile.rows.get("attention", ())):
        return None
    for name in profile_names():
        header = _read_header(profiles_folder() / name)
        if header.importer is None and header.device == profile.header.device and header.gpu != profile.header.gpu:
            other = load_profile(name)
            if any(1 < row.shape[1] < row.shape[2] for row in other.rows["attention"]):
                return other
    return None


def _rank(header: ProfileHeader) -> int:
    """Kernel measurements first, then those of whole steps only, then imported ones."""
    if header.importer is not None:
        return 2
    return 0 if header.heldout_error else 1


def merged(first: Profile, second: Profile) -> tuple[Profile, dict[str, int]]:
    """Both profiles in one, class by class: the first's rows where it has any, else the second's.

    Also the number of rows of the second that lost, by class. Raises InvalidInput for profiles of different hardware.
    """
    if first.header.gpu != second.header.gpu:
        raise InvalidInput(
            f"{first.name} is of {first.header.gpu}, {second.name} of {second.header.gpu}; merge profiles of one card"
        )
    rows = {kind: first.rows.get(kind) or second.rows.get(kind, ()) for kind in SHAPE_COLUMNS}
    lost = {kind: len(second.rows.get(kind, ())) for kind in SHAPE_COLUMNS if first.rows.get(kind)}
    taken = [kind for kind in SHAPE_COLUMNS if not first.rows.get(kind) and second.rows.get(kind)]
    errors = {
        name: error
        for header, own in ((first.header, True), (second.header, False))
        for name, error in header.heldout_error.items()
        if (name.split()[0] not in taken) == own
    }
    flops = dict(second.header.ceilings.flops_per_s) | dict(first.header.ceilings.flops_per_s)
    header = first.header.model_copy(update={
        "heldout_error": errors,
        "ceilings": first.header.ceilings.model_copy(update={"flops_per_s": flops}),
        "attribution": f"{first.header.attribution}; {', '.join(taken) or 'nothing'}: {second.header.attribution}",
    })  # fmt: skip
    counts = {kind: count for kind, count in lost.items() if count}
    return Profile(f"{first.name} + {second.name}", first.folder, header, rows), counts


def read_rows(path: Path, kind: str) -> tuple[Row, ...]:
    """The rows of one class; an absent file is a class that was not measured.

    A last line without its end, as a crash or a full disk leaves it, is dropped with a warning.
    """
    if not path.exists():
        return ()
    text = path.read_text()
    if text and not text.endswith("\n"):
        warnings.warn(f"{path}: the last line has no end and is left out; its shape is measured again", stacklevel=2)
        text = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(text))
    wanted = [*SHAPE_COLUMNS[kind], *MEASUREMENT_COLUMNS]
    missing = [column for column in wanted if column not in (reader.fieldnames or [])]
    if missing:
        raise InvalidInput(f"{path}: column {missing[0]!r} is missing; a {kind} table has {', '.join(wanted)}")
    return tuple(_row(record, kind, f"{path}:{line}") for line, record in enumerate(reader, start=2))


def _row(record: dict[str, str], kind: str, where: str) -> Row:
    columns = SHAPE_COLUMNS[kind]
    try:
        shape = tuple(float(record[column]) for column in columns)
        median = float(record["median_s"])
        low, high = (float(record[column]) if record[column] else None for column in ("p10_s", "p90_s"))
        samples = int(record["samples"]) if record["samples"] else None
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{where}: not a number ({error}); measure this shape again or remove the row") from error
    sizes = (value for column, value in zip(columns, shape, strict=True) if value or column not in MAY_BE_ZERO)
    times = (value for value in (median, low, high) if value is not None)
    if not all(math.isfinite(value) and value > 0 for value in (*sizes, *times)):
        raise InvalidInput(f"{where}: shapes and times must be positive and finite; measure again or remove the row")
    if low is not None and high is not None and not low <= median <= high:
        raise InvalidInput(f"{where}: p10 {low} <= median {median} <= p90 {high} does not hold; remove the row")
    return Row(
        shape=shape, operation=record["operation"], dtype=record["dtype"], kernel=record["kernel"],
        cache=record["cache"], mode=record["mode"], median_s=median, p10_s=low, p90_s=high, samples=samples,
        source=record["source"],
    )  # fmt: skip


def write_header(folder: Path, header: ProfileHeader) -> None:
    """Write the YAML header; an interrupted write leaves the one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    data = header.model_dump(mode="json", by_alias=True)
    data["heldout_error"] = {
        name: {key: value for key, value in error.items() if value is not None}
        for name, error in data["heldout_error"].items()
    }
    _replace(folder / HEADER, yaml.safe_dump(data, sort_keys=False, width=110))


def write_profile(folder: Path, header: ProfileHeader, rows: Mapping[str, Iterable[Row]]) -> None:
    """Write a whole profile, each file in one piece. Raises NoAnswer where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in SHAPE_COLUMNS:
            found = list(rows.get(kind, ()))
            if found:
                replace_rows(folder, kind, found)
        write_header(folder, header)
    except OSError as error:
        raise NoAnswer(f"{folder} cannot be written ({error.strerror}); make room or give another folder") from error


def replace_rows(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Write a class's table anew, in one piece: an interrupted write leaves the one that was there."""
    _replace(folder / f"{kind}.csv", _csv_text(kind, rows, fresh=True))


def append_rows(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Add rows to a class's table, creating it with its column names; each call is one checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        file.write(_csv_text(kind, rows, fresh=fresh))


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_text(text)
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _csv_text(kind: str, rows: Iterable[Row], *, fresh: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if fresh:
        writer.writerow([*SHAPE_COLUMNS[kind], *MEASUREMENT_COLUMNS])
    for row in rows:
        times = ("" if value is None else f"{value:.6g}" for value in (row.median_s, row.p10_s, row.p90_s))
        shape = (f"{value:.15g}" for value in row.shape)
        texts = (row.operation, row.dtype, row.kernel, row.cache, row.mode)
        writer.writerow([*shape, *texts, *times, "" if row.samples is None else row.samples, row.source])
    return text.getvalue()
