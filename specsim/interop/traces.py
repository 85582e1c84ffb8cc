"""Which requests does a trace file hold: Azure's CSV, Mooncake's JSON lines, or plain columns of our own.

A format is known by its columns, never by the file's name. What a trace leaves out stays left out: no text, no shared
prefixes (Mooncake's ``hash_ids`` are ignored).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from specsim.errors import InvalidInput
from specsim.workload.request import RequestSpec

Row = tuple[int, Mapping[str, object]]  # line of the file, fields


@dataclass(frozen=True, slots=True)
class _Format:
    """Column names of a trace format. ``starts_at_zero``: its clock is arbitrary, so the first arrival becomes 0.

    ``ticks`` reads an arrival in whole ticks where it can, so that subtracting the first one loses no digits.
    """

    arrival: str
    prompt: str
    output: str
    ticks: Callable[[object], float]
    ticks_per_s: float
    starts_at_zero: bool

    @property
    def columns(self) -> tuple[str, str, str]:
        return self.arrival, self.prompt, self.output


def read_trace(path: Path) -> list[RequestSpec]:
    """The trace's requests by arrival (ties in file order), request ids counting from 0.

    Azure LLM inference: ``TIMESTAMP, ContextTokens, GeneratedTokens``, wall-clock, UTC where no offset is given, kept
    to the microsecond. Mooncake: ``timestamp`` (ms), ``input_length``, ``output_length``. In both the first arrival
    becomes 0. Plain CSV or JSON lines: ``arrival_s, prompt_tokens, output_tokens`` and, if there,
    ``acceptance_class``; its times stay as they are.

    Raises InvalidInput, naming file and line: no such file, unknown columns, a malformed row, no rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = _read(file, path)
    except FileNotFoundError:
        raise InvalidInput(f"there is no trace {path}; give the path of a CSV or JSON lines file") from None
    except OSError as error:
        raise InvalidInput(f"cannot read trace {path}: {error.strerror}; give the path of a file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"cannot read trace {path}: it is not UTF-8 text; give a CSV or JSON lines file") from None
    return [RequestSpec(index, *values) for index, values in enumerate(found)]


def _read(file: TextIO, path: Path) -> list[tuple[float, int, int, str]]:
    """Arrival in seconds, prompt and output tokens, and class of every row, by arrival."""
    lines = file.readlines()
    first = next((line for line in lines if line.strip()), "")
    rows = _json_rows(lines, path) if first.lstrip().startswith("{") else _csv_rows(lines, path)
    chosen: _Format | None = None
    requests: list[tuple[float, int, int, str]] = []
    for number, fields in rows:
        where = f"trace {path}, line {number}"
        chosen = chosen or _recognise(fields, path)
        arrival = _arrival(fields, chosen, where)
        prompt, output = (_tokens(fields, column, where) for column in (chosen.prompt, chosen.output))
        requests.append((arrival, prompt, output, str(fields.get("acceptance_class") or "default")))
    if chosen is None:
        raise InvalidInput(f"trace {path} holds no requests; give a file with at least one row")
    requests.sort(key=lambda request: request[0])
    start = requests[0][0] if chosen.starts_at_zero else 0.0
    unit = chosen.ticks_per_s
    return [((ticks - start) / unit, prompt, output, name) for ticks, prompt, output, name in requests]


def _csv_rows(lines: Iterable[str], path: Path) -> Iterator[Row]:
    reader = csv.DictReader(lines, skipinitialspace=True)
    try:
        for fields in reader:
            if None in fields or None in fields.values():
                raise csv.Error(f"not the header's {len(reader.fieldnames or ())} columns")
            yield reader.line_num, fields
    except csv.Error as error:
        raise InvalidInput(f"trace {path}, line {reader.line_num}: {error}; correct the row") from None


def _json_rows(lines: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise InvalidInput(f"trace {path}, line {number}: not a JSON object; write one {{...}} a line")
        yield number, fields


def _recognise(fields: Mapping[str, object], path: Path) -> _Format:
    for candidate in FORMATS:
        if all(column in fields for column in candidate.columns):
            return candidate
    known = " or ".join(", ".join(candidate.columns) for candidate in FORMATS)
    raise InvalidInput(f"trace {path}: columns {', '.join(fields)} are no known trace; name them {known}")


def _arrival(fields: Mapping[str, object], chosen: _Format, where: str) -> float:
    value = fields.get(chosen.arrival)
    try:
        ticks = chosen.ticks(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{where}: {chosen.arrival} is {value!r}, not a time; correct it") from None
    if not (math.isfinite(ticks) and ticks >= 0):
        raise InvalidInput(f"{where}: {chosen.arrival} is {value!r}; a time is finite and not negative")
    return ticks


def _tokens(fields: Mapping[str, object], column: str, where: str) -> int:
    value = fields.get(column)
    try:
        number = _number(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{where}: {column} is {value!r}, not a number; correct it") from None
    if not (number >= 1 and number.is_integer()):  # false for nan and inf too
        raise InvalidInput(f"{where}: {column} is {value!r}; a request has a whole number of tokens, at least 1")
    return int(number)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _wall_clock_us(value: object) -> float:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


FORMATS = (
    _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", _wall_clock_us, 1e6, starts_at_zero=True),
    _Format("timestamp", "input_length", "output_length", _number, 1e3, starts_at_zero=True),
    _Format("arrival_s", "prompt_tokens", "output_tokens", _number, 1.0, starts_at_zero=False),
)
