"""``specsim profile``: measure this machine's kernels, show what a profile holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput
from specsim.units import format_seconds

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure kernels, show profiles.")


@app.command("run")
def run(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    out: Annotated[Path | None, typer.Option(help="Folder to write; default profiles/<device name>.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Hardware preset these measurements stand for.")] = None,
    quick: Annotated[bool, typer.Option(help="A coarse grid, for a first look.")] = False,
) -> None:
    """Time kernels; Ctrl-C stops, and the same command goes on where it stopped."""
    require_torch()
    from specsim.profiling.sweep import run_sweep

    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), disable=not messages().is_terminal) as progress:
        task = progress.add_task("profile", total=None)

        def advance(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        folder = run_sweep(device, dtype, out, gpu=gpu, quick=quick, progress=advance)
    messages().print(f"wrote {folder}")
    show(str(folder))


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="A profile's name or folder; none lists those shipped.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a profile holds, and how well it predicts shapes withheld from it."""
    from specsim.profiles.store import load_profile, profile_names

    if name is None:
        names = profile_names()
        print_json(names) if as_json else console().print("\n".join(names) or "no profiles are shipped")
        return
    profile = load_profile(name)
    header = profile.header
    if as_json:
        counts = {kind: len(rows) for kind, rows in profile.rows.items()}
        print_json({"name": profile.name, **header.model_dump(mode="json", by_alias=True), "rows": counts})
        return
    out = console()
    out.print(f"[bold]{profile.name}[/bold]: {header.device_name} ({header.gpu}), {header.date}")
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {dtype}" for dtype, rate in header.ceilings.flops_per_s.items())
    out.print(f"ceilings: copy {header.ceilings.copy_bytes_per_s / 1e9:.1f} GB/s, {rates}")
    if header.probe.after_s is not None:
        out.print(f"probe drift over the sweep: {header.probe.after_s / header.probe.before_s - 1:+.1%}")
    table = Table()
    for column in ("class", "rows", "shortest", "longest", "median spread", "held-out error: median", "p90", "n"):
        table.add_column(column, justify="right")
    for kind, rows in profile.rows.items():
        if not rows:
            continue
        times = sorted(row.median_s for row in rows)
        spread = sorted(row.spread for row in rows)[len(rows) // 2]
        error = header.heldout_error.get(kind)
        held = ("-", "-", "-") if error is None else (f"{error.median:.1%}", f"{error.p90:.1%}", str(error.n))
        table.add_row(
            kind, str(len(rows)), format_seconds(times[0]), format_seconds(times[-1]), f"{spread:.1%}", *held
        )
    out.print(table)
