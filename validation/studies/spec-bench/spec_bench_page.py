"""The Spec-Bench page from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from spec_bench_corner import Card
from spec_bench_data import EARLIER, FOLDER, GPUS, Measured, measured, split
from spec_bench_splits import Spread
from spec_bench_study import SHOWN, WAYS, Floats, Try, best_constant

from specsim.report.markdown import markdown_table

ERROR_BAR, CONSTANT_BAR, GPU_BAR, SIGN_BAR = 0.10, 0.5, 0.15, 0.10
TARGETS = ("vicuna-7b", "vicuna-13b", "vicuna-33b")
SHARED_TARGET = "vicuna-7b"  # the one that both GPUs ran
UNITS = {"pass": ("ms a pass", 1e3), "launch": ("us a launch", 1e6)}


def page(rows: Sequence[Measured], tries: Sequence[Try], cards: Sequence[Card], spreads: Sequence[Spread]) -> str:
    """README.md."""
    text = (FOLDER / "page.md").read_text()
    parts = {
        "rows": str(len(rows)),
        "fitted": str(len(split(rows)[0])),
        "scored": str(len(split(rows)[1])),
        "editions": _editions(rows),
        "tries": _tries(rows, tries),
        "both": _both(rows, tries),
        "cells": _cells(rows, tries),
        "gpus": _gpus(rows, tries),
        "corner": _corner(cards),
        "splits": _splits(spreads),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def _editions(rows: Sequence[Measured]) -> str:
    before = {(row.method, row.gpu, row.target): row.ratio for row in measured(EARLIER)}
    moved = [before[key] / row.ratio - 1 for row in rows if (key := (row.method, row.gpu, row.target)) in before]
    return f"{np.abs(moved).mean():.1%} in the mean and {np.abs(moved).max():.1%} at most ({len(moved)} rows)"


def _verdict(errors: Floats, constant: float) -> str:
    error = float(np.abs(errors).mean())
    missed = [name for name, bar in (("10 %", ERROR_BAR), ("half", CONSTANT_BAR * constant)) if error > bar]
    return f"misses {' and '.join(missed)}" if missed else "both met"


def _tries(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    fitted, scored = split(rows)
    found = []
    for one in tries:
        errors, constant = one.errors(scored), best_constant([row for row in scored if row.gpu == one.gpu])[1]
        found.append(
            [
                one.way,
                one.gpu,
                one.prices,
                _host_time(one),
                f"{np.abs(one.errors(fitted)).mean():.1%}",
                f"**{np.abs(errors).mean():.1%}**",
                f"{errors.mean():+.1%}",
                f"{np.abs(errors).max():.1%}",
                f"{constant:.1%}",
                _verdict(errors, constant),
            ]
        )
    header = [
        "way",
        "GPU",
        "prices",
        "host time",
        "fitted half",
        "scored half",
        "signed",
        "worst",
        "best constant",
        "bars",
    ]
    return markdown_table(header, found)


def _corner(cards: Sequence[Card]) -> str:
    found = [
        [
            card.gpu,
            f"{card.roofline_mean:.1%}",
            f"{card.corner_mean:.1%}",
            f"{card.roofline_worst:.0%}",
            f"{card.corner_worst:.0%}",
        ]
        for card in cards
    ]
    return markdown_table(
        ["GPU", "sharp, mean error", "others' corner, mean", "sharp, worst", "others' corner, worst"], found
    )


def _splits(spreads: Sequence[Spread]) -> str:
    """Median scored error of each way and GPU, and its 10th to 90th percentile."""
    cells = {(one.way, one.gpu): f"{one.median:.1%} ({one.low:.1%} to {one.high:.1%})" for one in spreads}
    ways = dict.fromkeys(one.way for one in spreads)
    return markdown_table(["way", *GPUS], [[way, *(cells[way, gpu] for gpu in GPUS)] for way in ways])


def _both(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    """Scored rows of both GPUs together."""
    scored = split(rows)[1]
    constant = best_constant(scored)[1]
    found = []
    for way in WAYS:
        errors = np.concatenate([one.errors(scored) for one in tries if one.way == way.name])
        found.append([way.name, f"**{np.abs(errors).mean():.1%}**", f"{constant:.1%}", _verdict(errors, constant)])
    return markdown_table(["way", f"scored half, {len(scored)} rows", "best constant", "bars"], found)


def _host_time(one: Try) -> str:
    if one.host_s is None:
        return "not fitted"
    unit, scale = UNITS[one.host]
    spread = "" if one.standard_error_s is None else f" ± {one.standard_error_s * scale:.1f}"
    return f"{one.host_s * scale:.1f}{spread} {unit}"


def _cells(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    fitted = set(split(rows)[0])
    found = []
    for gpu in GPUS:
        here = {one.way: one.predicted for one in tries if one.gpu == gpu}
        for target in TARGETS:
            for row in sorted((r for r in rows if (r.gpu, r.target) == (gpu, target)), key=lambda r: r.ratio):
                values = [here[way][row.method, row.target] for way in SHOWN]
                cells = [f"{r:.2f} ({r / row.ratio - 1:+.0%})" for r in values]
                half = "fitted" if row in fitted else "scored"
                found.append([gpu, target, row.method, half, f"{row.ratio:.2f}", *cells])
    return markdown_table(["GPU", "target", "method", "half", "measured r", *SHOWN], found)


def _gpus(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    """r on the consumer card over r on the A100, and how many methods meet the bars."""
    small, large = GPUS
    ratio = {(row.gpu, row.method): row.ratio for row in rows if row.target == SHARED_TARGET}
    seen = {m: ratio[small, m] / ratio[large, m] for gpu, m in ratio if gpu == small and (large, m) in ratio}
    methods = sorted(seen, key=lambda m: seen[m])
    differing = [m for m in methods if abs(seen[m] - 1) > SIGN_BAR]
    predicted = {(one.way, one.gpu): one.predicted for one in tries}
    found: list[list[str]] = [[method, f"{seen[method]:.2f}"] for method in methods]
    counts = [["within 15 %", ""], ["right sign", ""]]
    for way in WAYS:
        near, far = (predicted[way.name, gpu] for gpu in GPUS)
        r = {method: near[method, SHARED_TARGET] / far[method, SHARED_TARGET] for method in methods}
        for line, method in zip(found, methods, strict=True):
            line.append(f"{r[method]:.2f} ({r[method] / seen[method] - 1:+.0%})")
        counts[0].append(f"{sum(abs(r[m] / seen[m] - 1) <= GPU_BAR for m in methods)} of {len(methods)}")
        counts[1].append(f"{sum((r[m] > 1) == (seen[m] > 1) for m in differing)} of {len(differing)}")
    return markdown_table(["method", "measured", *(way.name for way in WAYS)], [*found, *counts])
