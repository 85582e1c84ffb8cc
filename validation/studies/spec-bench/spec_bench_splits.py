"""Was the split lucky? The same fit and score over other random halves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from spec_bench_data import FOLDER, GPUS, Measured
from spec_bench_study import WAYS, Way, predict

Floats = NDArray[np.float64]

SPLITS, SEED = 500, 1
PROBES_S = (0.0, 2e-3, 8e-3)
GRID_S = np.linspace(0.0, 0.02, 2001)


@dataclass(frozen=True, slots=True)
class Spread:
    """Scored mean |error| over random halves: median, and the 10th and 90th percentiles."""

    way: str
    gpu: str
    median: float
    low: float
    high: float


def spreads(rows: Sequence[Measured]) -> list[Spread]:
    """Every way with host time a pass, on every GPU."""
    ways = [way for way in WAYS if way.host == "pass" and not way.left_out]
    return [_spread(way, gpu, [row for row in rows if row.gpu == gpu]) for way in ways for gpu in GPUS]


def _spread(way: Way, gpu: str, rows: Sequence[Measured]) -> Spread:
    source = way.sources[GPUS.index(gpu)]
    probes = np.array([[predict(row, source, "pass", h, way.reading) for h in PROBES_S] for row in rows])
    errors = np.log(curves(probes) / np.array([row.ratio for row in rows])[:, None])
    generator = np.random.default_rng(SEED)
    scores = []
    for _ in range(SPLITS):
        order = generator.permutation(len(rows))
        fitted, scored = np.split(order, [(len(rows) + 1) // 2])
        best = (errors[fitted] ** 2).sum(axis=0).argmin()
        scores.append(np.abs(np.expm1(errors[scored, best])).mean())
    low, median, high = np.quantile(scores, [0.1, 0.5, 0.9])
    return Spread(way.name, gpu, round(float(median), 4), round(float(low), 4), round(float(high), 4))


def curves(probes: Floats) -> Floats:
    """r over GRID_S from r at PROBES_S, [rows, PROBES_S] -> [rows, GRID_S].

    Every time is linear in the host time, so r = (r_0 + b·h)/(1 + d·h), and two more points give b and d.
    """
    first, second = PROBES_S[1:]
    found = []
    for zero, one, two in probes:
        system = np.array([[first, -one * first], [second, -two * second]])
        b, d = np.linalg.solve(system, [one - zero, two - zero])
        found.append((zero + b * GRID_S) / (1 + d * GRID_S))
    return np.array(found)


def write(found: Sequence[Spread]) -> None:
    """splits.csv."""
    with (FOLDER / "splits.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([list(asdict(found[0])), *(list(asdict(one).values()) for one in found)])


def read() -> list[Spread]:
    """What ``write`` wrote."""
    with (FOLDER / "splits.csv").open(newline="") as file:
        return [
            Spread(r["way"], r["gpu"], float(r["median"]), float(r["low"]), float(r["high"]))
            for r in csv.DictReader(file)
        ]
