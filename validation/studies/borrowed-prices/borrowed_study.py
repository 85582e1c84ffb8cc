"""Each measured card priced as if it were not: by another card's efficiencies at its own ceilings, and by a roofline.

The measured truth of a kernel is the card's own rows; of a whole pass, its price from the card's own profile.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np

from specsim.cost.borrowed import BorrowedPrices
from specsim.cost.forward import Group, Kernel, KernelPrices, Precision
from specsim.cost.measured import MeasuredPrices
from specsim.cost.passes import PassCost
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile, find_profile
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.surfaces.row_groups import row_groups

SAME_GENERATION = (
    ("h200", "h100-sxm"),
    ("h100-sxm", "h200"),
    ("b300", "b200"),
    ("b200", "b300"),
    ("gb300", "b200"),
    ("gb300", "b300"),
)
OTHER_GENERATION = (
    ("h100-sxm", "a100-80gb"),
    ("a100-80gb", "h100-sxm"),
    ("l40s", "a100-80gb"),
    ("a100-80gb", "l40s"),
    ("l40s", "h100-sxm"),
    ("b200", "h200"),
    ("h200", "b200"),
)
MODELS = ("qwen3-0.6b", "llama-3.1-8b", "llama-3.3-70b", "mixtral-8x7b")
BATCHES, WIDTHS, CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256), (1, 4, 8), (256, 1024, 4096, 16384)
CLASSES, ROWS = ("gemm", "attention", "moe"), 400  # rows of one surface at most
DTYPE = "bfloat16"
SURFACES = (
    "gemm bfloat16",
    "gemm fp8",
    "attention decode bfloat16",
    "attention prefill bfloat16",
    "attention decode fp8",
    "moe bfloat16",
)
TABLE = Path(__file__).parent / "borrowed.csv"


@dataclass(frozen=True, slots=True)
class Result:
    """Errors of log time over the kernels of one surface, or over the passes of one model."""

    card: str
    lender: str
    same_generation: bool
    what: str
    count: int
    borrowed_bias: float
    borrowed_median: float
    borrowed_p90: float
    roofline_bias: float
    roofline_median: float
    roofline_p90: float


def results() -> list[Result]:
    """Of all pairs: every surface, then every model."""
    pairs = [(pair, True) for pair in SAME_GENERATION] + [(pair, False) for pair in OTHER_GENERATION]
    return [result for (card, lender), same in pairs for result in _of_pair(card, lender, same)]


def _of_pair(card: str, lender: str, same: bool) -> Iterator[Result]:
    here, there = load_hardware(card), load_hardware(lender)
    own, lent = _profile(here), _profile(there)
    borrowed = BorrowedPrices(MeasuredPrices(lent, there, DTYPE), there, here, DTYPE)
    roofline = Roofline(here, DTYPE)
    for name, kernels, measured in _kernels(own):
        errors = [
            np.log([float(prices.price(k, warm=False).seconds) for k in kernels] / measured)
            for prices in (borrowed, roofline)
        ]
        yield _result(card, lender, same, name, errors)
    truth = MeasuredPrices(own, here, DTYPE)
    for model in MODELS:
        seconds = [_passes_s(model, prices, here) for prices in (truth, borrowed, roofline)]
        yield _result(card, lender, same, f"pass {model}", [np.log(one / seconds[0]) for one in seconds[1:]])


def _profile(card: Hardware) -> Profile:
    found = find_profile(card.name)
    assert found is not None, card.name
    return found


def _kernels(profile: Profile) -> Iterator[tuple[str, list[Kernel], np.ndarray]]:
    """Rows of each surface, thinned evenly, as kernels, and their measured seconds."""
    for kind in CLASSES:
        for group in (one for one in row_groups(kind, profile.rows[kind]) if one.name in SURFACES):
            rows = group.rows[:: max(1, len(group.rows) // ROWS)]
            kernels = []
            for row in rows:
                moved, flops = work(kind, row.shape, row.dtype)
                kernels.append(Kernel(kind, "gemm", row.shape, row.operation, row.dtype, 1, flops, moved))
            yield group.name, kernels, np.array([row.median_s for row in rows])


def _passes_s(model: str, prices: KernelPrices, card: Hardware) -> np.ndarray:
    cost = PassCost(load_model(model), prices, Precision.on(card, 16))
    return np.array(
        [
            sum(charge.seconds for charge in cost.charges([Group(batch, width, context, width)], warm=False))
            for batch, width, context in product(BATCHES, WIDTHS, CONTEXTS)
        ]
    )


def _result(card: str, lender: str, same: bool, what: str, errors: list[np.ndarray]) -> Result:
    figures = [round(float(f), 4) for e in errors for f in (np.median(e), np.median(abs(e)), np.quantile(abs(e), 0.9))]
    return Result(card, lender, same, what, len(errors[0]), *figures)


def write(found: list[Result]) -> None:
    """The table as CSV."""
    with TABLE.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([field.name for field in fields(Result)])
        writer.writerows(astuple(one) for one in found)
