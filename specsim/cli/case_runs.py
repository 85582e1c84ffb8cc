"""A case's predictions and measurements, with how far they are."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from specsim.assembly import assemble
from specsim.cases import (
    Case,
    Served,
    loads_of,
    rows_to_extend,
    runs_to_measure,
    still_to_run,
    write_machine,
    write_prediction,
)
from specsim.cases.conditions import AnchorRow, append_anchors
from specsim.cases.served import run_name
from specsim.cli.options import messages
from specsim.errors import InvalidInput
from specsim.fidelity import read_grid, write_grid
from specsim.results.served import METRICS, ServedRow, append_row
from specsim.scenario import Scenario

CELL_LOOKS = 2  # at the anchors, after each cell of a map
LOOK_EVERY_S = 2.0  # between the steps of a served run: one percent of its time


def predict_into(case: Case) -> Path:
    """Write a case's prediction, showing how far it is; returns the file."""
    with _progress("predicting") as progress:
        task = progress.add_task("", total=None)
        return write_prediction(case, lambda done, total: progress.update(task, completed=done, total=total))


def measure_map(question: Scenario, out: Path, *, device: str, repeats: int, cell_seconds: float) -> None:
    """Measure every cell of a scenario's batch x k map into a table, skipping those it already holds."""
    from specsim.analytic.rounds import default_batches
    from specsim.profiling.anchors import Anchors, Looks
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
    dtype = assemble(question).precision.dtype
    looks = Looks(Anchors(device, dtype, machine), LOOK_EVERY_S)
    before = probe_s(device, dtype, *clock_and_capture(device))
    with _progress("measuring") as progress:
        task = progress.add_task("", total=repeats * len(batches) * len(lengths), completed=len(done))
        rows = measure_grid(
            assemble(question), batches=batches, draft_lengths=lengths, repeats=repeats, seconds_per_cell=cell_seconds,
            device=device, done=done,
        )  # fmt: skip
        for row in rows:
            write_grid(out, [row])
            for _ in range(CELL_LOOKS):
                looks.look()
            seen = AnchorRow(row.repeat, f"{row.batch}/{row.draft_tokens}", *looks.take())
            append_anchors(out.parent / "conditions.csv", seen)
            progress.advance(task)
    after = probe_s(device, dtype, *clock_and_capture(device))
    write_machine(out.parent, machine.device_name, machine.versions, (before, after))


def measure_served(case: Case, what: Served, *, device: str) -> Path:
    """Measure what a served case's table lacks, row by row; returns the table.

    Loads need their prediction first. Raises InvalidInput without it, or for a table of another scenario.
    """
    from specsim.profiling.anchors import Anchors, Looks
    from specsim.profiling.machine import inspect
    from specsim.profiling.probe import probe_s
    from specsim.profiling.timer import clock_and_capture
    from specsim.reference.run import serve

    runs, path = runs_to_measure(case, what)
    pending = list(
        still_to_run(runs, rows_to_extend(path, runs), repeats=loads_of(case).repeats, seed=case.scenario.seed)
    )
    if what == "saturation" and pending and not case.predicted_saturation.exists():
        messages().print("nothing was predicted of this saturation, so it will test nothing", soft_wrap=True)
    dtype, probes = assemble(case.scenario).precision.dtype, list[float]()
    looks = Looks(Anchors(device, dtype), LOOK_EVERY_S)

    def probe() -> float:
        probes.append(probe_s(device, dtype, *clock_and_capture(device)))
        return probes[-1]

    for number, (repeat, run) in enumerate(pending, start=1):
        before_s = probe()
        looks.look()
        summary = serve(assemble(run.scenario), device=device, between_steps=looks.look_when_due).summary()
        append_anchors(case.conditions, AnchorRow(repeat, run_name(run), *looks.take()))
        metrics = {name: summary[name] for name in METRICS}
        append_row(path, ServedRow(repeat, run.load, run.alternative, before_s, metrics, run.scenario.sha256()))
        messages().print(
            f"{number}/{len(pending)} repeat {repeat}, {run.load}, {run.alternative}: {summary['duration']:.0f} s, "
            f"{summary['output_throughput']:.1f} tokens/s",
            soft_wrap=True,
        )
    if pending:
        machine = inspect(device)
        write_machine(case.folder, machine.device_name, machine.versions, (probes[0], probe()))
    return path


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=messages(), disable=not messages().is_terminal)
