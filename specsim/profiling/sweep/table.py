"""The profile being written: its header and rows, on disk as soon as they are known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from specsim.errors import NoAnswer
from specsim.kept_files import drop_torn_line
from specsim.profiles.rows import append_rows, read_rows, replace_rows
from specsim.profiles.schema import SHAPE_COLUMNS, ProfileHeader, Row
from specsim.profiles.store import MOST_OF_BANDWIDTH, MOST_OF_MEASURED, ROOFLINE_CLASSES, write_header
from specsim.specs.kernel_work import work

ROUNDED = 1.001  # above what a table's digits round a time to
MOST_RAISE = 20.0  # of a ceiling: cores shared with a dozen others while it was measured


class ProfileTable:
    """A profile's folder. Raises NoAnswer where it cannot be written; what was written before stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, list[Row]] = {}
        self._keys: dict[str, set[tuple[object, ...]]] = {}
        self._header: ProfileHeader | None = None
        for kind in SHAPE_COLUMNS:
            drop_torn_line(folder / f"{kind}.csv")

    @property
    def header(self) -> ProfileHeader:
        if self._header is None:
            raise ValueError("a profile needs its header first")
        return self._header

    def write_header(self, header: ProfileHeader) -> None:
        self._header = header
        try:
            write_header(self._folder, header)
        except OSError as error:
            raise self._full(error) from error

    def rows(self, kind: str) -> list[Row]:
        """The rows of a class, those of earlier runs included."""
        if kind not in self._rows:
            self._rows[kind] = list(read_rows(self._folder / f"{kind}.csv", kind))
            self._keys[kind] = {row.key() for row in self._rows[kind]}
        return self._rows[kind]

    def holds(self, kind: str, key: tuple[object, ...]) -> bool:
        """Whether a measurement (``Row.key``) is there already."""
        self.rows(kind)
        return key in self._keys[kind]

    def add(self, kind: str, row: Row) -> None:
        """Append a row, on disk when this returns."""
        self.rows(kind)
        self._raise_ceiling(kind, row)
        try:
            append_rows(self._folder, kind, [row])
        except OSError as error:
            raise self._full(error) from error
        self._rows[kind].append(row)
        self._keys[kind].add(row.key())

    def correct(self, kind: str, rows: Iterable[Row]) -> None:
        """Put rows in the place of those with their keys; the table is written anew, in one piece."""
        better = {row.key(): row for row in rows}
        if not better:
            return
        for row in better.values():
            self._raise_ceiling(kind, row)
        self._rows[kind] = [better.get(row.key(), row) for row in self.rows(kind)]
        try:
            replace_rows(self._folder, kind, self._rows[kind])
        except OSError as error:
            raise self._full(error) from error

    def note(self, line: str) -> None:
        """Keep a line in the header, once."""
        if line not in self.header.notes:
            self.write_header(self.header.model_copy(update={"notes": [*self.header.notes, line]}))

    def forget_notes(self, beginning: str) -> None:
        """Drop the notes that begin so: this run says it again if it is true still."""
        notes = [note for note in self.header.notes if not note.startswith(beginning)]
        if notes != self.header.notes:
            self.write_header(self.header.model_copy(update={"notes": notes}))

    def raise_ceilings(self) -> None:
        """Bring the header's ceilings up to the rows that are there."""
        for kind in ROOFLINE_CLASSES:
            for row in self.rows(kind):
                self._raise_ceiling(kind, row)

    def _raise_ceiling(self, kind: str, row: Row) -> None:
        """A kernel too fast for a ceiling (its dtype's, else the highest; a cache's) is one: it met a slower machine.

        Not where it is MOST_RAISE times as fast: that is no neighbour's doing, and the profile is refused as it is.
        """
        if kind not in ROOFLINE_CLASSES:
            return
        ceilings = self.header.ceilings
        known = {str(name): rate for name, rate in ceilings.flops_per_s.items()}
        moved, flops = work(kind, row.shape, row.dtype)
        own = row.dtype if row.dtype in known else max(known, key=lambda name: known[name])
        raised: dict[str, object] = {}
        rate = float(flops) / row.median_s
        if MOST_OF_MEASURED * known[own] < rate < MOST_RAISE * known[own]:
            raised["flops_per_s"] = known | {own: rate}
        copied = float(moved) / row.median_s / MOST_OF_BANDWIDTH  # what memory does at least, if a cache did so much
        if ceilings.copy_bytes_per_s < copied < MOST_RAISE * ceilings.copy_bytes_per_s:
            raised["copy_bytes_per_s"] = ROUNDED * copied
        if raised:
            self.write_header(self.header.model_copy(update={"ceilings": ceilings.model_copy(update=raised)}))

    def _full(self, error: OSError) -> NoAnswer:
        return NoAnswer(
            f"{self._folder} cannot be written ({error.strerror}); what was measured is kept: make room and run the "
            "same command again"
        )


def require_writable(folder: Path) -> None:
    """Raises NoAnswer where nothing can be written there, before minutes are spent on it; leaves nothing behind."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for place in made:
            place.rmdir()
    except OSError as error:
        raise NoAnswer(f"{folder} cannot be written ({error.strerror}); give another folder with --out") from error
