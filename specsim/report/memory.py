"""Where memory goes and how many sequences fit, with the drafter and without."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from specsim.analytic.rounds import largest_batch
from specsim.assembly import Assembly
from specsim.errors import NoAnswer
from specsim.report.figures import laid_out
from specsim.report.sheet import Sheet
from specsim.units import GB

HELD = {  # by field of MemoryBudget: its name and colour
    "weights": ("weights", "#1e40af"),
    "draft_weights": ("drafter's weights", "#f59e0b"),
    "context": ("CUDA context", "#6b7280"),
    "activations": ("activations", "#a78bfa"),
    "graphs": ("graphs", "#be185d"),
    "kv": ("KV cache", "#10b981"),
}
LENGTHS = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)


def sides(machine: Assembly) -> dict[str, Assembly]:
    """The replica with no drafter, and with one if it has any."""
    plain = {"no drafter": machine.plain}
    return plain if machine.speculation is None else plain | {machine.speculation.drafter_name(): machine}


def memory_figure(machine: Assembly) -> Any:
    """A bar a side, in GB of one GPU."""
    found = {name: one.memory for name, one in sides(machine).items()}
    figure = go.Figure()
    names = list(found)[::-1]
    for field, (label, colour) in HELD.items():
        values = [getattr(found[name], field) / GB for name in names]
        if not any(values):
            continue
        texts = [f"{label} {value:.1f}" if value > 0.12 * found[names[0]].total_bytes / GB else "" for value in values]
        figure.add_bar(
            y=names,
            x=values,
            name=label,
            orientation="h",
            marker_color=colour,
            text=texts,
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": "#ffffff"},
            hovertemplate=f"{label} %{{x:.2f}} GB<extra>%{{y}}</extra>",
        )
    whole = found[names[0]]
    figure.add_vline(x=whole.usable_bytes / GB, line={"dash": "dash", "color": "#9ca3af"})
    figure.update_layout(
        barmode="stack",
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "traceorder": "normal",
        },
    )
    figure.update_xaxes(title="GB (dashed: what the engine takes)", range=[0, 1.01 * whole.total_bytes / GB])
    figure.update_yaxes(automargin=True)
    return laid_out(figure, 150 + 46 * len(names), top=60)


def capacity_line(machine: Assembly) -> str:
    """Sequences of the load's own mean KV length that a replica holds, beside how many its engine may run."""
    context = machine.context_tokens
    counts = [f"{_fitting(one, context):,} with {name}" for name, one in sides(machine).items()]
    return (
        f"Of the load's sequences, {context:,.0f} tokens in the mean, a replica's KV cache holds "
        f"{' and '.join(counts)}; the engine runs at most {machine.limits.max_num_seqs:,} (max_num_seqs)"
    )


def capacity_sheet(machine: Assembly) -> Sheet:
    """Sequences by KV length, up to what the model reads."""
    longest = machine.limits.max_model_len or machine.scenario.model.max_position
    lengths = [length for length in LENGTHS if length <= longest] or [longest]
    found = sides(machine)
    rows = []
    for length in lengths:
        counts = [_fitting(one, length) for one in found.values()]
        lost = [f"{counts[1] / counts[0] - 1:+.1%}" if counts[0] else "-"] if len(counts) > 1 else []
        rows.append([f"{length:,}", *(f"{count:,}" for count in counts), *lost])
    change = ["change"] if len(found) > 1 else []
    return Sheet("", ("tokens of each sequence", *found, *change), rows, words=())


def _fitting(machine: Assembly, length: float) -> int:
    try:
        return largest_batch(machine, length)
    except NoAnswer:
        return 0
