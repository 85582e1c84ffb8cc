"""``specsim measure CASE --saturation|--loads --engine vllm``: a served case on a real engine's server."""

from __future__ import annotations

import math
import time
from pathlib import Path

from specsim.cases import Case, ServedStage, loads_of, rows_to_extend, runs_to_measure, still_to_run, write_machine
from specsim.cli.measure_engine import RealEngine
from specsim.cli.options import messages
from specsim.engines import Arms, Checkpoints
from specsim.kept_files import only_writer
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.results.served_rows import METRICS, ServedRow, append_row


def measure_engine_served(case: Case, what: ServedStage, engine: RealEngine, minutes: float | None) -> bool:
    """Measure what a served case's table lacks, ``minutes`` at most; whether that is all of it.

    The alternatives' servers are all up at once, and take turns. Raises InvalidInput and NoAnswer, before one starts,
    for what the engine does not have, and for loads that were not predicted.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    adapter, python = engine.adapter(), engine.python()
    runs, path = runs_to_measure(case, what)
    folders = {run.alternative: Checkpoints.of(run.scenario, engine.model, engine.draft_model) for run in runs}
    for run in runs:
        adapter.launch(run.scenario, folders[run.alternative], port=0)
    held = rows_to_extend(path, runs)
    pending = list(still_to_run(runs, held, repeats=loads_of(case).repeats, seed=case.scenario.seed))
    if not pending:
        return True
    machine = EngineMachine(python, "cpu" if case.scenario.gpu.kind == "cpu" else "cuda")
    before_s = machine.probe_s(machine.default_dtype)
    arms = Arms(adapter, python, _logs(case), port=engine.port, starting=lambda what: messages().print(what))
    with only_writer(case.folder), arms as servers:
        for run in runs:
            servers.start(run.scenario, folders[run.alternative])
        while pending and time.monotonic() < until:
            repeat, run = pending.pop(0)
            summary = servers.serve(run.scenario, folders[run.alternative]).summary()
            metrics = {name: summary[name] for name in METRICS}
            append_row(path, ServedRow(repeat, run.load, run.alternative, before_s, metrics, run.scenario.sha256()))
            messages().print(
                f"{len(pending)} left; repeat {repeat}, {run.load}, {run.alternative}: {summary['duration']:.0f} s, "
                f"{summary['output_throughput']:.1f} tokens/s, {summary['num_kv_blocks']} KV blocks"
            )
    after_s = machine.probe_s(machine.default_dtype)
    versions = {"torch": machine.facts["versions"]["torch"], adapter.kind: case.scenario.engine.version or "unknown"}
    write_machine(case.folder, machine.facts["device_name"], versions, (before_s, after_s), f"{adapter.kind}, served")
    return not pending


def _logs(case: Case) -> Path:
    """Servers' logs and counters: of no use to a reader of the case."""
    return case.folder / "server"
