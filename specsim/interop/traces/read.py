"""Which requests does a trace file hold? A format is known by its columns, never by the file's name."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from gzip import BadGzipFile
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from specsim.errors import InvalidInput
from specsim.interop.traces import sharegpt, values
from specsim.interop.traces.formats import FORMATS, TICKS_PER_S, TimeUnit, TraceFormat
from specsim.interop.traces.rows import TraceRow, csv_rows, json_rows
from specsim.text_file import lines_of, open_text
from specsim.workload.prefixes import prefix_hashes
from specsim.workload.request import DEFAULT_CLASS, MAX_CLASSES, Requests

SLOWEST_PER_S, FASTEST_PER_S, FEW = 0.01, 1000.0, 100
LATEST_S = 1e8  # three years: a clock that started elsewhere, or another unit


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace's requests by arrival (ties in file order), ids from 0; ``arrival_s`` is None in a file of lengths."""

    requests: Requests
    format: str  # a name of FORMATS, sharegpt, or given
    dropped: int  # rows left out as the format's failed requests

    def remarks(self) -> tuple[str, ...]:
        """What a reader of results should know of the trace besides its requests."""
        failed = (f"{self.dropped} failed rows left out",) if self.dropped else ()
        characters = f"lengths estimated at {sharegpt.CHARACTERS_PER_TOKEN:g} characters a token"
        return (*failed, characters) if self.format == "sharegpt" else failed


