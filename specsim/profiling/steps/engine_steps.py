"""Whole steps of a real vLLM on this machine: its engine runs in a subprocess, its steps land in ``steps.csv``.

Every sample is kept in ``samples.jsonl`` as it comes, so a run can stop anywhere and the next one goes on. Repeats
visit all cells in a shuffled order of their own, coarse before fine, so that a drifting machine spreads over the whole
table. On a GPU every engine (without a drafter, with it) has its share of a repeat's time that is left. The machine is
asked by the engine's own Python: specsim's needs no torch.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specsim.engines.driver import Driver
from specsim.engines.installation import engine_python
from specsim.errors import InvalidInput
from specsim.kept_files import only_writer
from specsim.profiles.rows import append_rows
from specsim.profiles.schema import ProfileHeader, Row
from specsim.profiles.steps import CPU_GRID, CUDA_GRID, StepGrid, StepShape
from specsim.profiles.store import write_header
from specsim.profiling.steps.engine_machine import EngineMachine
from specsim.profiling.sweep.header import known_header, new_header
from specsim.progress import TimedProgress
from specsim.speculation.engine_steps import SAMPLES_A_VISIT, withheld_error

SAMPLES, MODEL, LOG = "samples.jsonl", "model", "vllm.log"
WARM_UP_STEPS, TIMED_STEPS = 2, SAMPLES_A_VISIT
PARTS = ("total", "verify", "sample", "draft", "host")
DTYPES = ("bfloat16", "float16", "float32")
CEILINGS_SHARE, MOST_CEILINGS_S = 0.125, 60.0  # of the time, and in all


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured: the engine's Python, the model (a folder with its config.json), and the drafter.

    ``draft_model`` None drafts by prompt look-up; else a draft model's folder, ``draft_name`` its name in scenarios.
    """

    python: Path
    model: Path
    name: str
    device: str = "cpu"
    dtype: str = "bfloat16"
    draft_model: Path | None = None
    draft_name: str | None = None

    def drafter(self, shape: StepShape) -> str:
        """Its name in the table's kernel column."""
        if not shape.num_draft_tokens:
            return "none"
        return "ngram" if self.draft_model is None else self.draft_name or self.draft_model.name

    def engines(self, draft_lengths: Sequence[int]) -> list[tuple[dict[str, Any] | None, set[int]]]:
        """(speculative config, draft lengths it serves): one engine without a drafter, and one with it.

        On a GPU a draft model has an engine a draft length, which graphs are captured for.
        """
        lengths = {k for k in draft_lengths if k}
        engines: list[tuple[dict[str, Any] | None, set[int]]] = [(None, {0})] if 0 in draft_lengths else []
        if lengths and self.draft_model is None:
            look_up = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 4}
            engines.append(({**look_up, "num_speculative_tokens": max(lengths)}, lengths))
        elif lengths:
            config = {"method": "draft_model", "model": str(self.draft_model)}
            groups = [lengths] if self.device == "cpu" else [{k} for k in sorted(lengths)]
            engines += [({**config, "num_speculative_tokens": max(group)}, group) for group in groups]
        return engines


def measure_steps(
    vllm: Path,
    model: Path,
    folder: Path,
    *,
    name: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    draft_model: Path | None = None,
    draft_name: str | None = None,
    gpu: str | None = None,
    grid: StepGrid | None = None,
    repeats: int = 5,
    minutes: float = 8.0,
    seed: int = 0,
    progress: TimedProgress = lambda done, total, what: None,
) -> bool:
    """Measure vLLM's steps into ``folder`` for about ``minutes``; True once every cell has its ``repeats``.

    ``vllm``: its virtual environment or its Python. ``model``: a folder with a config.json, or that file; weights are
    random and never read. ``name`` and ``draft_name``: the models' names in scenarios (default: their folders').
    ``dtype`` None: what is
    native to the device. A second call goes on where the first stopped. Raises InvalidInput for a wrong path or a
    folder of another machine or model, NoAnswer if the engine cannot start or dies.
    """
    until = time.monotonic() + 60 * minutes
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: engines' steps are measured in {', '.join(DTYPES)}; choose one")
    config, python = _config_of(model, folder), engine_python(vllm)
    machine = EngineMachine(python, device)
    dtype = dtype or machine.default_dtype
    setup = Setup(python, folder / MODEL, name or config.parent.name, device, dtype, draft_model, draft_name)
    header = known_header(folder, machine.facts, dtype)
    if header is None:
        rates = machine.rates(dtype, min(MOST_CEILINGS_S, CEILINGS_SHARE * 60 * minutes))
        header = new_header(
            machine.facts,
            rates,
            machine.probe_s(dtype),
            gpu=gpu or machine.slug,
            attribution="measured by specsim profile steps",
        )
    with only_writer(folder):
        _adopt(config, folder)
        write_header(folder, header)
        cells = _fitting((grid or (CPU_GRID if device == "cpu" else CUDA_GRID)).shapes(), setup.model)
        records = _read_records(folder)
        visits = [(repeat, cell) for repeat in range(repeats) for cell in cells]
        todo = [(repeat, cell) for repeat, cell in visits if (repeat, setup.drafter(cell), cell) not in records]
        done = len(cells) * repeats - len(todo)
        measured = False
        try:
            for repeat, cell, answer in _visits(setup, cells, todo, folder, until, seed):
                _write_record(folder, repeat, setup.drafter(cell), cell, answer)
                done, measured = done + 1, True
                progress(done, len(cells) * repeats, f"repeat {repeat + 1} of {repeats}")
        finally:
            _finish(header, folder, setup, machine.probe_s(dtype) if measured else None)
        return done == len(cells) * repeats


