"""A trace file as rows of named fields: CSV with a header, or one JSON object a line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.json_file import parse_json

TraceRow = tuple[int, Mapping[str, object]]  # line of the file, fields


def csv_rows(lines: Iterable[str], path: Path) -> Iterator[TraceRow]:
    """Rows under the header. Raises InvalidInput: a repeated column, a row of another width, broken quoting."""
    reader = csv.DictReader(lines, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise csv.Error(f"column {repeated[0]!r} appears twice")
        for fields in reader:
            if None in fields or None in fields.values():
                raise csv.Error(f"not the header's {len(names)} columns")
            yield reader.line_num, fields
    except csv.Error as error:
        raise InvalidInput(f"trace {path}, line {reader.line_num}: {error}; correct the row") from None


def json_rows(lines: Iterable[str], path: Path) -> Iterator[TraceRow]:
    """One object a line, blank lines skipped. Raises InvalidInput for a line that is none."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = parse_json(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise InvalidInput(f"trace {path}, line {number}: not a JSON object; write one {{...}} a line")
        yield number, fields
