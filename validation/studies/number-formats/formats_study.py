"""Each measured format of products priced as if it were not: by the nearest other format of the same card.

The truth is the price from the card's whole profile at the matrices and experts of models, where it has not to
extrapolate; the stand-in is the price from the profile without the format. Truth / stand-in above 1: the stand-in
promises too much.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from specsim.arrays import Floats
from specsim.cost.forward import SOURCES, Kernel, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile, load_profile, profile_names
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.formats import distance
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.specs.model_part import ModelPart

CLASSES, DTYPE = ("gemm", "moe"), "bfloat16"
DENSE = ("llama-3.2-1b", "qwen3-8b", "llama-3.1-8b", "qwen3-32b", "llama-3.3-70b")
ROUTED = ("mixtral-8x7b", "qwen3-30b-a3b", "qwen3-235b-a22b", "gpt-oss-20b", "gpt-oss-120b", "kimi-k2", "deepseek-v3")
TOKENS = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192], dtype=np.float64)
RANKS = (1, 4)
TABLE = Path(__file__).parent / "formats.csv"


@dataclass(frozen=True, slots=True)
class Result:
    """Truth over stand-in; ``memory``: where bytes take longer than FLOPs."""

    card: str
    kind: str
    format: str
    stand_in: str
    regime: str
    count: int
    median: float
    p10: float
    p90: float


def results() -> list[Result]:
    """Every narrow format of every shipped GPU's profile."""
    names = [name for name in profile_names() if name.startswith("nvidia-")]
    return [one for name in names for one in _of_card(load_profile(name))]


def _of_card(profile: Profile) -> Iterator[Result]:
    hardware = load_hardware(profile.header.gpu.lower())
    for kind in CLASSES:
        found = {row.dtype for row in profile.rows[kind]}
        shapes = _shapes(kind)
        for name in sorted(found - {DTYPE}):
            for other in sorted(found - {name}, key=lambda other: (distance(name, other), other)):
                yield from _left_out(profile, hardware, kind, name, other, shapes)


def _shapes(kind: str) -> set[tuple[float, ...]]:
    """Fixed dimensions of every product of the models, in each way to divide them."""
    plain = Precision(16, 16, DTYPE)
    parts = [
        ModelPart.whole(load_model(name)).shard(ranks)
        for name in (DENSE if kind == "gemm" else ROUTED)
        for ranks in RANKS
    ]
    kernels = [kernel for part in parts for kernel in token_kernels(part, 1.0, 0.0, plain) if kernel.kind == kind]
    return {tuple(float(x) for x in kernel.shape[1:]) for kernel in kernels}


def _left_out(
    profile: Profile, hardware: Hardware, kind: str, name: str, other: str, shapes: set[tuple[float, ...]]
) -> Iterator[Result]:
    kept = tuple(row for row in profile.rows[kind] if row.dtype == other)
    without = replace(profile, rows={**profile.rows, kind: kept}, sha256="")
    whole, left = MeasuredPrices(profile, hardware, DTYPE), MeasuredPrices(without, hardware, DTYPE)
    ratios, waits = [], []
    for shape in sorted(shapes):
        kernel = _kernel(kind, (TOKENS, *shape), name)
        truth, guess = whole.price(kernel, warm=False), left.price(kernel, warm=False)
        known = np.broadcast_to(np.asarray(truth.rank) < SOURCES.index("extrapolated"), TOKENS.shape)
        ratios.append((truth.seconds / guess.seconds)[known])
        waits.append((np.asarray(Roofline(hardware, DTYPE).compute_bound(kernel)) == 0)[known])
    ratio, waiting = np.concatenate(ratios), np.concatenate(waits)
    for regime, chosen in (("memory", waiting), ("compute", ~waiting)):
        if chosen.sum() >= 10:
            yield _result(profile.header.gpu, kind, name, other, regime, ratio[chosen])


def _kernel(kind: str, shape: tuple[Floats | float, ...], name: str) -> Kernel:
    moved, flops = work(kind, shape, name)
    return Kernel(kind, "gemm", shape, "", name, 1, flops, moved)


def _result(card: str, kind: str, name: str, other: str, regime: str, ratio: Floats) -> Result:
    p10, median, p90 = (round(float(x), 3) for x in np.quantile(ratio, (0.1, 0.5, 0.9)))
    return Result(card, kind, name, other, regime, len(ratio), median, p10, p90)


def write(found: list[Result]) -> None:
    """The table."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Result)])
        writer.writerows(astuple(one) for one in found)