def _visits(
    setup: Setup, cells: list[StepShape], todo: list[tuple[int, StepShape]], folder: Path, until: float, seed: int
) -> Iterator[tuple[int, StepShape, dict[str, Any]]]:
    """(repeat, cell, what the engine answered): on a CPU all engines together, else one after another."""
    engines = setup.engines(sorted({cell.num_draft_tokens for cell in cells}))
    served = [lengths for _, lengths in engines]

    def start(index: int) -> Driver:
        log = folder / (f"{index}-{LOG}" if index else LOG)
        return Driver(setup.python, _job(setup, cells, engines[index][0]), log, device=setup.device)

    visit = _together if setup.device == "cpu" else _in_turn
    yield from visit(start, served, cells, set(todo), until, seed)


def _together(
    start: Callable[[int], Driver],
    served: list[set[int]],
    cells: list[StepShape],
    pending: set[tuple[int, StepShape]],
    until: float,
    seed: int,
) -> Iterator[tuple[int, StepShape, dict[str, Any]]]:
    """Engines stay up and share the machine while they wait, so that cells with and without drafts meet one state of
    it. ``served``: each engine's draft lengths.
    """
    with ExitStack() as kept:
        running: dict[int, Driver] = {}
        while pending and time.monotonic() < until:
            repeat = min(number for number, _ in pending)
            for cell in coarse_first(cells, np.random.default_rng((seed, repeat))):
                if (repeat, cell) not in pending:
                    continue
                index = next(i for i, lengths in enumerate(served) if cell.num_draft_tokens in lengths)
                if index not in running:
                    running[index] = kept.enter_context(start(index))
                yield repeat, cell, _measure(running[index], cell)
                pending.discard((repeat, cell))
                if time.monotonic() >= until:
                    break


def _in_turn(
    start: Callable[[int], Driver],
    served: list[set[int]],
    cells: list[StepShape],
    pending: set[tuple[int, StepShape]],
    until: float,
    seed: int,
) -> Iterator[tuple[int, StepShape, dict[str, Any]]]:
    """One engine after another within each repeat.

    An engine has its cells' share of the time that is left, and one cell at least; where others leave some of theirs,
    it comes again.
    """
    while pending and time.monotonic() < until:
        repeat = min(number for number, _ in pending)
        order = coarse_first(cells, np.random.default_rng((seed, repeat)))
        turns = [
            [cell for cell in order if (repeat, cell) in pending and cell.num_draft_tokens in lengths]
            for lengths in served
        ]
        for index, turn in enumerate(turns):
            begun = time.monotonic()
            if not turn or begun >= until:
                continue
            end = begun + (until - begun) * len(turn) / sum(len(later) for later in turns[index:])
            with start(index) as driver:
                for cell in turn:
                    yield repeat, cell, _measure(driver, cell)
                    pending.discard((repeat, cell))
                    if time.monotonic() >= end:
                        break


