"""``specsim measure --grid --engine vllm``: the batch x k map on a real engine."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from itertools import takewhile
from pathlib import Path

from specsim.cases import write_machine
from specsim.cli.case_runs import map_axes
from specsim.cli.measure_engine import RealEngine
from specsim.cli.options import messages, progress_of
from specsim.engines import Checkpoints
from specsim.engines.rounds import MeasuredCell, RoundsCell, SteadyRounds, cells_in_order
from specsim.errors import InvalidInput
from specsim.fidelity import read_grid, write_grid
from specsim.fidelity.acceptance_file import ACCEPTANCE, write_acceptance
from specsim.kept_files import only_writer
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.scenario import Scenario


def measure_engine_map(
    drafters: Mapping[str, Scenario],
    engine: RealEngine,
    out: Path,
    repeats: int,
    *,
    draft_lengths: Collection[int] | None = None,
    minutes: float | None = None,
) -> bool:
    """Measure what the table ``out`` lacks of every drafter's map, ``minutes`` at most; whether that is all of it.

    ``draft_lengths``: of these alone.

    Raises InvalidInput or NoAnswer, before an engine starts, for what it does not have.
    """
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if repeats < 2:
        raise InvalidInput(f"--repeats {repeats}: choosing and scoring the best k needs at least 2")
    adapter, python = engine.offline(), engine.python()
    asked = {name: (one, Checkpoints.of(one, engine.model, engine.draft_model)) for name, one in drafters.items()}
    cells = _cells(drafters, repeats, draft_lengths)
    on_cpu = next(iter(drafters.values())).gpu.kind == "cpu"
    held = read_grid(out) if out.exists() else {}
    done = {(row.repeat, row.batch, name, row.draft_tokens) for name, rows in held.items() for row in rows}
    pending = [cell for cell in cells if tuple(cell) not in done]
    rounds = SteadyRounds(adapter, python, out.parent, asked, starting=lambda what: messages().print(what))
    rounds.check(cells)
    with only_writer(out.parent), progress_of("measuring") as progress:
        if pending:
            machine = EngineMachine(python, "cpu" if on_cpu else "cuda")
            probes_s = [machine.probe_s(machine.default_dtype)]
        with rounds:
            while pending and time.monotonic() < until:
                together = _compared(pending, shared=on_cpu)
                for found in rounds.measure(*together):
                    _write(out, found)
                pending = pending[len(together) :]
                progress(len(cells) - len(pending), len(cells))
        if rounds.facts:
            probes_s.append(machine.probe_s(machine.default_dtype))
            versions = {name: str(rounds.facts[name]) for name in (adapter.kind, "torch", "dtype", "mode")}
            place = str(machine.facts["device_name"])
            write_machine(out.parent, place, versions, (probes_s[0], probes_s[1]), f"{adapter.kind}, no server")
    return not pending


def _cells(drafters: Mapping[str, Scenario], repeats: int, draft_lengths: Collection[int] | None) -> list[RoundsCell]:
    """The map's, in the order that they are measured in."""
    axes = {name: map_axes(one) for name, one in drafters.items()}
    batches = sorted({batch for sizes, _ in axes.values() for batch in sizes})
    lengths = {name: [k for k in ks if draft_lengths is None or k in draft_lengths] for name, (_, ks) in axes.items()}
    first = next(iter(drafters.values()))
    return list(cells_in_order(batches, lengths, repeats, first.seed, by_engine=first.gpu.kind != "cpu"))


def _compared(pending: list[RoundsCell], *, shared: bool) -> list[RoundsCell]:
    """The first ones, which take turns: all draft lengths of a batch size, or where engines share no device one."""
    first = pending[0]
    alike = takewhile(lambda cell: (cell.repeat, cell.batch) == (first.repeat, first.batch), pending)
    return list(alike) if shared else [first]


def _write(out: Path, found: MeasuredCell) -> None:
    """A checkpoint; the row last, for it says that the cell is done."""
    cell = found.cell
    place = (cell.drafter, cell.repeat, cell.batch, cell.draft_tokens)
    write_acceptance(out.parent / ACCEPTANCE, place, found.acceptance)
    write_grid(out, cell.drafter, [found.row])
