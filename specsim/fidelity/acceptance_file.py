"""What a measured map's rounds accepted, as a CSV: a row a repeat, cell and entry of h[d][j]."""

from __future__ import annotations

from pathlib import Path

from specsim.errors import InvalidInput
from specsim.kept_files import append_csv, read_csv
from specsim.results import AcceptanceCounts

ACCEPTANCE = "acceptance.csv"  # beside the map's table
CELL = ("drafter", "repeat", "batch", "draft_tokens")
COUNTED = ("drafted", "accepted", "rounds")
CellKey = tuple[str, int, int, int]


def write_acceptance(path: Path, cell: CellKey, counts: AcceptanceCounts) -> None:
    """Append a cell's record: a checkpoint."""
    entries = [(d, j, n) for d, row in sorted(counts.rounds.items()) for j, n in sorted(row.items())]
    append_csv(path, (*CELL, *COUNTED), [(*cell, *entry) for entry in entries])


def read_acceptances(path: Path) -> dict[CellKey, AcceptanceCounts]:
    """Records by cell. Raises InvalidInput with file and line for a row that cannot be read."""
    found: dict[CellKey, AcceptanceCounts] = {}
    for line, record in read_csv(path):
        try:
            cell = (record["drafter"], *(int(record[name]) for name in CELL[1:]))
            drafted, accepted, rounds = (int(record[name]) for name in COUNTED)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{path}:{line}: {error} is missing or not a number; measure it again") from None
        found.setdefault(cell, AcceptanceCounts()).add(drafted, accepted, rounds)  # type: ignore[arg-type]
    return found
