"""Measured rows of batch × k maps as a CSV: a map a drafter."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.results import GridRow

DRAFTER, COLUMNS = "drafter", fields(GridRow)


def write_grid(path: Path, drafter: str, rows: Iterable[GridRow]) -> None:
    """Append a drafter's measured rows to a CSV; each call is one checkpoint."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [DRAFTER, *(f.name for f in COLUMNS)], lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            values = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            writer.writerow({DRAFTER: drafter} | values)


def read_grid(path: Path) -> dict[str, list[GridRow]]:
    """Measured rows of a CSV by drafter. Raises InvalidInput with file and line for one that cannot be read."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; measure the case first: specsim measure CASE --grid")
    found: dict[str, list[GridRow]] = {}
    with path.open(newline="") as file:
        for line, record in enumerate(csv.DictReader(file), start=2):
            try:
                values = {f.name: int(record[f.name]) if f.type == "int" else float(record[f.name]) for f in COLUMNS}
                row = GridRow(**values)  # type: ignore[arg-type]  # each column as its own type
                found.setdefault(record[DRAFTER], []).append(row)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidInput(f"{path}:{line}: {error} is missing or not a number; measure it again") from error
    if not found:
        raise InvalidInput(f"{path} holds no rows; measure the case first: specsim measure CASE --grid")
    return found
