"""Profiles on disk: where they are found, read, merged and written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from specsim.errors import InvalidInput, NoAnswer, unknown_name
from specsim.kept_files import replace_text
from specsim.named_files import file_named, is_folder
from specsim.profiles.rows import parsed_rows, replace_rows, text_of
from specsim.profiles.schema import SHAPE_COLUMNS, Ceilings, ProfileHeader, Row
from specsim.shipped import shipped
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.specs.yaml_file import build, read_mapping

HEADER = "profile.yaml"
SCHEMA = 1
# What a row may reach of its profile's ceilings. FLOP/s: a datasheet's peak holds but for a few percent of boost; a
# measured ceiling is itself one kernel's time at that day's clocks. Bytes/s: a kernel may be served by a cache, and
# no last-level cache of the machines here is 16 times as fast as their memory (an L40S's about 5 times).
MOST_OF_DATASHEET, MOST_OF_MEASURED, MOST_OF_BANDWIDTH = 1.05, 1.5, 16.0
_FILES = (HEADER, *(f"{kind}.csv" for kind in SHAPE_COLUMNS))
_KEPT = 32  # profiles in memory
ROOFLINE_CLASSES = ("gemm", "attention", "elementwise", "sampling", "moe", "collective")


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One machine's measurements: ``rows`` by kernel class.

    Profiles are the same where they are one object: files are parsed once for each content that they have.
    ``sha256``: of that content; empty for a profile that was not read from files.
    """

    name: str
    folder: Path
    header: ProfileHeader
    rows: dict[str, tuple[Row, ...]]
    sha256: str = ""

    def hardware(self) -> Hardware:
        """The machine itself, with the profile's ceilings in place of a datasheet's."""
        return _hardware(self.name, self.header)


@dataclass(frozen=True, slots=True)
class _Files:
    """A profile's files, the same where their content is."""

    folder: Path
    sha256: str
    texts: Mapping[str, str] = field(compare=False)  # by kernel class

    @classmethod
    def read(cls, folder: Path) -> _Files:
        contents = {name: path.read_bytes() for name in _FILES if (path := folder / name).exists()}
        digest = hashlib.sha256()
        for name, content in contents.items():
            digest.update(f"{name} {len(content)} ".encode() + content)
        texts = {
            Path(name).stem: text_of(folder / name, content) for name, content in contents.items() if name != HEADER
        }
        return cls(folder, digest.hexdigest(), texts)


def profiles_folder() -> Path:
    """The profiles shipped with specsim."""
    return shipped("profiles")


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(path.parent.name for path in profiles_folder().glob(f"*/{HEADER}"))


def load_profile(reference: str) -> Profile:
    """A profile by name or folder; parsed once for each content that its files have.

    Raises InvalidInput: unknown name (near matches offered), another schema version, a header or row that breaks a
    rule (file and line), a row faster than its machine could be.
    """
    return _parsed(_Files.read(_folder(reference)))


def profile_hardware(reference: str) -> Hardware:
    """The machine that a profile was measured on, as ``Profile.hardware``, from the header alone.

    Raises InvalidInput as ``load_profile`` for an unknown name or a wrong header.
    """
    folder = _folder(reference)
    return _hardware(folder.name, read_header(folder))


def _hardware(name: str, header: ProfileHeader) -> Hardware:
    return Hardware(
        name=header.gpu,
        source=f"profile {name}, measured {header.date}",
        kind="cpu" if header.device == "cpu" else "gpu",
        memory_bytes=header.memory_bytes,
        bandwidth_bytes_per_s=header.ceilings.copy_bytes_per_s,
        flops_per_s=header.ceilings.flops_per_s,
        last_level_cache_bytes=header.last_level_cache_bytes,
        launch_s=header.launch_s,
    )


def _folder(reference: str) -> Path:
    named = "/" in reference or is_folder(reference)
    folder = file_named(reference) if named else profiles_folder() / reference
    if not (folder / HEADER).exists():
        if "/" in reference:
            raise InvalidInput(f"{folder} holds no {HEADER}; give a folder that specsim profile run wrote")
        raise unknown_name("profile", reference, profile_names())
    return folder


