"""Profiles on disk: where they are found, read and written."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from specsim.errors import InvalidInput, unknown_name
from specsim.profiles.schema import MEASUREMENT_COLUMNS, SHAPE_COLUMNS, ProfileHeader, Row
from specsim.specs.hardware import Hardware
from specsim.specs.yaml_file import read_yaml

HEADER = "profile.yaml"


@dataclass(frozen=True, slots=True)
class Profile:
    """One machine's measurements: ``rows`` by kernel class."""

    name: str
    folder: Path
    header: ProfileHeader
    rows: dict[str, tuple[Row, ...]]

    def hardware(self) -> Hardware:
        """The machine itself, with the measured ceilings in place of a datasheet's."""
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

    Raises InvalidInput: unknown name (near matches offered), a header or row that breaks a rule (file and line).
    """
    folder = Path(reference) if "/" in reference or Path(reference).is_dir() else profiles_folder() / reference
    if not (folder / HEADER).exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no {HEADER}; give a folder that specsim profile run wrote")
        raise unknown_name("profile", reference, profile_names())
    header = read_yaml(folder / HEADER, ProfileHeader)
    rows = {kind: read_rows(folder / f"{kind}.csv", kind) for kind in SHAPE_COLUMNS}
    return Profile(folder.name, folder, header, rows)


def find_profile(gpu: str) -> Profile | None:
    """The shipped profile measured on hardware of this name, or None."""
    for name in profile_names():
        header = read_yaml(profiles_folder() / name / HEADER, ProfileHeader)
        if header.gpu == gpu:
            return load_profile(name)
    return None


def read_rows(path: Path, kind: str) -> tuple[Row, ...]:
    """The rows of one class; an absent file is a class that was not measured."""
    if not path.exists():
        return ()
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        wanted = [*SHAPE_COLUMNS[kind], *MEASUREMENT_COLUMNS]
        missing = [column for column in wanted if column not in (reader.fieldnames or [])]
        if missing:
            raise InvalidInput(f"{path}: column {missing[0]!r} is missing; a {kind} table has {', '.join(wanted)}")
        return tuple(_row(record, kind, f"{path}:{line}") for line, record in enumerate(reader, start=2))


def _row(record: dict[str, str], kind: str, where: str) -> Row:
    try:
        shape = tuple(float(record[column]) for column in SHAPE_COLUMNS[kind])
        median, low, high = (float(record[column]) for column in ("median_s", "p10_s", "p90_s"))
        samples = int(record["samples"])
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{where}: not a number ({error}); measure this shape again or remove the row") from error
    if not all(math.isfinite(value) and value > 0 for value in (*shape, median, low, high)):
        raise InvalidInput(f"{where}: shapes and times must be positive and finite; measure again or remove the row")
    if not low <= median <= high:
        raise InvalidInput(f"{where}: p10 {low} <= median {median} <= p90 {high} does not hold; remove the row")
    return Row(
        shape=shape, operation=record["operation"], dtype=record["dtype"], kernel=record["kernel"],
        cache=record["cache"], mode=record["mode"], median_s=median, p10_s=low, p90_s=high, samples=samples,
        source=record["source"],
    )  # fmt: skip


def write_header(folder: Path, header: ProfileHeader) -> None:
    """Write the YAML header."""
    folder.mkdir(parents=True, exist_ok=True)
    data = header.model_dump(mode="json", by_alias=True)
    (folder / HEADER).write_text(yaml.safe_dump(data, sort_keys=False, width=110))


def append_rows(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Add rows to a class's table, creating it with its column names; each call is one checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow([*SHAPE_COLUMNS[kind], *MEASUREMENT_COLUMNS])
        for row in rows:
            times = (f"{value:.6g}" for value in (row.median_s, row.p10_s, row.p90_s))
            shape = (f"{value:g}" for value in row.shape)
            texts = (row.operation, row.dtype, row.kernel, row.cache, row.mode)
            writer.writerow([*shape, *texts, *times, row.samples, row.source])
