"""``specsim measure CASE --saturation|--loads --engine vllm``: a served case on a real engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from specsim.assembly import assemble
from specsim.cases import (
    Case,
    ServedRun,
    ServedStage,
    loads_of,
    rows_to_extend,
    runs_to_measure,
    still_to_run,
    write_machine,
)
from specsim.cli.measure_engine import RealEngine
from specsim.cli.options import messages
from specsim.engines import Arms, Checkpoints, SteppedLoads
from specsim.kept_files import only_writer
from specsim.profiles.steps import PACE
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.results import RunResult
from specsim.results.served_rows import METRICS, ServedRow, append_row

Pending = list[tuple[int, ServedRun]]  # repeat, run
Answered = tuple[int, ServedRun, RunResult]
BETWEEN = {"wall": "served", "steps": "stepped"}  # by the clock of loads.yaml, what the machine's file says


def measure_engine_served(case: Case, what: ServedStage, engine: RealEngine, minutes: float | None) -> bool:
    """Measure what a served case's table lacks, ``minutes`` at most; whether that is all of it.

    The alternatives' engines are all up at once, and take turns: servers run by run, stepped engines step by step.
    Raises InvalidInput and NoAnswer, before one starts, for what the engine does not have, and for loads that were not
    predicted.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    loads, python = loads_of(case), engine.python()
    runs, path = runs_to_measure(case, what)
    folders = {run.alternative: Checkpoints.of(run.scenario, engine.model, engine.draft_model) for run in runs}
    measured = _by_server if loads.clock == "wall" else _in_turn
    serve = measured(case, engine, runs, folders)
    held = rows_to_extend(path, runs)
    pending = list(still_to_run(runs, held, repeats=loads.repeats, seed=case.scenario.seed))
    if not pending:
        return True
    machine = EngineMachine(python, "cpu" if case.scenario.gpu.kind == "cpu" else "cuda")
    before_s = machine.probe_s(machine.default_dtype)
    left = len(pending)
    with only_writer(case.folder):
        for repeat, run, result in serve(pending, until):
            left -= 1
            summary = result.summary()
            metrics = {name: summary[name] for name in METRICS}
            append_row(path, ServedRow(repeat, run.load, run.alternative, before_s, metrics, run.scenario.sha256()))
            messages().print(
                f"{left} left; repeat {repeat}, {run.load}, {run.alternative}: {summary['duration']:.0f} s, "
                f"{summary['output_throughput']:.1f} tokens/s, {summary['num_kv_blocks']} KV blocks"
            )
    after_s = machine.probe_s(machine.default_dtype)
    versions = {"torch": machine.facts["versions"]["torch"], engine.kind: case.scenario.engine.version or "unknown"}
    how = f"{engine.kind}, {BETWEEN[loads.clock]}"
    write_machine(case.folder, machine.facts["device_name"], versions, (before_s, after_s), how)
    return not left


Serve = Callable[[Pending, float], Iterator[Answered]]
Folders = Mapping[str, Checkpoints]


def _by_server(case: Case, engine: RealEngine, runs: Sequence[ServedRun], folders: Folders) -> Serve:
    """Runs one after another, by servers that stay up. Raises for what the engine does not have."""
    adapter = engine.adapter()
    for run in runs:
        adapter.launch(run.scenario, folders[run.alternative], port=0)
    arms = Arms(adapter, engine.python(), _logs(case), port=engine.port, starting=_tell)

    def serve(pending: Pending, until: float) -> Iterator[Answered]:
        with arms as servers:
            for run in runs:
                servers.start(run.scenario, folders[run.alternative])
            for repeat, run in pending:
                if time.monotonic() >= until:
                    return
                yield repeat, run, servers.serve(run.scenario, folders[run.alternative])

    return serve


def _in_turn(case: Case, engine: RealEngine, runs: Sequence[ServedRun], folders: Folders) -> Serve:
    """A load under all its alternatives at once, by engines that start anew every repeat. Raises likewise."""
    plain = assemble(case.scenario.without_speculation())
    pace_s = float(plain.cost.decode_round(PACE.sequences, 0, PACE.kv_len - PACE.query_len).seconds)
    loads = SteppedLoads(engine.offline(), engine.python(), _logs(case), pace_s, starting=_tell)
    for run in runs:
        loads.check(run.scenario, folders[run.alternative])

    def serve(pending: Pending, until: float) -> Iterator[Answered]:
        for repeat, group in groupby(pending, key=lambda one: one[0]):
            if time.monotonic() >= until:
                return
            lacking = {(run.load, run.alternative) for _, run in group}
            names = list(dict.fromkeys(load for load, _ in lacking))
            with loads.running({run.alternative: (run.scenario, folders[run.alternative]) for run in runs}):
                for load in names:
                    if time.monotonic() >= until:
                        return
                    of_load = {run.alternative: run for run in runs if run.load == load}
                    found = loads.serve({name: run.scenario for name, run in of_load.items()})
                    for name, result in found.items():
                        if (load, name) in lacking:
                            yield repeat, of_load[name], result

    return serve


def _tell(what: str) -> None:
    messages().print(what)


def _logs(case: Case) -> Path:
    """Engines' logs and counters: of no use to a reader of the case."""
    return case.folder / "server"
