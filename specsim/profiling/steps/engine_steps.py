"""Whole steps of a real vLLM on this machine: its engine runs in a subprocess, its steps land in ``steps.csv``.

Every sample is kept in ``samples.jsonl`` as it comes, so a run can stop anywhere and the next one goes on. Repeats
visit all cells in a shuffled order of their own, coarse before fine, so that a drifting machine spreads over the whole
table. On a GPU every engine (without a drafter, with it) has its share of a repeat's time that is left; on a CPU all
of them are up in a repeat, and one more (the *pace*), which takes a plain step after each that is timed. The machine
is asked by the engine's own Python: specsim's needs no torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import repeat as repeated
from pathlib import Path
from typing import Any

import numpy as np

from specsim.engines.driver import Driver, StepSkipped
from specsim.engines.installation import engine_python
from specsim.engines.turns import Pace, in_turn, side_by_side
from specsim.errors import InvalidInput
from specsim.json_file import read_json_object
from specsim.kept_files import only_writer
from specsim.profiles.schema import ProfileHeader
from specsim.profiles.steps import CPU_GRID, CUDA_GRID, PACE, StepGrid, StepShape
from specsim.profiles.store import write_header
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.profiling.steps.samples import Kind, Visit, read_records, write_record, write_table
from specsim.profiling.steps.setup import LOOK_UP, MODEL, Setup, adopt, check_dtype, config_of
from specsim.profiling.sweep.header import known_header, new_header
from specsim.progress import TimedProgress
from specsim.speculation.engine_steps import SAMPLES_A_VISIT

LOG = "vllm.log"
WARM_UP_STEPS, TIMED_STEPS = 2, SAMPLES_A_VISIT
PACED_STEPS = 16  # timed steps of a visit that takes turns with the pace
PACE_STEPS = 48  # of the pace in a stretch
CEILINGS_SHARE, MOST_CEILINGS_S = 0.125, 60.0  # of the time, and in all


def measure_steps(
    vllm: Path,
    model: Path,
    folder: Path,
    *,
    name: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    drafters: Mapping[str, Path | None] = LOOK_UP,
    gpu: str | None = None,
    grid: StepGrid | None = None,
    repeats: int = 5,
    minutes: float = 8.0,
    seed: int = 0,
    progress: TimedProgress = lambda done, total, what: None,
) -> bool:
    """Measure vLLM's steps into ``folder`` for about ``minutes``; True once every cell has its ``repeats``.

    ``vllm``: its virtual environment or its Python. ``model``: a folder with a config.json, or that file; weights are
    random and never read. ``name``: the model's in scenarios (default: its folder's). ``drafters``: draft models'
    folders by their names in scenarios; None in place of a folder is prompt look-up. ``dtype`` None: what is native
    to the device. A second call goes on where the first stopped. Raises InvalidInput for a wrong path or a
    folder of another machine or model, NoAnswer if the engine cannot start or dies.
    """
    until = time.monotonic() + 60 * minutes
    check_dtype(dtype)
    config, python = config_of(model, folder), engine_python(vllm)
    cells, pace = _fitting((grid or (CPU_GRID if device == "cpu" else CUDA_GRID)).shapes(), config)
    machine = EngineMachine(python, device)
    dtype = dtype or machine.default_dtype
    setup = Setup(python, folder / MODEL, name or config.parent.name, device, dtype, drafters, pace)
    header = known_header(folder, machine.facts, dtype) or _new_header(machine, dtype, gpu, 60 * minutes)
    with only_writer(folder):
        adopt(config, folder)
        write_header(folder, header)
        visits = [(repeat, kind) for repeat in range(repeats) for cell in cells for kind in setup.kinds(cell)]
        todo = set(visits) - set(read_records(folder))
        done = known = len(visits) - len(todo)
        try:
            for done, (repeat, kind, answer) in enumerate(_visits(setup, cells, todo, folder, until, seed), known + 1):
                write_record(folder, repeat, kind, answer)
                progress(done, len(visits), f"repeat {repeat + 1} of {repeats}")
        finally:
            write_table(header, folder, setup.name, machine.probe_s(dtype) if done > known else None, pace)
        return done == len(visits)


def _new_header(machine: EngineMachine, dtype: str, gpu: str | None, budget_s: float) -> ProfileHeader:
    rates = machine.rates(dtype, min(MOST_CEILINGS_S, CEILINGS_SHARE * budget_s))
    return new_header(
        machine.facts,
        rates,
        machine.probe_s(dtype),
        gpu=gpu or machine.slug,
        attribution="measured by specsim profile steps",
    )


def _visits(
    setup: Setup, cells: list[StepShape], todo: set[Visit], folder: Path, until: float, seed: int
) -> Iterator[tuple[int, Kind, dict[str, Any]]]:
    """(repeat, kind, what the engine answered): on a CPU all engines together, else one after another."""
    engines = setup.engines(sorted({cell.num_draft_tokens for cell in cells}))
    held = cells
    if setup.device == "cpu":
        engines.append((None, set()))
        held = [*cells, setup.pace]
    served = [kinds for _, kinds in engines]

    def start(index: int) -> Driver:
        log = folder / (f"{index}-{LOG}" if index else LOG)
        return Driver(setup.python, _job(setup, held, engines[index][0]), log, device=setup.device)

    def order(repeat: int) -> list[Kind]:
        shuffled = coarse_first(cells, np.random.default_rng((seed, repeat)))
        return [kind for cell in shuffled for kind in setup.kinds(cell)]

    visit = partial(_together, setup.pace) if setup.device == "cpu" else _in_turn
    yield from visit(start, served, order, todo, until)


def _together(
    pace_shape: StepShape,
    start: Callable[[int], Driver],
    served: list[set[tuple[str, int]]],
    order: Callable[[int], list[Kind]],
    pending: set[Visit],
    until: float,
) -> Iterator[tuple[int, Kind, dict[str, Any]]]:
    """Engines are up together, anew every repeat: a process keeps its luck, where its memory lies, while it lives.

    ``served``: each engine's (drafter, draft length)s, of the pace none; ``order``: of a repeat's visits.
    """
    while pending and time.monotonic() < until:
        repeat = min(number for number, _ in pending)
        left = [kind for kind in order(repeat) if (repeat, kind) in pending]
        needed = [index for index, kinds in enumerate(served) if not kinds or any(_served(k) in kinds for k in left)]
        with side_by_side([partial(start, index) for index in needed]) as drivers:
            running = dict(zip(needed, drivers, strict=True))
            pace = Pace(running[served.index(set())], repeated(_beginning(pace_shape, PACE_STEPS)), WARM_UP_STEPS)
            for kind in left:
                index = next(i for i in needed if _served(kind) in served[i])
                yield repeat, kind, _measure(running[index], kind[1], pace)
                pending.discard((repeat, kind))
                if time.monotonic() >= until:
                    break


def _in_turn(
    start: Callable[[int], Driver],
    served: list[set[tuple[str, int]]],
    order: Callable[[int], list[Kind]],
    pending: set[Visit],
    until: float,
) -> Iterator[tuple[int, Kind, dict[str, Any]]]:
    """One engine after another within each repeat.

    An engine has its cells' share of the time that is left, and one cell at least; where others leave some of theirs,
    it comes again.
    """
    while pending and time.monotonic() < until:
        repeat = min(number for number, _ in pending)
        left = [kind for kind in order(repeat) if (repeat, kind) in pending]
        turns = [[kind for kind in left if _served(kind) in kinds] for kinds in served]
        for index, turn in enumerate(turns):
            begun = time.monotonic()
            if not turn or begun >= until:
                continue
            end = begun + (until - begun) * len(turn) / sum(len(later) for later in turns[index:])
            with start(index) as driver:
                for kind in turn:
                    yield repeat, kind, _measure(driver, kind[1])
                    pending.discard((repeat, kind))
                    if time.monotonic() >= end:
                        break


def _served(kind: Kind) -> tuple[str, int]:
    drafter, cell = kind
    return drafter, cell.num_draft_tokens


def coarse_first(cells: Sequence[StepShape], generator: np.random.Generator) -> list[StepShape]:
    """Cells in a random order, those first whose every column is the least, middle or largest of all."""
    columns = [sorted(set(values)) for values in zip(*(cell.columns() for cell in cells), strict=True)]
    coarse = [{values[0], values[len(values) // 2], values[-1]} for values in columns]
    shuffled = [cells[i] for i in generator.permutation(len(cells))]
    return sorted(
        shuffled, key=lambda cell: not all(v in kept for v, kept in zip(cell.columns(), coarse, strict=True))
    )


def _measure(driver: Driver, cell: StepShape, pace: Pace | None = None) -> dict[str, Any]:
    """{"seconds": {part: [...]}} and what the engine is, with ``pace`` its plain steps too; or {"skipped": why}."""
    facts = {name: driver.facts[name] for name in ("vllm", "dtype", "mode")}
    timed = TIMED_STEPS if pace is None else PACED_STEPS
    driver.begin(_beginning(cell, WARM_UP_STEPS + timed))
    try:
        driver.steps(WARM_UP_STEPS)
        both = [(step, None) for step in driver.steps(timed)] if pace is None else list(in_turn(driver, pace))
    except StepSkipped as error:
        return facts | {"skipped": str(error)}
    seconds = {part: [own["seconds"][part] for own, _ in both] for part in both[0][0]["seconds"]}
    beside = [other["seconds"]["total"] for _, other in both if other is not None]
    return facts | {"seconds": seconds} | ({"pace_s": beside} if beside else {})


def _beginning(cell: StepShape, steps: int) -> dict[str, Any]:
    return {**asdict(cell), "steps": steps}


def _job(setup: Setup, cells: list[StepShape], config: dict[str, Any] | None) -> dict[str, Any]:
    """What the driver needs to start an engine that holds every cell."""
    width = max(cell.num_draft_tokens for cell in cells) + 1
    words = [
        "--model", str(setup.model.resolve()), "--load-format", "dummy", "--seed", "0", "--dtype", setup.dtype,
        "--max-num-seqs", str(max(cell.sequences for cell in cells) + 1),
        "--max-num-batched-tokens", str(max(2048, 2 * max(cell.tokens for cell in cells))),
        "--max-model-len", str(max(cell.kv_len for cell in cells) + _room(width)), "--no-enable-prefix-caching",
    ]  # fmt: skip
    return {"flags": words if config is None else [*words, "--speculative-config", json.dumps(config)]}


def _room(width: int) -> int:
    """Positions beyond the KV length that a cell's steps may reach if every draft is accepted."""
    return max(PACE_STEPS, (WARM_UP_STEPS + PACED_STEPS + 2) * width)


def _fitting(cells: list[StepShape], config: Path) -> tuple[list[StepShape], StepShape]:
    """The cells within the model's positions, and the pace, at fewer keys where they are few.

    Raises InvalidInput where no cell is.
    """
    longest = read_json_object(config, "a Hugging Face model's config.json").get("max_position_embeddings")
    room = _room(max(cell.num_draft_tokens for cell in cells) + 1)
    if not isinstance(longest, int):
        return cells, PACE
    fitting = [cell for cell in cells if cell.kv_len + room <= longest]
    if not fitting:
        least = min(cell.kv_len for cell in cells)
        raise InvalidInput(
            f"{config} has {longest} positions and no step of the grid fits: at {least} keys, the fewest, one takes "
            f"{least + room} with all drafts accepted; give fewer --kv-lens or --draft-lengths"
        )
    return fitting, replace(PACE, kv_len=min(PACE.kv_len, longest - room))
