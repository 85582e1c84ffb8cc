"""A sweep's results in a folder: each row as it comes in a file of its own, all in ``results.parquet`` at the end.

parts/KEY.parquet    one finished point, written whole or not at all
results.parquet      every point that was ever finished here, each once

Keys are of content, so a point is the same in any sweep that asks it. A kill between writing ``results.parquet`` and
removing the parts leaves rows in both; they are read once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, MissingExtra
from specsim.kept_files import replacing
from specsim.planning.sweep.answers import AnswerRow
from specsim.planning.sweep.points import Point

RESULTS, PARTS = "results.parquet", "parts"


class KeptRows:
    """Rows by key; raises MissingExtra without pyarrow, InvalidInput for a file that is no table of rows."""

    def __init__(self, folder: Path) -> None:
        if find_spec("pyarrow") is None:
            raise MissingExtra("pyarrow", "import")
        self.results, self._parts = folder / RESULTS, folder / PARTS
        self._parts.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, AnswerRow] = {}
        for path in (self.results, *sorted(self._parts.glob("*.parquet"))):
            if path.exists():
                self.rows |= {row["key"]: row for row in _read(path)}

    def add(self, point: Point, row: AnswerRow) -> None:
        """Keep a finished point."""
        whole = {"key": point.key, "settings": json.dumps(point.settings)} | row
        self.rows[point.key] = whole
        _write(self._parts / f"{point.key}.parquet", [whole])

    def gather(self) -> None:
        """All rows into one file, with a column for each field that some point set; the parts go."""
        parts = list(self._parts.glob("*.parquet"))
        if parts:
            _write(self.results, [row | _columns(row) for row in self.rows.values()])
        for part in parts:
            part.unlink()
        self._parts.rmdir()


def _columns(row: Mapping[str, Any]) -> AnswerRow:
    """What the point set, a column a field; values that are no numbers as text."""
    settings = json.loads(row["settings"])
    return {
        f"set {path}": value if isinstance(value, int | float) else json.dumps(value)
        for path, value in settings.items()
    }


def _read(path: Path) -> list[AnswerRow]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[AnswerRow] = pyarrow.parquet.ParquetFile(path).read().to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInput(f"{path} is no table of a sweep ({str(error)[:80]}); remove it") from None
    if rows and not {"key", "settings"} <= rows[0].keys():
        raise InvalidInput(f"{path} has no columns key and settings, so no sweep wrote it; give another folder")
    return [{name: value for name, value in row.items() if not name.startswith("set ")} for row in rows]


def _write(path: Path, rows: Iterable[AnswerRow]) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _alike([row.get(name) for row in rows]) for name in names}
    with replacing(path) as draft:
        pyarrow.parquet.write_table(pyarrow.table(columns), draft)


def _alike(values: list[Any]) -> list[Any]:
    """One type a column: numbers as floats where some are, else texts where some are."""
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) <= 1:
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
