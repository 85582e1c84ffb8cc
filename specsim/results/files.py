"""A run in a folder: ``summary.json`` under the keys of ``vllm bench serve``, tables as Parquet or CSV, and back.

summary.json              always
requests, steps, itl      .parquet or .csv; the records of a run that kept them
totals.json               a streamed run's sketches
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from specsim.errors import InvalidInput, MissingExtra
from specsim.json_file import read_json_object
from specsim.kept_files import replace_text, replacing
from specsim.results.limits import StepLimits, StepTotals
from specsim.results.records import AcceptanceCounts, RequestRecord, Slo, StepRecord
from specsim.results.run import KvTransfers, RunResult, Totals, Trim
from specsim.results.series import Series
from specsim.results.sketch import QuantileSketch

TableFormat = Literal["parquet", "csv"]
Columns = dict[str, list[Any]]
SKETCHES = ("ttft", "tpot", "itl", "e2el")
_ITL = {"itl_s": float, "request_id": int}
_PYTHON = {"int": int, "float": float, "str": str}


def write_run(
    folder: Path,
    result: RunResult,
    *,
    slo: Slo | None = None,
    header: Mapping[str, Any] | None = None,
    tables: TableFormat | None = None,
) -> list[Path]:
    """Write ``result`` into ``folder``, made if need be; returns the files. ``header``: further keys of the summary.

    ``tables`` None takes Parquet where pyarrow is installed. Raises MissingExtra for Parquet without it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = folder / "summary.json"
    summary.unlink(missing_ok=True)  # a folder without it is no run: it is written last
    for name in ("requests", "steps", "itl", "totals"):  # of a former run, perhaps in the other format
        for suffix in ("parquet", "csv", "json"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    kind = tables or ("parquet" if find_spec("pyarrow") else "csv")
    written = list[Path]()
    for name, record in _RECORDS:
        rows = getattr(result, name)
        columns = {one.name: list(map(attrgetter(one.name), rows)) for one in fields(record)}
        written.append(_write_table(folder / f"{name}.{kind}", columns, _types(record)))
    gaps: Columns = {"itl_s": result.itl_s.tolist()}
    if result.itl_request is not None:
        gaps["request_id"] = result.itl_request.tolist()
    written.append(_write_table(folder / f"itl.{kind}", gaps, {name: _ITL[name] for name in gaps}))
    if result.totals is not None:
        totals = {one.name: getattr(result.totals, one.name) for one in fields(Totals) if one.name not in SKETCHES}
        sketches = {name: getattr(result.totals, name).as_table() for name in SKETCHES}
        steps = None if result.step_totals is None else asdict(result.step_totals)
        written.append(folder / "totals.json")
        _write_json(written[-1], totals | sketches | {"step_totals": steps})
    _write_json(summary, dict(header or {}) | result.summary(slo))
    return [summary, *written]


def read_run(folder: Path) -> RunResult:
    """The run that ``write_run`` wrote. Raises InvalidInput naming the file and what is wrong with it."""
    summary = _read_json(folder / "summary.json")
    requests, steps = (_read_records(folder, name, record) for name, record in _RECORDS)
    gaps = _read_table(folder, "itl", _ITL, optional=("request_id",))
    acceptance = AcceptanceCounts()
    try:
        totals, step_totals = _read_totals(folder / "totals.json")
        for drafted, row in summary["spec_decode_acceptance_counts"].items():
            for accepted, count in enumerate(row):
                if count:
                    acceptance.add(int(drafted), accepted, count)
        trim, transfers = summary["trimmed"], summary["kv_transfers"]
        return RunResult(
            engine=summary["engine"],
            scenario_sha256=summary["scenario_sha256"],
            duration_s=summary["duration"],
            requests=[RequestRecord(**row) for row in requests],
            steps=[StepRecord(**row) for row in steps],
            itl_s=np.array(gaps["itl_s"], dtype=np.float64),
            acceptance=acceptance,
            price_source=summary["price_source"],
            versions=summary["versions"],
            saturated=summary["saturated"],
            truncated=summary["truncated"],
            interrupted=summary["interrupted"],
            num_gpus=summary["num_gpus"],
            rejected=summary["failed"],
            kv_transfers=None if transfers is None else KvTransfers(transfers, summary["kv_transfer_bytes_per_gpu"]),
            num_kv_blocks=summary["num_kv_blocks"],
            itl_request=np.array(gaps["request_id"], dtype=np.int64) if "request_id" in gaps else None,
            limits=None if summary["limits"] is None else StepLimits(**summary["limits"]),
            totals=totals,
            step_totals=step_totals,
            trim=None if trim is None else Trim(**trim),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{folder} is no run of specsim: {error}; give a folder that simulate --out wrote"
        ) from None


def write_series(path: Path, found: Series) -> None:
    """The series as CSV, one row an interval; what has no value is empty."""
    names = [one.name for one in fields(Series)]
    rows = zip(*(getattr(found, name).tolist() for name in names), strict=True)
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(["" if value != value else value for value in row] for row in rows)


_RECORDS: tuple[tuple[str, type], ...] = (("requests", RequestRecord), ("steps", StepRecord))


def _types(record: type) -> dict[str, type]:
    return {one.name: _PYTHON[str(one.type)] for one in fields(record)}


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    replace_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _read_json(path: Path) -> Any:
    return read_json_object(path, "a file of a folder that simulate --out wrote to its end")


def _read_totals(path: Path) -> tuple[Totals | None, StepTotals | None]:
    if not path.exists():
        return None, None
    table = _read_json(path)
    steps = table.pop("step_totals")
    totals = Totals(**(table | {name: QuantileSketch.from_table(table[name]) for name in SKETCHES}))
    return totals, None if steps is None else StepTotals(**steps)


def _write_table(path: Path, columns: Columns, types: Mapping[str, type]) -> Path:
    if path.suffix == ".parquet":
        if find_spec("pyarrow") is None:
            raise MissingExtra("pyarrow", "import")
        import pyarrow
        import pyarrow.parquet

        arrow = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
        schema = pyarrow.schema([(name, arrow[types[name]]) for name in columns])
        with replacing(path) as draft:
            pyarrow.parquet.write_table(pyarrow.Table.from_pydict(columns, schema=schema), draft)
        return path
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        # Texts quoted throughout: a bare carriage return in a class name would read as the end of its row.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def _read_records(folder: Path, name: str, record: type) -> list[dict[str, Any]]:
    columns = _read_table(folder, name, _types(record))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _read_table(folder: Path, name: str, types: Mapping[str, type], optional: Sequence[str] = ()) -> Columns:
    """Columns of ``name.parquet`` or ``name.csv`` by their types. Raises InvalidInput where both are absent."""
    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    needed = [column for column in types if column not in optional]
    if not parquet.exists() and not text.exists():
        raise InvalidInput(f"{folder} is half a run: its table {name!r} is missing; write the run anew")
    found = _read_parquet(parquet) if parquet.exists() else _read_csv(text)
    absent = [column for column in needed if column not in found]
    if absent:
        raise InvalidInput(f"{folder / name}: no column {absent[0]!r}; write the run anew")
    try:
        return {column: [kind(value) for value in found[column]] for column, kind in types.items() if column in found}
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / name}: {error}; write the run anew") from None


def _read_parquet(path: Path) -> Columns:
    if find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", "import")
    import pyarrow
    import pyarrow.parquet

    try:
        return dict(pyarrow.parquet.read_table(path).to_pydict())
    except (pyarrow.ArrowException, OSError):
        raise InvalidInput(f"{path} is not a readable Parquet file; write the run anew") from None


def _read_csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, strict=True))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise InvalidInput(f"{path}: rows of different widths; write the run anew")
    return {name: [row[index] for row in rows[1:]] for index, name in enumerate(rows[0])}
