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
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from specsim.errors import InvalidInput
from specsim.workload.request import RequestSpec

Row = tuple[int, Mapping[str, object]]  # line of the file, fields


@dataclass(frozen=True, slots=True)
class _Format:
    """Column names of a trace format. ``starts_at_zero``: its clock is arbitrary, so the first arrival becomes 0."""

    arrival: str
    prompt: str
    output: str
    seconds: Callable[[object], float]
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
    if not found:
        raise InvalidInput(f"trace {path} holds no requests; give a file with at least one row")
    return [RequestSpec(index, *values) for index, values in enumerate(found)]


def _read(file: TextIO, path: Path) -> list[tuple[float, int, int, str]]:
    """(arrival_s, prompt_tokens, output_tokens, class) of every row, by arrival."""
    lines = file.readlines()
    first = next((line for line in lines if line.strip()), "")
    rows = _json_rows(lines, path) if first.lstrip().startswith("{") else _csv_rows(lines, path)
    chosen: _Format | None = None
    requests = []
    for number, fields in rows:
        where = f"trace {path}, line {number}"
        chosen = chosen or _recognise(fields, where)
        arrival_s = _arrival_s(fields, chosen, where)
        prompt, output = (_tokens(fields, column, where) for column in (chosen.prompt, chosen.output))
        requests.append((arrival_s, prompt, output, str(fields.get("acceptance_class") or "default")))
    requests.sort(key=lambda request: request[0])
    if chosen and chosen.starts_at_zero:
        start_s = requests[0][0]
        requests = [(arrival - start_s, *rest) for arrival, *rest in requests]
    return requests


def _csv_rows(lines: Iterable[str], path: Path) -> Iterator[Row]:
    reader = csv.DictReader(lines, skipinitialspace=True)
    for fields in reader:
        if None in fields or None in fields.values():
            width = len(reader.fieldnames or ())
            raise InvalidInput(f"trace {path}, line {reader.line_num}: not the header's {width} columns; correct the row")
        yield reader.line_num, fields


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


def _recognise(fields: Mapping[str, object], where: str) -> _Format:
    for candidate in FORMATS:
        if all(column in fields for column in candidate.columns):
            return candidate
    known = " or ".join(", ".join(candidate.columns) for candidate in FORMATS)
    raise InvalidInput(f"{where}: columns {', '.join(map(str, fields))} are no known trace; name them {known}")


def _arrival_s(fields: Mapping[str, object], chosen: _Format, where: str) -> float:
    value = fields.get(chosen.arrival)
    try:
        seconds = chosen.seconds(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{where}: {chosen.arrival} is {value!r}, not a time; correct it") from None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidInput(f"{where}: {chosen.arrival} is {value!r}; a time is finite and not negative")
    return seconds


def _tokens(fields: Mapping[str, object], column: str, where: str) -> int:
    value = fields.get(column)
    try:
        number = _number(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{where}: {column} is {value!r}, not a number; correct it") from None
    if not (number >= 1 and number.is_integer()):  # false for nan and inf too
        raise InvalidInput(f"{where}: {column} is {value!r}; a request has a whole number of tokens, at least 1")
    return int(number)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _wall_clock_s(value: object) -> float:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


FORMATS = (
    _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", _wall_clock_s, starts_at_zero=True),
    _Format("timestamp", "input_length", "output_length", lambda ms: _number(ms) / 1e3, starts_at_zero=True),
    _Format("arrival_s", "prompt_tokens", "output_tokens", _number, starts_at_zero=False),
)
