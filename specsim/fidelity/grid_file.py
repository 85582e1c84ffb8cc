"""Measured rows of batch × k maps as a CSV: a map a drafter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, fields
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.kept_files import append_csv, read_csv
from specsim.results import GridRow

DRAFTER, COLUMNS = "drafter", fields(GridRow)


def write_grid(path: Path, drafter: str, rows: Iterable[GridRow]) -> None:
    """Append a drafter's measured rows to a CSV; each call is one checkpoint."""
    cells = ((f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row)) for row in rows)
    append_csv(path, [DRAFTER, *(f.name for f in COLUMNS)], [(drafter, *row) for row in cells])


def read_grid(path: Path) -> dict[str, list[GridRow]]:
    """Measured rows of a CSV by drafter. Raises InvalidInput with file and line for one that cannot be read."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; measure the case first: specsim measure CASE --grid")
    found: dict[str, list[GridRow]] = {}
    for line, record in read_csv(path):
        try:
            values = {f.name: int(record[f.name]) if f.type == "int" else float(record[f.name]) for f in COLUMNS}
            row = GridRow(**values)  # type: ignore[arg-type]  # each column as its own type
            found.setdefault(record[DRAFTER], []).append(row)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{path}:{line}: {error} is missing or not a number; measure it again") from error
    if not found:
        raise InvalidInput(f"{path} holds no rows; measure the case first: specsim measure CASE --grid")
    return found
