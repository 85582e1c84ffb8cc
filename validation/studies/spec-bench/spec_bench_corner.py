"""Does a roofline's measured corner carry over from card to card? Each profiled card predicted from the others."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass

import numpy as np
from measured_corner import CornerPrices, measured_corners
from numpy.typing import NDArray
from spec_bench_data import FOLDER

from specsim.cost.forward import KernelPrices, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.specs.catalog import load_model
from specsim.specs.hardware import Hardware
from specsim.specs.model_part import as_part

MODELS = ("vicuna-7b", "vicuna-13b", "vicuna-33b")
ROWS = (4, 8, 16, 26, 32, 48, 64, 81, 96, 128, 192, 256, 384, 512)
DTYPE = "bfloat16"


@dataclass(frozen=True, slots=True)
class Card:
    """|error| of how much longer a pass takes with ROWS rows than with one, over MODELS; shares."""

    gpu: str
    roofline_mean: float
    corner_mean: float
    roofline_worst: float
    corner_worst: float


def leave_one_out() -> list[Card]:
    """Every profiled card by its roofline, and by that with the corner of the others."""
    profiles = measured_corners()
    found = []
    for profile in profiles:
        own = profile.hardware()
        others = [other for other in profiles if other is not profile]
        measured = growth(MeasuredPrices(profile, own, DTYPE), own)
        errors = [
            np.abs(growth(prices, own) / measured - 1)
            for prices in (Roofline(own, DTYPE), CornerPrices(own, others, DTYPE))
        ]
        figures = [round(float(f(error)), 4) for f in (np.mean, np.max) for error in errors]
        found.append(Card(own.name, *figures))
    return found


def growth(prices: KernelPrices, hardware: Hardware) -> NDArray[np.float64]:
    """Seconds of a pass's matrix products at ROWS over those at one row, [MODELS, ROWS]."""
    precision = Precision.on(hardware, 16)
    found = []
    for model in MODELS:
        part = as_part(load_model(model)).shard(1)
        rows = np.array([1.0, *ROWS])
        kernels = [kernel for kernel in token_kernels(part, rows, rows, precision) if kernel.kind == "gemm"]
        seconds = sum((kernel.count * prices.price(kernel, warm=False).seconds for kernel in kernels), np.zeros(1))
        times = np.asarray(seconds)
        found.append(times[1:] / times[0])
    return np.array(found)


def write(cards: list[Card]) -> None:
    """corner.csv."""
    with (FOLDER / "corner.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([list(asdict(cards[0])), *(list(asdict(card).values()) for card in cards)])


def read() -> list[Card]:
    """What ``write`` wrote."""
    with (FOLDER / "corner.csv").open(newline="") as file:
        return [Card(row["gpu"], *(float(row[name]) for name in list(row)[1:])) for row in csv.DictReader(file)]