def coarse_first(cells: Sequence[StepShape], generator: np.random.Generator) -> list[StepShape]:
    """Cells in a random order, those first whose every column is the least, middle or largest of all."""
    columns = [sorted(set(values)) for values in zip(*(cell.columns() for cell in cells), strict=True)]
    coarse = [{values[0], values[len(values) // 2], values[-1]} for values in columns]
    shuffled = [cells[i] for i in generator.permutation(len(cells))]
    return sorted(
        shuffled, key=lambda cell: not all(v in kept for v, kept in zip(cell.columns(), coarse, strict=True))
    )


def _measure(driver: Driver, cell: StepShape) -> dict[str, Any]:
    answer = driver.ask({**asdict(cell), "warm_up": WARM_UP_STEPS, "samples": TIMED_STEPS})
    return {name: driver.facts[name] for name in ("vllm", "dtype", "mode")} | answer


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
    return (WARM_UP_STEPS + TIMED_STEPS + 2) * width


def _config_of(model: Path, folder: Path) -> Path:
    """The model's config.json; raises InvalidInput without one, or where ``folder`` holds another model's steps."""
    config = (model / "config.json" if model.is_dir() else model).resolve()
    if not config.is_file():
        raise InvalidInput(f"--model {model}: there is no config.json; give a Hugging Face model folder")
    kept = folder / MODEL / "config.json"
    if kept.exists() and json.loads(kept.read_text()) != json.loads(config.read_text()):
        raise InvalidInput(f"{folder} holds steps of another model; write to another folder with --out")
    return config


def _adopt(config: Path, folder: Path) -> None:
    """Copy the model's config.json beside the table: what was measured stays known."""
    kept = folder / MODEL / "config.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config, kept)


def _fitting(cells: list[StepShape], model: Path) -> list[StepShape]:
    """The cells within the model's positions."""
    longest = json.loads((model / "config.json").read_text()).get("max_position_embeddings")
    width = max(cell.num_draft_tokens for cell in cells) + 1
    return [cell for cell in cells if longest is None or cell.kv_len + _room(width) <= longest]


# -- what was measured ------------------------------------------------------------------------------------------


def _write_record(folder: Path, repeat: int, drafter: str, cell: StepShape, answer: dict[str, Any]) -> None:
    with (folder / SAMPLES).open("a") as file:
        file.write(json.dumps({"repeat": repeat, "drafter": drafter, **asdict(cell), **answer}) + "\n")


def _read_records(folder: Path) -> dict[tuple[int, str, StepShape], dict[str, Any]]:
    """What the engine answered, by repeat, drafter and cell; a line cut short by an interruption is dropped."""
    path = folder / SAMPLES
    records: dict[tuple[int, str, StepShape], dict[str, Any]] = {}
    if not path.exists():
        if (folder / "steps.csv").exists():
            raise InvalidInput(f"{folder} holds a table without its {SAMPLES}; write to another folder with --out")
        return records
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole))
    for line in whole:
        record = json.loads(line)
        cell = StepShape(**{field: record.pop(field) for field in StepShape.__dataclass_fields__})
        records[record.pop("repeat"), record.pop("drafter"), cell] = record
    return records


def _rows(folder: Path, name: str) -> list[Row]:
    """One row a drafter, cell and part: median and spread over all samples of all repeats."""
    samples: dict[tuple[str, StepShape], list[dict[str, Any]]] = {}
    for (_, drafter, cell), record in _read_records(folder).items():
        if "seconds" in record:
            samples.setdefault((drafter, cell), []).append(record)
    rows: list[Row] = []
    for (drafter, cell), records in sorted(samples.items(), key=lambda item: (item[0][1].columns(), item[0][0])):
        first = records[0]
        for part in PARTS:
            seconds = [s for record in records for s in record["seconds"].get(part, ())]
            p10, median, p90 = np.percentile(seconds or [0.0], [10, 50, 90]).tolist()
            if median <= 0:  # not told apart, or no drafter
                continue
            rows.append(Row(
                shape=cell.columns(), operation=part, dtype=first["dtype"],
                kernel=f"vllm {first['vllm']}/{name}/{drafter}", cache="cold", mode=first["mode"], median_s=median,
                p10_s=max(p10, 1e-9), p90_s=p90, samples=len(seconds),
            ))  # fmt: skip
    return rows


def _finish(header: ProfileHeader, folder: Path, setup: Setup, probed_s: float | None) -> None:
    """Write the table from all samples so far, and what is known only now: drift, the engine's version, the error."""
    rows = _rows(folder, setup.name)
    (folder / "steps.csv").unlink(missing_ok=True)
    if rows:
        append_rows(folder, "steps", rows)
    error = withheld_error(rows)
    probe = header.probe
    if probe is not None and probed_s is not None:
        earlier = [] if probe.after_s is None else [probe.after_s]
        probe = probe.model_copy(update={"during_s": [*probe.during_s, *earlier], "after_s": probed_s})
    update = {
        "probe": probe,
        "heldout_error": {} if error is None else {"steps": error},
        "backend": rows[0].kernel.split("/")[0] if rows else None,
    }
    write_header(folder, header.model_copy(update=update))
