"""The Spec-Bench page from its tables."""

from __future__ import annotations

import csv
from collections.abc import Sequence

import numpy as np
from spec_bench_study import EARLIER, FOLDER, GPUS, Measured, Try, best_constant, measured, split

ERROR_BAR, CONSTANT_BAR, GPU_BAR, SIGN_BAR = 0.10, 0.5, 0.15, 0.10
TARGETS = ("vicuna-7b", "vicuna-13b", "vicuna-33b")
SHARED_TARGET = "vicuna-7b"  # the one that both GPUs ran
UNITS = {"pass": ("ms a pass", 1e3), "launch": ("us a launch", 1e6)}
SOURCES = {"kernels": "profile", "roofline": "roofline"}


def page(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    """README.md."""
    text = (FOLDER / "page.md").read_text()
    parts = {
        "rows": str(len(rows)),
        "fitted": str(len(split(rows)[0])),
        "editions": _editions(rows),
        "tries": _tries(rows, tries),
        "cells": _cells(rows, tries),
        "gpus": _gpus(rows, tries),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def write_rows(rows: Sequence[Measured], tries: Sequence[Try]) -> None:
    """predicted.csv: every row of every try."""
    fitted = set(split(rows)[0])
    with (FOLDER / "predicted.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["gpu", "prices", "host", "host_s", "half", "method", "target", "measured_r", "predicted_r"])
        for one in tries:
            seconds = "" if one.fit is None else f"{one.fit.seconds:.4g}"
            for row in rows:
                if row.gpu != one.gpu:
                    continue
                half, r = "fitted" if row in fitted else "scored", one.predicted[row.method, row.target]
                head = [one.gpu, one.source, one.host, seconds, half]
                writer.writerow([*head, row.method, row.target, f"{row.ratio:.3f}", f"{r:.3f}"])


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _editions(rows: Sequence[Measured]) -> str:
    before = {(row.method, row.gpu, row.target): row.ratio for row in measured(EARLIER)}
    moved = [before[key] / row.ratio - 1 for row in rows if (key := (row.method, row.gpu, row.target)) in before]
    return f"{np.abs(moved).mean():.1%} in the mean and {np.abs(moved).max():.1%} at most ({len(moved)} rows)"


def _tries(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    fitted, scored = split(rows)
    found = []
    for one in tries:
        errors, here = one.errors(scored), [row for row in scored if row.gpu == one.gpu]
        error, constant = float(np.abs(errors).mean()), best_constant(here)[1]
        met = error <= ERROR_BAR and error <= CONSTANT_BAR * constant
        found.append(
            [one.gpu, SOURCES[one.source], one.host, _host_time(one), f"{np.abs(one.errors(fitted)).mean():.1%}",
             f"**{error:.1%}**", f"{errors.mean():+.1%}", f"{np.abs(errors).max():.1%}", f"{constant:.1%}",
             "not fitted" if one.fit is None else "met" if met else "missed"]
        )  # fmt: skip
    header = [
        "GPU",
        "prices",
        "host",
        "fitted",
        "fitted half",
        "scored half",
        "signed",
        "worst",
        "best constant",
        "bars",
    ]
    return _table(header, found)


def _host_time(one: Try) -> str:
    if one.fit is None:
        return "-"
    unit, scale = UNITS[one.host]
    error = one.fit.standard_error_s
    spread = "" if error is None else f" ± {error * scale:.2g}"
    return f"{one.fit.seconds * scale:.3g}{spread} {unit}" + (" (limit)" if one.fit.at_limit else "")


def _cells(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    fitted = set(split(rows)[0])
    found = []
    for gpu in GPUS:
        for target in TARGETS:
            for row in sorted((r for r in rows if (r.gpu, r.target) == (gpu, target)), key=lambda r: r.ratio):
                values = []
                for source, host in _columns():
                    one = _try(tries, gpu, source, host)
                    r = None if one is None else one.predicted[row.method, row.target]
                    values.append("" if r is None else f"{r:.2f} ({r / row.ratio - 1:+.0%})")
                half = "fitted" if row in fitted else "scored"
                found.append([gpu, target, row.method, half, f"{row.ratio:.2f}", *values])
    columns = [f"{SOURCES[source]}, {host}" for source, host in _columns()]
    return _table(["GPU", "target", "method", "half", "measured r", *columns], found)


def _columns() -> list[tuple[str, str]]:
    return [(source, host) for source in SOURCES for host in ("default", "pass", "launch")]


def _try(tries: Sequence[Try], gpu: str, source: str, host: str) -> Try | None:
    return next((one for one in tries if (one.gpu, one.source, one.host) == (gpu, source, host)), None)


def _gpus(rows: Sequence[Measured], tries: Sequence[Try]) -> str:
    """r on the consumer card over r on the A100, and how many methods meet the bars."""
    small, large = GPUS
    ratio = {(row.gpu, row.method): row.ratio for row in rows if row.target == SHARED_TARGET}
    methods = sorted(
        {m for _, m in ratio if (small, m) in ratio and (large, m) in ratio},
        key=lambda m: ratio[small, m] / ratio[large, m],
    )
    found = []
    within = dict.fromkeys(_columns(), 0)
    signs = dict.fromkeys(_columns(), 0)
    differing = [m for m in methods if abs(ratio[small, m] / ratio[large, m] - 1) > SIGN_BAR]
    for method in methods:
        seen = ratio[small, method] / ratio[large, method]
        cells = []
        for source, host in _columns():
            one, other = _try(tries, small, "roofline", host), _try(tries, large, source, host)
            assert one is not None
            assert other is not None
            r = one.predicted[method, SHARED_TARGET] / other.predicted[method, SHARED_TARGET]
            within[source, host] += abs(r / seen - 1) <= GPU_BAR
            signs[source, host] += method in differing and (r > 1) == (seen > 1)
            cells.append(f"{r:.2f} ({r / seen - 1:+.0%})")
        found.append([method, f"{seen:.2f}", *cells])
    found.append(["within 15 %", "", *(f"{within[column]} of {len(methods)}" for column in _columns())])
    found.append(["right sign", "", *(f"{signs[column]} of {len(differing)}" for column in _columns())])
    columns = [f"A100 {SOURCES[source]}, {host}" for source, host in _columns()]
    return _table(["method", "measured", *columns], found)