@lru_cache(maxsize=_KEPT)
def _parsed(files: _Files) -> Profile:
    folder, header = files.folder, read_header(files.folder)
    rows = {
        kind: parsed_rows(files.texts[kind], folder / f"{kind}.csv", kind) if kind in files.texts else ()
        for kind in SHAPE_COLUMNS
    }
    for kind in ROOFLINE_CLASSES:
        too_fast = faster_than_possible(kind, rows[kind], header.ceilings, measured=header.importer is None)
        if too_fast.any():
            first = int(np.argmax(too_fast))
            raise InvalidInput(
                f"{folder / kind}.csv:{first + 2}: {rows[kind][first].median_s:g} s is faster than the ceilings of "
                f"{HEADER} allow, as are {int(too_fast.sum())} of {len(too_fast)} rows; check the unit (seconds) or "
                "remove the rows"
            )
    return Profile(folder.name, folder, header, rows, files.sha256)


def lacks_ceilings(folder: Path) -> bool:
    """Whether a folder's header was written before any ceiling was known: to be measured anew, in place."""
    return _lacks_ceilings(read_mapping(folder / HEADER))


def _lacks_ceilings(header: Mapping[str, Any]) -> bool:
    ceilings = header.get("ceilings")
    return not isinstance(ceilings, dict) or not ceilings.get("flops_per_s")


def read_header(folder: Path) -> ProfileHeader:
    """A profile's header alone; raises InvalidInput for another schema version, or what breaks a rule."""
    path = folder / HEADER
    return _parsed_header(path, path.read_bytes() if path.exists() else b"")


@lru_cache(maxsize=64)
def _parsed_header(path: Path, _content: bytes) -> ProfileHeader:
    """A header is hundreds of lines of YAML, and one answer asks every profile for its hardware several times."""
    header = read_mapping(path)
    version = header.get("schema")
    if version != SCHEMA:
        raise InvalidInput(
            f"{path}: schema {version} is not {SCHEMA}, the one this specsim reads; measure again with "
            "specsim profile run, or use the specsim that wrote it"
        )
    if _lacks_ceilings(header):
        raise InvalidInput(
            f"{path} holds no compute ceiling: what measured it was cut short; run the same specsim profile command "
            "again, which measures it anew in place"
        )
    return build(ProfileHeader, header, where=str(path))


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
    headers = {name: read_header(profiles_folder() / name) for name in profile_names()}
    names = sorted((name for name in headers if headers[name].gpu == gpu), key=lambda name: _rank(headers[name]))
    if not names:
        return None
    return _merged_all(tuple(load_profile(name) for name in names))


@lru_cache(maxsize=_KEPT)
def _merged_all(profiles: tuple[Profile, ...]) -> Profile:
    best = profiles[0]
    for other in profiles[1:]:
        best, _ = merged(best, other)
    return best


def find_widths(profile: Profile) -> Profile | None:
    """A shipped profile of the same kind of device that has attention of several tokens a sequence, if this lacks it.

    What it measured between one token and several stands in for what ``profile`` does not hold.
    """
    if any(1 < row.shape[1] < row.shape[2] for row in profile.rows.get("attention", ())):
        return None
    for name in profile_names():
        header = read_header(profiles_folder() / name)
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
    flops = dict(first.header.ceilings.flops_per_s)  # its own dtype stays the first
    flops |= {name: rate for name, rate in second.header.ceilings.flops_per_s.items() if name not in flops}
    header = first.header.model_copy(
        update={
            "heldout_error": errors,
            "ceilings": first.header.ceilings.model_copy(update={"flops_per_s": flops}),
            "attribution": f"{first.header.attribution}; {', '.join(taken) or 'nothing'}: {second.header.attribution}",
        }
    )
    counts = {kind: count for kind, count in lost.items() if count}
    both = f"{first.sha256} + {second.sha256}" if first.sha256 and second.sha256 else ""
    return Profile(f"{first.name} + {second.name}", first.folder, header, rows, both), counts


def write_header(folder: Path, header: ProfileHeader) -> None:
    """Write the YAML header; an interrupted write leaves the one that was there."""
    folder.mkdir(parents=True, exist_ok=True)
    data = header.model_dump(mode="json", by_alias=True)
    data["heldout_error"] = {
        name: {key: value for key, value in error.items() if value is not None}
        for name, error in data["heldout_error"].items()
    }
    replace_text(folder / HEADER, yaml.safe_dump(data, sort_keys=False, width=110))


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
