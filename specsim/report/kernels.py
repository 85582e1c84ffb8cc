"""A round's kernels against the card's roofline (Williams, Waterman, Patterson, CACM 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from specsim.analytic.kernels import RoundKernel
from specsim.report.figures import PARTS, laid_out
from specsim.report.sheet import Sheet
from specsim.specs.hardware import Hardware
from specsim.units import format_seconds

LEAST_INTENSITY, MOST_INTENSITY = 0.1, 10_000.0
MARKS = {"target": "circle", "draft": "diamond-open"}
LABELLED = 4  # kernels, those of most time


def roofline_figure(kernels: Sequence[RoundKernel], gpu: Hardware, dtype: str) -> Any:
    """Each kernel that computes at its FLOPs a byte and the FLOP/s it reaches; area grows with its share of time."""
    peak, bandwidth = gpu.peak_flops_per_s(dtype), gpu.bandwidth_bytes_per_s
    edge = peak / bandwidth
    figure = go.Figure()
    figure.add_scatter(
        x=[LEAST_INTENSITY, edge, MOST_INTENSITY],
        y=[LEAST_INTENSITY * bandwidth / 1e12, peak / 1e12, peak / 1e12],
        mode="lines",
        line={"color": "#9ca3af", "width": 2},
        name=f"{gpu.name} roofline, {dtype}",
        hoverinfo="skip",
    )
    drawn = [one for one in kernels if one.flops and one.bytes and one.bound != "communication"]
    whole = sum(one.seconds * one.launches for one in drawn) or 1.0
    for phase, mark in MARKS.items():
        mine = [one for one in drawn if one.phase == phase]
        if not mine:
            continue
        shares = [one.seconds * one.launches / whole for one in mine]
        figure.add_scatter(
            x=[one.intensity for one in mine],
            y=[one.flops / one.seconds / 1e12 for one in mine],
            mode="markers",
            name=f"{phase}'s kernels",
            customdata=[[one.name, _time(one), share] for one, share in zip(mine, shares, strict=True)],
            marker={
                "symbol": mark,
                "size": [8 + 34 * float(np.sqrt(share)) for share in shares],
                "opacity": 0.8,
                "color": [_colour(one, phase) for one in mine],
                "line": {"width": 2},
            },
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}, %{customdata[2]:.1%} of the time<br>%{x:.3g} FLOPs a "
            "byte, %{y:.3g} TFLOP/s<extra></extra>",
        )
    figure.update_xaxes(title="FLOPs a byte", type="log", dtick=1, range=[-1, 4])
    figure.update_yaxes(title="TFLOP/s", type="log", dtick=1)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return laid_out(figure, 420, top=50)


def _colour(kernel: RoundKernel, phase: str) -> str:
    part = kernel.name.split(" ")[0]
    return PARTS["draft"] if phase == "draft" else PARTS.get("lm_head" if part == "lm" else part, PARTS["gemm"])


def _time(kernel: RoundKernel) -> str:
    return f"{kernel.launches:g} x {format_seconds(kernel.seconds)}"


def roofline_words(kernels: Sequence[RoundKernel]) -> str:
    """What most of the device's time waits for, and how near the card's limit that is."""
    whole = sum(one.seconds * one.launches for one in kernels)
    by_bound: dict[str, float] = {}
    for one in kernels:
        by_bound[one.bound] = by_bound.get(one.bound, 0.0) + one.seconds * one.launches
    bound = max(by_bound, key=by_bound.__getitem__)
    draft = sum(one.seconds * one.launches for one in kernels if one.phase == "draft") / whole
    drafting = f"; drafting's kernels take {draft:.0%}" if draft else ""
    return (
        f"{by_bound[bound] / whole:.0%} of the kernels' {format_seconds(whole)} waits for {bound}{drafting}. Left of "
        "the edge a kernel is bound by memory, right of it by compute; below the line it comes short of the card."
    )


def kernel_sheet(kernels: Sequence[RoundKernel]) -> Sheet:
    """Every kernel, the longest first in each phase."""
    whole = sum(one.seconds * one.launches for one in kernels)
    rows = [
        [
            one.phase,
            one.name,
            one.dtype,
            f"{one.launches:g}",
            format_seconds(one.seconds),
            f"{one.seconds * one.launches / whole:.1%}",
            f"{one.intensity:.3g}" if one.flops else "-",
            f"{one.bytes / one.seconds / 1e12:.2f}",
            f"{one.flops / one.seconds / 1e12:.3g}",
            one.bound,
            one.source,
        ]
        for one in kernels
    ]
    header = (
        "pass",
        "kernel",
        "format",
        "launches",
        "each",
        "share",
        "FLOPs a byte",
        "TB/s",
        "TFLOP/s",
        "bound by",
        "source",
    )
    return Sheet("", header, rows, words=(0, 1, 2, 9, 10))
