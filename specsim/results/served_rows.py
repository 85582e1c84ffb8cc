"""Served runs beside what was predicted of them: rows of ``measured.csv`` and of ``predicted.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput
from specsim.json_file import read_json_object
from specsim.kept_files import append_csv, read_csv, replace_text

METRICS = (
    "output_throughput", "request_throughput",
    "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "median_tpot_ms", "p99_tpot_ms",
    "mean_itl_ms", "median_itl_ms", "p99_itl_ms", "mean_e2el_ms", "median_e2el_ms", "p99_e2el_ms",
    "spec_decode_acceptance_length", "duration", "completed", "preemptions", "steps", "mean_batch",
)  # fmt: skip
SCENARIO = "scenario"  # the variant that is the scenario itself
SATURATION = "saturation"  # the load of the closed loop that finds it
_COLUMNS = ("repeat", "load", "alternative", "probe_s", *METRICS, "scenario_sha256")


@dataclass(frozen=True, slots=True)
class ServedRow:
    """One measured run: a repeat of a load under an alternative.

    ``probe_s``: the machine's fixed probe just before it. ``metrics``: METRICS as ``RunResult.summary`` has them, None
    where the run has no such value. ``scenario_sha256``: of exactly what ran, arrivals included.
    """

    repeat: int
    load: str
    alternative: str
    probe_s: float
    metrics: Mapping[str, float | None]
    scenario_sha256: str = ""


@dataclass(frozen=True, slots=True)
class PredictedMetric:
    """A metric's predicted value and its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PredictedRun:
    """What was predicted of a load under an alternative, in the acceptance ``variant``; metrics without a value miss.

    ``scenario_sha256``: of exactly what was simulated, arrivals included.
    """

    load: str
    alternative: str
    variant: str
    metrics: Mapping[str, PredictedMetric]
    scenario_sha256: str = ""


def append_row(path: Path, row: ServedRow) -> None:
    """Append a measured run to a CSV: a checkpoint."""
    values = [row.metrics.get(name) for name in METRICS]
    cells = [row.repeat, row.load, row.alternative, *map(_cell, (row.probe_s, *values)), row.scenario_sha256]
    append_csv(path, _COLUMNS, [cells])


def load_rows(path: Path) -> list[ServedRow]:
    """The measured runs of a CSV. Raises InvalidInput with file and line for one that cannot be read."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; measure it first: specsim measure CASE --saturation, then --loads")
    rows = []
    for line, record in read_csv(path):
        try:
            rows.append(
                ServedRow(
                    int(record["repeat"]),
                    record["load"],
                    record["alternative"],
                    float(record["probe_s"]),
                    {name: None if record[name] == "" else float(record[name]) for name in METRICS},
                    record["scenario_sha256"],
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{path}:{line}: {error} is missing or not a number; remove the row and measure it again"
            ) from None
    return rows


def write_predictions(path: Path, header: Mapping[str, Any], runs: Iterable[PredictedRun]) -> None:
    """Write predicted runs as JSON under ``rows``, after the keys of ``header``."""
    replace_text(path, json.dumps(dict(header) | {"rows": [asdict(run) for run in runs]}, indent=1) + "\n")


def load_predictions(path: Path) -> list[PredictedRun]:
    """The predicted runs of a JSON file. Raises InvalidInput for a file that is missing or no such prediction."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; predict before measuring: specsim validate CASE --predict")
    try:
        rows = read_json_object(path, "a prediction of served loads")["rows"]
        return [
            PredictedRun(
                row["load"],
                row["alternative"],
                row["variant"],
                {name: PredictedMetric(**metric) for name, metric in row["metrics"].items()},
                row.get("scenario_sha256", ""),
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is no prediction of served loads ({error}); write it again with --predict"
        ) from None


def _cell(value: float | None) -> str | int:
    if value is None:
        return ""
    return value if isinstance(value, int) else f"{value:.6g}"
