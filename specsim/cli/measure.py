"""``specsim measure``: answer the same question by running it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput
from specsim.scenario import Scenario, load_scenario


def measure(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    engine: Annotated[str, typer.Option(help="Which engine runs it: reference.")] = "reference",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Compare greedy output with and without the scenario's drafter, by dtype. A draft model is a noisy "
            "copy of the target then.",
        ),
    ] = False,
    grid: Annotated[bool, typer.Option("--grid", help="Measure the batch x k map instead of the workload.")] = False,
    out: Annotated[Path, typer.Option(help="Table that --grid writes, and resumes from.")] = Path("measured.csv"),
    repeats: Annotated[int, typer.Option(help="Interleaved repeats of --grid.")] = 4,
    cell_seconds: Annotated[float, typer.Option(help="Seconds that one cell of --grid runs, about.")] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Serve the workload on the wall clock, or measure the map that ``predict`` predicts."""
    from specsim.report.tables import summary_table

    if engine != "reference":
        raise InvalidInput(f"--engine {engine!r} is not built yet; the engine that runs today is reference")
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    question = load_scenario(scenario, settings or ())
    require_torch()
    from specsim.reference.run import serve

    if lossless:
        compare_outputs(question, device, as_json=as_json)
        return
    if grid:
        measure_map(question, out, device=device, repeats=repeats, cell_seconds=cell_seconds)
        messages().print(f"wrote {out}")
        return
    summary = serve(question, device=device).summary(question.slo)
    print_json(summary | {"name": question.name}) if as_json else console().print(
        summary_table({question.name: summary})
    )


def compare_outputs(question: Scenario, device: str, *, as_json: bool) -> None:
    """Greedy output with the scenario's drafter against plain greedy output, in float64, float32 and bfloat16."""
    from specsim.reference.choice import drafter_of
    from specsim.reference.lossless import by_dtype

    asked = question.speculation
    if asked is None or not asked.max_draft_tokens:
        raise InvalidInput(
            f"scenario {question.name!r} drafts nothing, so there is nothing to compare; name a program"
        )
    reports = by_dtype(question.model, drafter_of(asked), draft_tokens=asked.max_draft_tokens, device=device)
    if as_json:
        print_json([asdict(report) | {"identical_share": report.identical_share} for report in reports])
        return
    table = Table(title="greedy output with speculation against without, on random weights")
    for column in ("dtype", "outputs", "identical", "accepted drafts", "largest logit lead where they part"):
        table.add_column(column, justify="right")
    for report in reports:
        rate = report.acceptance_rate
        table.add_row(
            report.dtype, str(report.sequences), f"{report.identical_share:.0%}",
            "-" if rate is None else f"{rate:.0%}", f"{max(report.gaps):.2g}" if report.gaps else "-",
        )  # fmt: skip
    console().print(table)


def measure_map(question: Scenario, out: Path, *, device: str, repeats: int, cell_seconds: float) -> None:
    """Measure every cell of a scenario's batch x k map into a table, skipping those it already holds."""
    from specsim.analytic.rounds import default_batches
    from specsim.cases import write_machine
    from specsim.fidelity import read_grid, write_grid
    from specsim.profiling.machine import inspect
    from specsim.profiling.probe import probe_s
    from specsim.profiling.timer import clock_and_capture
    from specsim.reference.grid import measure_grid

    if question.speculation is None:
        raise InvalidInput(f"scenario {question.name!r} has no speculation, so there is no map to measure")
    if repeats < 2:
        raise InvalidInput(f"--repeats {repeats}: choosing and scoring the best k needs at least 2")
    batches = default_batches(question.engine.max_num_seqs)
    lengths = list(question.speculation.program.choices(question.speculation.max_draft_tokens))
    done = {(r.repeat, r.batch, r.draft_tokens) for r in read_grid(out)} if out.exists() else set()
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = inspect(device)
    dtype = question.precision().dtype
    before = probe_s(device, dtype, *clock_and_capture(device))
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages(), disable=not messages().is_terminal) as progress:
        task = progress.add_task("", total=repeats * len(batches) * len(lengths), completed=len(done))
        rows = measure_grid(
            question, batches=batches, draft_lengths=lengths, repeats=repeats, seconds_per_cell=cell_seconds,
            device=device, done=done,
        )  # fmt: skip
        for row in rows:
            write_grid(out, [row])
            progress.advance(task)
    after = probe_s(device, dtype, *clock_and_capture(device))
    write_machine(out.parent, machine.device_name, machine.versions, (before, after))
