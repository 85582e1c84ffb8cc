"""Results as terminal tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from specsim.analytic.exits import Exit
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.report.narrow import narrow_table
from specsim.units import format_seconds

SHOWN_PARTS = {  # of PARTS, by column
    "draft": ("draft",),
    "verify": ("verify",),
    "GEMM": ("gemm", "lm_head"),
    "atten-\ntion": ("attention",),
    "links": ("communication",),
    "other": ("elementwise", "sampling"),
    "host": ("host",),
    "prompts": ("prompts",),
}


def map_table(speedups: SpeedupMap) -> Table:
    """Speed-up by batch (rows) and draft length (columns); brackets mark the best of each row."""
    if speedups.acceptance is None:
        return _plain_table(speedups)
    lengths = sorted({cell.draft_tokens for cell in speedups.cells})
    what = "decoding alone" if speedups.served is None else "prompts included"
    table = narrow_table(f"speed-up over no drafter by batch size and draft length k, {what}")
    table.add_column("batch", justify="right")
    for k in lengths:
        table.add_column(f"k={k}", justify="right", no_wrap=True)
    table.add_column("output\ntokens/s", justify="right")
    for best in speedups.best():
        values = []
        for k in lengths:
            text = f"{speedups.cell(best.batch, k).speedup:.2f}"
            values.append(f"[bold]\\[{text}][/bold]" if k == best.draft_tokens else text)
        cell = speedups.cell(best.batch, best.draft_tokens)
        table.add_row(str(best.batch), *values, f"{cell.output_tokens_per_s:,.0f}")
    return table


def _plain_table(speedups: SpeedupMap) -> Table:
    """What each batch size does without a drafter."""
    what = "decoding alone" if speedups.served is None else "prompts included"
    table = narrow_table(f"no drafter, {what}")
    for column in ("batch", "time of\na step", "output\ntokens/s", "tokens/s of\na request"):
        table.add_column(column, justify="right")
    for cell in speedups.cells:
        each = cell.output_tokens_per_s / cell.batch
        table.add_row(str(cell.batch), format_seconds(cell.step_s), f"{cell.output_tokens_per_s:,.0f}", f"{each:,.1f}")
    return table


def split_table(speedups: SpeedupMap) -> Table:
    """Where the time of each batch size's best k goes, and what bounds a round; ± is its 90 % interval."""
    cells = [speedups.cell(best.batch, best.draft_tokens) for best in speedups.best()]
    names = [name for name in SHOWN_PARTS if any(_share(cell, name) for cell in cells)]
    table = narrow_table(
        "where the time of a step goes" if speedups.acceptance is None else "where the time of the best k goes"
    )
    for column in ("batch", "k", "round\nms", *names, "bound\nby"):
        table.add_column(column, justify="right")
    for cell in cells:
        shares = (f"{share:.0%}" if (share := _share(cell, name)) else "-" for name in names)
        milliseconds = f"{cell.round_s * 1e3:,.1f} ±{cell.round_high_s / cell.round_s - 1:.0%}"
        table.add_row(str(cell.batch), str(cell.draft_tokens), milliseconds, *shares, cell.bound)
    return table


def _share(cell: Cell, name: str) -> float:
    return sum(cell.parts.get(part, 0.0) for part in SHOWN_PARTS[name]) / cell.step_s


def exit_table(exits: Sequence[Exit]) -> Table:
    """Best exit layer and draft length of each batch size, beside what most tokens per layer run would choose."""
    table = Table(title="early exit: best layer and draft length")
    for column in ("batch", "exit layer", "k", "speed-up", "90 % interval", "counting layers: layer, k", "speed-up"):
        table.add_column(column, justify="right")
    for best in exits:
        table.add_row(
            str(best.batch),
            str(best.exit_layer) if best.draft_tokens else "off",
            str(best.draft_tokens),
            f"{best.speedup:.2f}",
            f"{best.low:.2f} to {best.high:.2f}",
            f"{best.counted_exit_layer}, {best.counted_draft_tokens}",
            f"{best.counted_speedup:.2f}",
        )
    return table
