"""``specsim measure --grid --engine vllm``: the batch x k map on a real engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from specsim.cases import write_machine
from specsim.cli.case_runs import map_axes
from specsim.cli.measure_engine import RealEngine
from specsim.cli.options import messages, progress_of
from specsim.engines import Checkpoints
from specsim.engines.rounds import SteadyRounds, cells_in_order
from specsim.errors import InvalidInput
from specsim.fidelity import read_grid, write_grid
from specsim.fidelity.acceptance_file import write_acceptance
from specsim.kept_files import only_writer
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.scenario import Scenario

ACCEPTANCE = "acceptance.csv"  # beside the map's table: what its rounds accepted


def measure_engine_map(
    drafters: Mapping[str, Scenario],
    engine: RealEngine,
    out: Path,
    repeats: int,
    draft_lengths: Collection[int] | None = None,
) -> None:
    """Measure what the table ``out`` lacks of every drafter's map; ``draft_lengths``: of these alone.

    Raises InvalidInput or NoAnswer, before an engine starts, for what it does not have.
    """
    if repeats < 2:
        raise InvalidInput(f"--repeats {repeats}: choosing and scoring the best k needs at least 2")
    adapter, python = engine.offline(), engine.python()
    folders = {name: Checkpoints.of(one, engine.model, engine.draft_model) for name, one in drafters.items()}
    held = read_grid(out) if out.exists() else {}
    done = {(row.repeat, row.batch, name, row.draft_tokens) for name, rows in held.items() for row in rows}
    first = next(iter(drafters.values()))
    axes = {name: map_axes(one) for name, one in drafters.items()}
    batches = sorted({batch for sizes, _ in axes.values() for batch in sizes})
    lengths = {name: [k for k in ks if draft_lengths is None or k in draft_lengths] for name, (_, ks) in axes.items()}
    cells = list(cells_in_order(batches, lengths, repeats, first.seed, by_engine=first.gpu.kind != "cpu"))
    pending = [cell for cell in cells if tuple(cell) not in done]
    asked = {name: (one, folders[name]) for name, one in drafters.items()}
    device = "cpu" if first.gpu.kind == "cpu" else "cuda"
    machine = EngineMachine(python, device)
    with only_writer(out.parent), progress_of("measuring") as progress:
        rounds = SteadyRounds(
            adapter, python, out.parent, asked, starting=lambda what: messages().print(what)
        )
        rounds.check(cells)
        before_s = machine.probe_s(machine.default_dtype)
        with rounds:
            for number, cell in enumerate(pending, start=len(cells) - len(pending) + 1):
                found = rounds.measure(cell)
                place = (cell.drafter, cell.repeat, cell.batch, cell.draft_tokens)
                write_acceptance(out.parent / ACCEPTANCE, place, found.acceptance)
                write_grid(out, cell.drafter, [found.row])
                progress(number, len(cells))
        if pending:
            after_s = machine.probe_s(machine.default_dtype)
            versions = {name: str(rounds.facts[name]) for name in (adapter.kind, "torch", "dtype", "mode")}
            write_machine(
                out.parent, machine.facts["device_name"], versions, (before_s, after_s), f"{adapter.kind}, no server"
            )