def read_trace(path: Path, *, columns: TraceFormat | None = None, time_unit: TimeUnit | None = None) -> Trace:
    """The trace in ``path``: a known format by its columns, or any CSV or JSON lines with ``columns`` named.

    ``time_unit`` replaces the format's unit of time. Without it a mean rate outside 0.01 to 1000 requests/s (over at
    least 100 requests) is refused, because milliseconds read as seconds look like that.

    Raises InvalidInput, naming file and line: no such file, unknown columns, a malformed row, no rows, absurd times.
    """
    try:
        with open_text(path, newline="") as file:
            trace = _read(file, path, columns, time_unit)
    except FileNotFoundError:
        raise InvalidInput(f"there is no trace {path}; give the path of a CSV or JSON lines file") from None
    except (EOFError, zlib.error, BadGzipFile):
        raise InvalidInput(f"cannot read trace {path}: its gzip data is broken or cut short; give it whole") from None
    except OSError as error:
        raise InvalidInput(f"cannot read trace {path}: {error.strerror}; give the path of a file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"cannot read trace {path}: it is not UTF-8 text; give a CSV or JSON lines file") from None
    if not len(trace.requests):
        raise InvalidInput(f"trace {path} holds no requests; give a file with at least one row")
    _check_times(trace.requests, path, stated=time_unit is not None)
    return trace


def _read(file: TextIO, path: Path, columns: TraceFormat | None, time_unit: TimeUnit | None) -> Trace:
    first = _first_character(file)
    file.seek(0)
    if first == "[":
        return _lengths_only(sharegpt.read_lengths(file, path), "sharegpt")
    lines = lines_of(file, path)
    rows = json_rows(lines, path) if first == "{" else csv_rows(lines, path)
    return _from_rows(rows, path, columns, time_unit)


def _first_character(file: TextIO) -> str:
    """The first that is no blank."""
    while text := file.read(2**16):
        if begins := text.lstrip():
            return begins[0]
    return ""


@dataclass(slots=True)
class _Columns:
    """A trace's columns as they fill."""

    ticks: list[float] = field(default_factory=list)
    prompt: array[int] = field(default_factory=lambda: array("i"))
    output: array[int] = field(default_factory=lambda: array("i"))
    class_index: array[int] = field(default_factory=lambda: array("h"))
    classes: dict[str, int] = field(default_factory=dict)
    hashes: list[tuple[int, ...]] = field(default_factory=list)
    dropped: int = 0

    def add(self, fields: Mapping[str, object], form: TraceFormat, where: str) -> None:
        """Check a row and append it."""
        output = values.tokens(fields, form.output, where, least=0 if form.failed_have_no_output else 1)
        if output == 0:
            self.dropped += 1
            return
        prompt = values.tokens(fields, form.prompt, where)
        if form.arrival is not None:
            self.ticks.append(values.ticks(fields, form.arrival, form.time_unit, where))
        name = values.name(fields, form.request_class, where) if form.request_class else DEFAULT_CLASS
        index = self.classes.setdefault(name, len(self.classes))
        if index >= MAX_CLASSES:
            raise InvalidInput(
                f"{where}: more than {MAX_CLASSES} classes in {form.request_class}; name another column"
            )
        self.class_index.append(index)
        self.prompt.append(prompt)
        self.output.append(output)
        if form.hashes is not None:
            self.hashes.append(values.hashes(fields, form.hashes, where))


def _from_rows(rows: Iterable[TraceRow], path: Path, columns: TraceFormat | None, time_unit: TimeUnit | None) -> Trace:
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return _lengths_only([], "given")
    name, form = _recognise(first[1], path) if columns is None else ("given", _present(columns, first[1], path))
    form = form.model_copy(update={} if time_unit is None else {"time_unit": time_unit})
    found = _Columns()
    for number, fields in chain((first,), rows):
        found.add(fields, form, f"trace {path}, line {number}")
    if not found.prompt:
        return _lengths_only([], name)
    requests = Requests(
        arrival_s=None if form.arrival is None else _seconds(found.ticks, form),
        prompt_tokens=np.array(found.prompt, dtype=np.int32),
        output_tokens=np.array(found.output, dtype=np.int32),
        class_index=np.array(found.class_index, dtype=np.int16),
        classes=tuple(found.classes),
        priorities=(0,) * len(found.classes),
        prefixes=prefix_hashes(found.hashes, form.hash_block_tokens) if any(found.hashes) else None,
    )
    if requests.arrival_s is not None:
        requests = requests.take(np.argsort(requests.arrival_s, kind="stable"))
    return Trace(requests, name, found.dropped)


def _seconds(ticks: list[float], form: TraceFormat) -> NDArray[np.float64]:
    """From whole ticks where the file has them; ns since 1970 lose digits only after the subtraction."""
    start = min(ticks) if form.starts_at_zero else 0
    return np.array([tick - start for tick in ticks], dtype=np.float64) / TICKS_PER_S[form.time_unit]


def _lengths_only(pairs: list[tuple[int, int]], name: str) -> Trace:
    table = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Trace(Requests(None, table[:, 0], table[:, 1], np.zeros(len(table), np.int16)), name, 0)


def _recognise(fields: Mapping[str, object], path: Path) -> tuple[str, TraceFormat]:
    for name, form in FORMATS.items():
        if all(column in fields for column in form.required()):
            return name, _present(form, fields, path)
    known = " or ".join(", ".join(filter(None, (form.arrival, form.prompt, form.output))) for form in FORMATS.values())
    raise InvalidInput(
        f"trace {path}: columns {_names(fields)} are no known trace; rename them to one of {known}, or name them "
        "under workload.columns"
    )


def _present(form: TraceFormat, fields: Mapping[str, object], path: Path) -> TraceFormat:
    """The format without an optional arrival column that the file has not. Raises InvalidInput for other absences."""
    absent = [column for column in form.required() if column not in fields]
    if absent:
        raise InvalidInput(f"trace {path}: no column {absent[0]!r} among {_names(fields)}; correct the name")
    if form.arrival is not None and form.arrival not in fields:
        return form.model_copy(update={"arrival": None})
    return form


def _names(fields: Mapping[str, object]) -> str:
    """Column names in one line of bearable length."""
    text = " ".join(", ".join(map(str, fields)).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _check_times(requests: Requests, path: Path, *, stated: bool) -> None:
    arrivals = requests.arrival_s
    if arrivals is None:
        return
    last_s, span_s = float(arrivals[-1]), float(arrivals[-1] - arrivals[0])
    if last_s > LATEST_S:
        raise InvalidInput(
            f"trace {path}: arrivals reach {last_s:g} s, beyond three years; count them from the trace's start, or "
            "set workload.time_unit (s, ms, us, ns)"
        )
    rate = (len(requests) - 1) / span_s if span_s else None
    if stated or rate is None or len(requests) < FEW or SLOWEST_PER_S <= rate <= FASTEST_PER_S:
        return
    raise InvalidInput(
        f"trace {path}: {len(requests)} requests in {span_s:g} s are {rate:.3g} requests/s, which suggests another "
        "unit of time; set workload.time_unit (s, ms, us, ns) to state it"
    )
