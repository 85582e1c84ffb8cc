"""A profile's tables: the rows of one kernel class as CSV, read, checked and written."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from specsim.errors import InvalidInput
from specsim.kept_files import append_text, replace_text
from specsim.profiles.schema import MEASUREMENT_COLUMNS, SHAPE_COLUMNS, Row

MAY_BE_ZERO = ("num_draft_tokens", "prefill_tokens")  # a step without drafts or without a prompt chunk


def text_of(path: Path, content: bytes) -> str:
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not text ({error.reason}); remove the file, or measure it again") from error


def read_rows(path: Path, kind: str) -> tuple[Row, ...]:
    """The rows of one class; an absent file is a class that was not measured.

    A last line without its end, as a crash or a full disk leaves it, is dropped with a warning.
    """
    if not path.exists():
        return ()
    return parsed_rows(text_of(path, path.read_bytes()), path, kind)


def parsed_rows(text: str, path: Path, kind: str) -> tuple[Row, ...]:
    """The rows of one class from the text of its table, as ``read_rows``; ``path`` is for what goes wrong."""
    if text and not text.endswith("\n"):
        warnings.warn(f"{path}: the last line has no end and is left out; its shape is measured again", stacklevel=2)
        text = text[: text.rfind("\n") + 1]
    try:
        names, *records = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise InvalidInput(f"{path} is no table of comma-separated values: {error}; copy it again") from None
    wanted = [*SHAPE_COLUMNS[kind], *MEASUREMENT_COLUMNS]
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InvalidInput(f"{path}: column {missing[0]!r} is missing; a {kind} table has {', '.join(wanted)}")
    records = [record for record in records if record]
    try:
        return _rows(records, names, kind)
    except _Untrue:
        pass
    for line, record in enumerate(records, start=2):  # one by one, to name the line
        try:
            _rows([record], names, kind)
        except _Untrue as error:
            raise InvalidInput(f"{path}:{line}: {error}") from error
    raise AssertionError(f"{path}: rows that hold one by one hold together")


class _Untrue(Exception):
    """Rows that cannot be true, and what to do about them."""


def _rows(records: Sequence[Sequence[str]], names: Sequence[str], kind: str) -> tuple[Row, ...]:
    if not records:
        return ()
    if min(map(len, records)) < len(names):
        raise _Untrue("a value is missing, so it is not a number; measure this shape again or remove the row")
    column = dict(zip(names, zip(*records, strict=False), strict=False))
    try:
        shape = [list(map(float, column[name])) for name in SHAPE_COLUMNS[kind]]
        median = list(map(float, column["median_s"]))
        low, high = ([float(text) if text else None for text in column[name]] for name in ("p10_s", "p90_s"))
        samples = [int(text) if text else None for text in column["samples"]]
    except ValueError as error:
        raise _Untrue(f"not a number ({error}); measure this shape again or remove the row") from error
    sizes = [(name, np.array(values)) for name, values in zip(SHAPE_COLUMNS[kind], shape, strict=True)]
    times = np.array([_or_else(low, median), median, _or_else(high, median)])
    positive = all((values > 0).all() or (name in MAY_BE_ZERO and (values >= 0).all()) for name, values in sizes)
    finite = np.isfinite(times).all() and all(np.isfinite(values).all() for _, values in sizes)
    if not (positive and finite and (times > 0).all()):
        raise _Untrue("shapes and times must be positive and finite; measure again or remove the row")
    if (np.diff(times, axis=0) < 0).any():
        raise _Untrue(f"p10 {low[0]} <= median {median[0]} <= p90 {high[0]} does not hold; remove the row")
    texts = (column[name] for name in ("operation", "dtype", "kernel", "cache", "mode"))
    return tuple(map(Row, zip(*shape, strict=True), *texts, median, low, high, samples, column["source"]))


def _or_else(values: Sequence[float | None], others: Sequence[float]) -> list[float]:
    return [other if value is None else value for value, other in zip(values, others, strict=True)]


def replace_rows(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Write a class's table anew, in one piece: an interrupted write leaves the one that was there."""
    replace_text(folder / f"{kind}.csv", _csv_text(kind, rows, fresh=True))


def append_rows(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Add rows to a class's table, creating it with its column names; each call is one checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.csv"
    fresh = not path.exists()
    append_text(path, _csv_text(kind, rows, fresh=fresh))


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
