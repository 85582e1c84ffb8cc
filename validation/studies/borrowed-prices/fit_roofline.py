"""Fit the roofline's constants (``specsim/cost/roofline.py``) on the cards with a profile, and print them.

- Truth: kernels of passes over seven models in 16 and 8 bits, as nine cards' own profiles price them, those that are
  measured or interpolated: decode and verify passes of 1 to 256 sequences of 1, 4 and 8 tokens, and prompts.
- Law, of each class: seconds = floor + root of the sum of squares of bytes / (memory share · bandwidth) and FLOPs /
  (compute share · peak), by least squares of log errors, the shares drawn to DEFAULT with PULL so that a class which
  is all memory says nothing of compute. Tried: the longer of the two, which misses by a tenth more.
- Errors: of a card whose rows are left out of the fit. ``error`` is what a class misses anew from a width to four
  times that (the same kernel, card and format; the root of half the mean square of the difference), so that it
  counts in a ratio of two passes; ``MACHINE_ERROR`` what whole passes miss beside it.

Run ``python validation/studies/borrowed-prices/fit_roofline.py`` (ten seconds).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from specsim.arrays import Floats
from specsim.cost.attention import attention_kernels
from specsim.cost.forward import SOURCES, Group, Kernel, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import DEFAULT, Roofline, class_of
from specsim.profiles.store import find_profile
from specsim.specs.catalog import load_hardware, load_model

CARDS = ("a100-80gb", "l40s", "rtx-pro-6000", "h100-sxm", "h200", "b200", "b300", "gb200", "gb300")
MODELS = (
    "qwen3-0.6b", "llama-3.1-8b", "llama-3.3-70b", "mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b", "minimax-m2",
)  # fmt: skip
MOST_CACHED = 2**20  # tokens of all sequences
DECODING = [
    Group(batch, width, context, width)
    for batch, width, context in product((1, 4, 16, 64, 256), (1, 4, 8), (256, 1024, 4096, 16384))
    if batch * context <= MOST_CACHED
]
PROMPTS = [
    Group(count, length, length, 1)
    for count, length in ((1, 128), (1, 512), (1, 2048), (1, 8192), (4, 512), (4, 2048))
]
CLASSES = ("gemm", "moe", "attention", "prompt")
PULL, OUTLIER = 0.3, 0.3  # errors of a log share in those of a row; log errors from which rows count less


class Timed(NamedTuple):
    """A kernel: which pass it belongs to, and what bytes and FLOPs take at the card's ceilings."""

    card: str
    of_pass: tuple[object, ...]
    kind: str
    kernel: tuple[object, ...]  # without its width
    width: float  # rows of a product, tokens of experts, queries of attention
    count: float
    seconds: float
    memory_s: float
    compute_s: float


def timed() -> Iterator[Timed]:
    """All kernels of all passes."""
    worst = SOURCES.index("interpolated")
    for card in CARDS:
        hardware = load_hardware(card)
        profile = find_profile(hardware.name)
        assert profile is not None, card
        truth, roofline = MeasuredPrices(profile, hardware, "bfloat16"), Roofline(hardware, "bfloat16")
        known: dict[tuple[object, ...], tuple[float, float]] = {}
        for name, bits, group in product(MODELS, (16, 8), DECODING + PROMPTS):
            if bits == 8 and "fp8" not in hardware.flops_per_s:
                continue
            for kernel in _kernels(name, Precision.on(hardware, bits), group):
                key = (kernel.kind, kernel.dtype, kernel.shape)
                if key not in known:
                    price = truth.price(kernel, warm=False)
                    known[key] = float(price.seconds), float(price.rank)
                seconds, rank = known[key]
                if rank <= worst:
                    ideal = roofline.at_the_ceilings_s(kernel)
                    kind, at = class_of(kernel), int(kernel.kind == "attention")
                    alike = (card, kernel.dtype, *kernel.shape[:at], *kernel.shape[at + 1 :])
                    width, count = float(kernel.shape[at]), float(kernel.count)
                    yield Timed(card, (name, bits, group), kind, alike, width, count, seconds, *ideal)


def _kernels(model: str, precision: Precision, group: Group) -> Iterator[Kernel]:
    spec = load_model(model)
    kernels = [
        *token_kernels(spec, group.tokens, group.sequences * group.logit_rows, precision, fused=True),
        *attention_kernels(spec, group, precision),
    ]
    return (kernel for kernel in kernels if kernel.kind in ("gemm", "moe", "attention"))


def said(constants: Floats, memory_s: Floats, compute_s: Floats) -> Floats:
    """Seconds by log floor, log memory share and log compute share."""
    floor, memory, compute = np.exp(constants)
    seconds: Floats = floor + np.hypot(memory_s / memory, compute_s / compute)
    return seconds


def fitted(rows: list[Timed]) -> Floats:
    """The constants of one class."""
    seconds, memory_s, compute_s = _columns(rows)
    start = np.log([5e-6, DEFAULT.memory, DEFAULT.compute])

    def misses(constants: Floats) -> Floats:
        log_errors = np.log(said(constants, memory_s, compute_s) / seconds)
        return np.concatenate([log_errors, (constants - start)[1:] / PULL])

    found: Floats = least_squares(misses, start, loss="soft_l1", f_scale=OUTLIER).x
    return found


def _columns(rows: list[Timed]) -> tuple[Floats, Floats, Floats]:
    table = np.array([(row.seconds, row.memory_s, row.compute_s) for row in rows])
    return table[:, 0], table[:, 1], table[:, 2]


def main() -> None:
    """Print the constants of every class, their errors, and those of passes."""
    rows = list(timed())
    passes: dict[tuple[object, ...], list[float]] = {}
    for kind in CLASSES:
        own = [row for row in rows if row.kind == kind]
        floor, memory, compute = np.exp(fitted(own))
        spreads, by_width = [], dict[tuple[object, ...], dict[float, float]]()
        for card in CARDS:
            here = [row for row in own if row.card == card]
            seconds, memory_s, compute_s = _columns(here)
            said_s = said(fitted([row for row in own if row.card != card]), memory_s, compute_s)
            errors = np.log(said_s / seconds)
            spreads.append(errors.std())
            for row, one, error in zip(here, said_s, errors, strict=True):
                by_width.setdefault(row.kernel, {})[row.width] = float(error)
                total = passes.setdefault((card, row.of_pass), [0.0, 0.0])
                total[0], total[1] = total[0] + row.count * one, total[1] + row.count * row.seconds
        anew = [some[width] - some[4 * width] for some in by_width.values() for width in some if 4 * width in some]
        print(
            f"{kind:10s} floor {1e6 * floor:5.1f} us, memory {memory:.2f}, compute {compute:.2f}; left out: spread "
            f"{np.sqrt(np.mean(np.square(spreads))):.2f} around each card's mean, "
            f"{np.sqrt(np.mean(np.square(anew or [0.0])) / 2):.2f} anew at four times the width; {len(own)} kernels"
        )
    off = {card: np.array([np.log(a / b) for (one, _), (a, b) in passes.items() if one == card]) for card in CARDS}
    for card, errors in off.items():
        print(f"{card:14s} passes {errors.mean():+.2f}, spread {errors.std():.2f}")
    print(f"machine {np.sqrt(np.mean([errors.mean() ** 2 for errors in off.values()])):.2f}")


if __name__ == "__main__":
    main()
