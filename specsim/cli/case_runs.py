"""A case's predictions and measurements, with how far they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from specsim.assembly import assemble
from specsim.cases import (
    Case,
    ServedStage,
    loads_of,
    rows_to_extend,
    runs_to_measure,
    still_to_run,
    write_machine,
    write_prediction,
)
from specsim.cases.anchor_rows import AnchorRow, append_anchors
from specsim.cases.served import run_name
from specsim.cli.options import messages, progress_of
from specsim.errors import InvalidInput
from specsim.fidelity import read_grid, write_grid
from specsim.kept_files import only_writer
from specsim.results import GridRow
from specsim.results.served_rows import METRICS, ServedRow, append_row
from specsim.scenario import Scenario

CELL_LOOKS = 2  # at the anchors, after each cell of a map
LOOK_EVERY_S = 2.0  # between the steps of a served run: one percent of its time


def predict_into(case: Case, repeats: int | None = None) -> Path:
    """Write a case's prediction, showing how far it is; returns the file. ``repeats``: that its map will have."""
    with progress_of("predicting") as progress:
        return write_prediction(case, progress, repeats=repeats)


def measure_maps(
    drafters: Mapping[str, Scenario], out: Path, *, device: str, repeats: int, cell_seconds: float
) -> None:
    """Measure every cell of each drafter's batch x k map into a table, skipping those it already holds."""
    if repeats < 2:
        raise InvalidInput(f"--repeats {repeats}: choosing and scoring the best k needs at least 2")
    with only_writer(out.parent):
        _measure_missing_cells(drafters, out, device=device, repeats=repeats, cell_seconds=cell_seconds)


def _measure_missing_cells(
    drafters: Mapping[str, Scenario], out: Path, *, device: str, repeats: int, cell_seconds: float
) -> None:
    from specsim.profiling.device.anchors import Anchors, Looks
    from specsim.profiling.device.machine import inspect
    from specsim.profiling.device.probe import probe_s
    from specsim.profiling.device.timer import clock_and_capture

    held = read_grid(out) if out.exists() else {}
    done = {name: {(r.repeat, r.batch, r.draft_tokens) for r in held.get(name, ())} for name in drafters}
    machine = inspect(device)
    dtype = assemble(next(iter(drafters.values()))).precision.dtype
    looks = Looks(Anchors(device, dtype, machine), LOOK_EVERY_S)
    before = probe_s(device, dtype, *clock_and_capture(device))
    with progress_of("measuring") as progress:
        total = repeats * sum(len(batches) * len(lengths) for batches, lengths in map(map_axes, drafters.values()))
        for name, row in _map_rows(drafters, done, device=device, repeats=repeats, cell_seconds=cell_seconds):
            write_grid(out, name, [row])
            for _ in range(CELL_LOOKS):
                looks.look()
            seen = AnchorRow(row.repeat, f"{name}/{row.batch}/{row.draft_tokens}", *looks.take())
            append_anchors(out.parent / "conditions.csv", seen)
            progress(sum(map(len, done.values())), total)
    after = probe_s(device, dtype, *clock_and_capture(device))
    write_machine(out.parent, machine.device_name, machine.versions, (before, after))


def _map_rows(
    drafters: Mapping[str, Scenario],
    done: Mapping[str, set[tuple[int, int, int]]],
    *,
    device: str,
    repeats: int,
    cell_seconds: float,
) -> Iterator[tuple[str, GridRow]]:
    """What no row holds yet. Several drafters take turns, so that all see what the machine does in a repeat."""
    from specsim.reference.timing.grid import measure_grid

    for until in [repeats] if len(drafters) == 1 else range(1, repeats + 1):
        for name, question in drafters.items():
            batches, lengths = map_axes(question)
            if sum(repeat < until for repeat, _, _ in done[name]) == until * len(batches) * len(lengths):
                continue
            for row in measure_grid(
                assemble(question),
                batches=batches,
                draft_lengths=lengths,
                repeats=until,
                seconds_per_cell=cell_seconds,
                device=device,
                done=frozenset(done[name]),
            ):
                done[name].add((row.repeat, row.batch, row.draft_tokens))
                yield name, row


def map_axes(question: Scenario) -> tuple[list[int], list[int]]:
    """Batch sizes and draft lengths of a map."""
    from specsim.analytic.rounds import default_batches

    asked = question.speculation
    lengths = [] if asked is None else list(asked.program.choices(asked.max_draft_tokens))
    return default_batches(question.engine.max_num_seqs), lengths


def measure_served(case: Case, what: ServedStage, *, device: str) -> Path:
    """Measure what a served case's table lacks, row by row; returns the table.

    Loads need their prediction first. Raises InvalidInput without it, or for a table of another scenario.
    """
    with only_writer(case.folder):
        return _measure_missing_runs(case, what, device=device)


def _measure_missing_runs(case: Case, what: ServedStage, *, device: str) -> Path:
    from specsim.profiling.device.anchors import Anchors, Looks
    from specsim.profiling.device.machine import inspect
    from specsim.profiling.device.probe import probe_s
    from specsim.profiling.device.timer import clock_and_capture
    from specsim.reference.timing.run import serve

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
