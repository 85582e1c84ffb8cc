"""Measured rows of batch × k maps as a CSV: a map a drafter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.kept_files import append_csv, read_csv
from specsim.results import GridRow

DRAFTER, COLUMNS = "drafter", fields(GridRow)
OPTIONAL = {f.name for f in COLUMNS if f.default is None}  # empty, or a column that an older table lacks


def write_grid(path: Path, drafter: str, rows: Iterable[GridRow]) -> None:
    """Append a drafter's measured rows to a CSV; each call is one checkpoint.

    Raises InvalidInput for a row with a value that the table, begun by an earlier version, has no column for.
    """
    held = path.read_text(encoding="utf-8").partition("\n")[0].split(",") if path.exists() else None
    columns = [f.name for f in COLUMNS if held is None or f.name in held]
    records = [asdict(row) for row in rows]
    lost = [name for name in OPTIONAL.difference(columns) if any(record[name] is not None for record in records)]
    if lost:
        raise InvalidInput(f"{path} has no column {lost[0]}: it was begun by an earlier version; measure a new table")
    cells = [[_text(record[name]) for name in columns] for record in records]
    append_csv(path, [DRAFTER, *columns], [(drafter, *row) for row in cells])


def _text(value: float | None) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def read_grid(path: Path) -> dict[str, list[GridRow]]:
    """Measured rows of a CSV by drafter. Raises InvalidInput with file and line for one that cannot be read."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; measure the case first: specsim measure CASE --grid")
    found: dict[str, list[GridRow]] = {}
    for line, record in read_csv(path):
        try:
            told = [f for f in COLUMNS if f.name not in OPTIONAL or record.get(f.name)]
            values = {f.name: int(record[f.name]) if f.type == "int" else float(record[f.name]) for f in told}
            row = GridRow(**values)  # type: ignore[arg-type]  # each column as its own type
            found.setdefault(record[DRAFTER], []).append(row)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{path}:{line}: {error} is missing or not a number; measure it again") from error
    if not found:
        raise InvalidInput(f"{path} holds no rows; measure the case first: specsim measure CASE --grid")
    return found
