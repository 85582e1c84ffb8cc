"""Do kernels add up? Whole passes of a model that a profile knows nothing of, predicted, then measured.

Prediction and measurement are two steps with a file between them, so that a prediction can be put on record before
anything is measured. Around every measured pass the profile's anchors are timed too: what the prediction could not
know, the machine's state in that moment, can be told apart from what it should have known.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from specsim.cost.conditioned import SAME_CONDITIONS_ERROR, ConditionedPrices
from specsim.cost.forward import Group, KernelPrices, Precision
from specsim.cost.measured import MeasuredPrices
from specsim.cost.passes import PassCost
from specsim.cost.step_time import Charge
from specsim.errors import InvalidInput
from specsim.profiles.store import Profile, load_profile
from specsim.profiling.device.anchors import ANCHORS, Anchors, ratios, typical
from specsim.profiling.device.machine import default_dtype
from specsim.profiling.device.probe import MachineProbe
from specsim.profiling.device.timer import clock_and_capture
from specsim.profiling.kernels.passes import PassShape, PassTimer
from specsim.specs.conditions import Conditions
from specsim.specs.model import ModelSpec

PREDICTED, MEASURED = "predicted.csv", "measured.csv"
CELLS: tuple[PassShape, ...] = tuple(product((1, 2, 4, 8, 16, 32, 64), (1, 2, 3, 5, 9), (128, 1024, 4096)))
PARTS = ("gemm", "attention", "elementwise", "host")
CELL_COLUMNS = ("sequences", "query_tokens", "kv_tokens")
PREDICTED_COLUMNS = (*CELL_COLUMNS, "seconds", *(f"{part}_s" for part in PARTS), "at", "profile")
MEASURED_COLUMNS = (
    *CELL_COLUMNS,
    "repeat",
    "median_s",
    "p10_s",
    "p90_s",
    "samples",
    "at",
    "probe_s",
    *(f"{name}_s" for name in ANCHORS),
)


@dataclass(frozen=True, slots=True)
class Composition:
    """|predicted / measured - 1| over the cells measured, and the signed mean (negative: predicted too short)."""

    cells: int
    median: float
    p90: float
    bias: float
    errors: dict[PassShape, float]  # signed


def predict(profile: str, spec: ModelSpec, folder: Path, *, cells: Sequence[PassShape] = CELLS) -> Path:
    """Predict each cell's pass from single kernels of a profile and write ``predicted.csv``; nothing is measured."""
    loaded = load_profile(profile)
    dtype = loaded.header.dtype
    prices = MeasuredPrices(loaded, loaded.hardware(), dtype, medians=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PREDICTED
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PREDICTED_COLUMNS)
        for cell in cells:
            charges = _charges(spec, prices, dtype, cell)
            parts = {part: sum(float(c.seconds) for c in charges if c.kind == part) for part in PARTS}
            seconds = (sum(parts.values()), *parts.values())
            writer.writerow([*cell, *(f"{s:.6g}" for s in seconds), _now(), loaded.name])
    return path


def _charges(spec: ModelSpec, prices: KernelPrices, dtype: str, cell: PassShape) -> Sequence[Charge]:
    bits = 32.0 if dtype == "float32" else 16.0
    precision = Precision(weight_bits=bits, kv_bits=bits, dtype=dtype, weights=dtype, kv=dtype)
    sequences, width, keys = cell
    return PassCost(spec, prices, precision).charges([Group(sequences, width, float(keys), width)], warm=False)


def measure(
    spec: ModelSpec,
    folder: Path,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    repeats: int = 3,
) -> Path:
    """Measure the predicted cells, each repeat in an order of its own, into ``measured.csv``.

    ``dtype`` None: what a profile of this device is measured in. A second call goes on where the first stopped.
    Raises InvalidInput without a prediction.
    """
    predicted = read_predicted(folder)
    dtype = dtype or default_dtype(device)
    path = folder / MEASURED
    done = {(*cell, repeat) for cell, repeat in _measured_keys(path)}
    clock, capture = clock_and_capture(device)
    probe = MachineProbe(device, dtype, clock, capture)
    timer = PassTimer(spec, list(predicted), device, dtype, clock)
    anchors = Anchors(device, dtype)
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(predicted)).tolist()
        cells = [list(predicted)[index] for index in order]
        for cell in cells:
            if (*cell, repeat) in done:
                continue
            before = anchors.look()
            timing = timer.time(cell, capture, probe)
            around = typical([before, anchors.look()])
            times = (f"{s:.6g}" for s in (timing.median_s, timing.p10_s, timing.p90_s))
            state = (f"{s:.6g}" for s in (probe.seconds(), *(around[name] for name in ANCHORS)))
            _append(path, [*cell, repeat, *times, timing.samples, _now(), *state])
    return path


def compare(folder: Path) -> Composition:
    """Score the predictions on the measured cells; a cell's time is the median of its repeats."""
    predicted = read_predicted(folder)
    return _scored(folder, lambda cell, record: predicted[cell])


def compare_in_conditions(folder: Path, spec: ModelSpec, profile: Profile) -> Composition:
    """Score what the profile's prices say today of each repeat in the conditions around it.

    Raises InvalidInput where the profile or the measurement holds no anchors.
    """
    profiled = {} if profile.header.probe is None else profile.header.probe.anchors
    if not profiled or any(not record.get(f"{name}_s") for record in _records(folder / MEASURED) for name in ANCHORS):
        raise InvalidInput(f"{folder} or {profile.name} holds no anchors; measure both with this version to compare")
    hardware, dtype = profile.hardware(), profile.header.dtype
    prices = MeasuredPrices(profile, hardware, dtype, medians=True)

    def price(cell: PassShape, record: dict[str, str]) -> float:
        look = {name: float(record[f"{name}_s"]) for name in ANCHORS}
        conditions = Conditions.model_validate(ratios(look, profiled))
        now = ConditionedPrices(prices, conditions, hardware, dtype, SAME_CONDITIONS_ERROR)
        return sum(float(charge.seconds) for charge in _charges(spec, now, dtype, cell))

    return _scored(folder, price)


def _scored(folder: Path, predicted: Callable[[PassShape, dict[str, str]], float]) -> Composition:
    """A cell's error is the median over its repeats of predicted / measured, less 1."""
    found: dict[PassShape, list[float]] = {}
    for record in _records(folder / MEASURED):
        cell = _cell(record)
        found.setdefault(cell, []).append(float(record["median_s"]) / predicted(cell, record))
    if not found:
        raise InvalidInput(f"{folder} holds no measured passes; measure them first")
    errors = {cell: 1.0 / float(np.median(longer)) - 1.0 for cell, longer in found.items()}
    sizes = np.abs(list(errors.values()))
    return Composition(
        len(errors),
        float(np.median(sizes)),
        float(np.percentile(sizes, 90)),
        float(np.mean(list(errors.values()))),
        errors,
    )


def read_predicted(folder: Path) -> dict[PassShape, float]:
    """Predicted seconds by cell; raises InvalidInput where none were written."""
    found = {_cell(record): float(record["seconds"]) for record in _records(folder / PREDICTED)}
    if not found:
        raise InvalidInput(f"{folder} holds no {PREDICTED}; predict before measuring")
    return found


def _measured_keys(path: Path) -> Iterator[tuple[PassShape, int]]:
    for record in _records(path):
        yield _cell(record), int(record["repeat"])


def _records(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _cell(record: dict[str, str]) -> PassShape:
    return int(record["sequences"]), int(record["query_tokens"]), int(record["kv_tokens"])


def _append(path: Path, values: list[object]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(MEASURED_COLUMNS)
        writer.writerow(values)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
