"""What steady decoding costs on a real engine at each batch size and draft length: the twin of the predicted map.

A cell serves waves of prompts through the engine's own Python, without a server: all of a wave start together, and
the rounds are timed in which all of them decode, until the first has the workload's output tokens. What rounds accept
is counted of all of them, each prompt's to its own end. Small batches serve
several waves, so that every cell continues enough prompts for its acceptance to mean something; every repeat continues
others, and within a repeat every draft length the same.

Where engines can stay up side by side (a CPU), every round with drafts is followed by one of the engine without a
drafter: a shared machine changes within seconds, and the two meet one state of it. Every repeat starts its engines
anew, for a process keeps its luck (where its memory lies) while it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from specsim.engines.adapter import Checkpoints, Job, OfflineEngine
from specsim.engines.driver import Driver, Step
from specsim.engines.prompts import prompts_of
from specsim.engines.turns import Pace, in_turn, side_by_side
from specsim.errors import NoAnswer
from specsim.results import AcceptanceCounts, GridRow
from specsim.scenario import Scenario
from specsim.workload.request import RequestSpec

LEAST_PROMPTS = 8  # of a cell
WARM_UP_ROUNDS = 1
MOST_STEPS = 1000  # asked for at a time
PARTS = ("verify", "draft", "sample", "host")


class RoundsCell(NamedTuple):
    """One point of a map to measure."""

    repeat: int
    batch: int
    drafter: str
    draft_tokens: int


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """Its rounds: what they took and what they accepted."""

    cell: RoundsCell
    row: GridRow
    acceptance: AcceptanceCounts


class SteadyRounds:
    """Measures cells of ``drafters`` (scenarios by the drafter's name). Leaving the block stops every engine.

    ``folder`` gets the engines' messages; only a failure leaves them there.
    """

    def __init__(
        self,
        engine: OfflineEngine,
        python: Path,
        folder: Path,
        drafters: Mapping[str, tuple[Scenario, Checkpoints]],
        *,
        starting: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._engine, self._python, self._folder, self._drafters = engine, python, folder, drafters
        self._starting = starting
        self._running: dict[str, Driver] = {}
        self._repeat: int | None = None
        self._stack = ExitStack()
        self.facts: dict[str, Any] = {}

    def check(self, cells: Sequence[RoundsCell]) -> None:
        """Raises InvalidInput or NoAnswer, before anything starts, for a cell that the engine cannot run."""
        for name, k in {(cell.drafter, cell.draft_tokens) for cell in cells}:
            self._engine.job(*self._drafters[name], k)

    def measure(self, *cells: RoundsCell) -> list[MeasuredCell]:
        """Run cells of one repeat and batch size. Raises NoAnswer where the engine stops or no round had all of it."""
        if cells[0].repeat != self._repeat:
            self._stop()
            self._repeat = cells[0].repeat
        drafting = [cell for cell in cells if cell.draft_tokens]
        if drafting and self._job(drafting[0]).shared:
            return self._paced(cells, drafting)
        waves = {cell: [self._wave(cell, prompts) for prompts in self._waves(cell)] for cell in cells}
        return [_measured(cell, list(chain.from_iterable(rounds))) for cell, rounds in waves.items()]

    def _paced(self, cells: Sequence[RoundsCell], drafting: Sequence[RoundsCell]) -> list[MeasuredCell]:
        """Cells that draft in turn wave by wave, and each round of theirs in turn with a plain one."""
        waves = {cell: self._waves(cell) for cell in drafting}
        rounds: dict[RoundsCell, list[Step]] = {cell: [] for cell in cells}
        plain_s: dict[RoundsCell, list[float]] = {cell: [] for cell in cells}
        without = {cell: cell._replace(draft_tokens=0) for cell in drafting}
        self._start([*drafting, *without.values()])
        paces = {
            self._key(plain): Pace(self._driver(plain), self._beginnings(plain), WARM_UP_ROUNDS)
            for plain in without.values()
        }
        for turn in range(max(map(len, waves.values()))):
            for cell in drafting if turn % 2 == 0 else reversed(drafting):
                if turn >= len(waves[cell]):
                    continue
                driver, plain = self._driver(cell), without[cell]
                driver.begin(self._beginning(cell, waves[cell][turn]))
                rounds[cell] += map(_untimed, driver.steps(WARM_UP_ROUNDS))
                for own, other in in_turn(driver, paces[self._key(plain)]):
                    rounds[cell].append(own)
                    if other is None:
                        continue
                    plain_s[cell].append(other["seconds"]["total"])
                    if plain in rounds:
                        rounds[plain].append(other)
                        plain_s[plain].append(other["seconds"]["total"])
        return [_measured(cell, rounds[cell], plain_s[cell]) for cell in cells]

    def _wave(self, cell: RoundsCell, prompts: list[list[int]]) -> list[Step]:
        """The rounds of one wave."""
        self._start([cell])
        driver = self._driver(cell)
        driver.begin(self._beginning(cell, prompts))
        found: list[Step] = []
        while more := driver.steps(MOST_STEPS):
            found += more
        return [*map(_untimed, found[:WARM_UP_ROUNDS]), *found[WARM_UP_ROUNDS:]]

    def _beginnings(self, cell: RoundsCell) -> Iterator[Mapping[str, Any]]:
        return cycle([self._beginning(cell, prompts) for prompts in self._waves(cell)])

    def _beginning(self, cell: RoundsCell, prompts: list[list[int]]) -> Mapping[str, Any]:
        output_tokens = _lengths(self._drafters[cell.drafter][0])[1]
        return {"prompts": prompts, "num_draft_tokens": cell.draft_tokens, "output_tokens": output_tokens}

    def _waves(self, cell: RoundsCell) -> list[list[list[int]]]:
        return _waves(self._drafters[cell.drafter][0], cell)

    def _job(self, cell: RoundsCell) -> Job:
        return self._engine.job(*self._drafters[cell.drafter], cell.draft_tokens)

    def _key(self, cell: RoundsCell) -> str:
        return str(self._job(cell).start)

    def _driver(self, cell: RoundsCell) -> Driver:
        return self._running[self._key(cell)]

    def _start(self, cells: Sequence[RoundsCell]) -> None:
        """Have the cells' engines up; others give way where they share no device."""
        missing = {key: cell for cell in cells if (key := self._key(cell)) not in self._running}
        if not missing:
            return
        if not self._job(cells[0]).shared:
            self._stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        starts = []
        for number, cell in enumerate(missing.values(), len(self._running)):
            log = self._folder / f"{self._engine.kind}-{number}.log"
            self._starting(f"starting {self._engine.kind} for {cell.draft_tokens} drafts, log in {log}")
            starts.append(partial(self._started, cell, log))
        drivers = self._stack.enter_context(side_by_side(starts))
        self._running |= dict(zip(missing, drivers, strict=True))
        self.facts = drivers[0].facts

    def _started(self, cell: RoundsCell, log: Path) -> Driver:
        device = "cpu" if self._drafters[cell.drafter][0].gpu.kind == "cpu" else "cuda"
        start, engine = self._job(cell).start, self._engine
        return Driver(self._python, start, log, device=device, script=engine.script, kind=engine.kind)

    def _stop(self) -> None:
        self._stack.close()
        self._running.clear()

    def __enter__(self) -> SteadyRounds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def cells_in_order(
    batches: Sequence[int], lengths: Mapping[str, Sequence[int]], repeats: int, seed: int, *, by_engine: bool = False
) -> Iterator[RoundsCell]:
    """Every cell: batch sizes shuffled within a repeat, and all draft lengths of a batch size one after another.

    Which of them is best is then a comparison within one state of the machine. ``lengths`` by drafter. ``by_engine``:
    all batch sizes of a draft length one after another instead, where each has an engine that takes long to start.
    """
    choices = [(name, k) for name, ks in lengths.items() for k in ks]
    for repeat in range(repeats):
        draws = np.random.default_rng((seed, repeat))
        found = []
        for batch in draws.permutation(batches).tolist():
            found += [RoundsCell(repeat, batch, *choices[place]) for place in draws.permutation(len(choices))]
        yield from sorted(found, key=lambda cell: (cell.drafter, cell.draft_tokens)) if by_engine else found


def _lengths(scenario: Scenario) -> tuple[int, int]:
    """Mean prompt and output tokens of the workload, whole."""
    prompt, output = scenario.workload.mean_lengths()
    return round(prompt), round(output)


def prompts_of_cell(repeats: int, batch: int) -> int:
    """How many prompts a cell continues in so many repeats: whole waves, of at least LEAST_PROMPTS a repeat."""
    return repeats * batch * -(-LEAST_PROMPTS // batch)


def _waves(scenario: Scenario, cell: RoundsCell) -> list[list[list[int]]]:
    """The prompts of each wave: those that follow on the prompts of the repeat before."""
    count = prompts_of_cell(1, cell.batch) // cell.batch
    prompt_tokens, output_tokens = _lengths(scenario)
    first = cell.repeat * count * cell.batch
    requests = [RequestSpec(first + i, None, prompt_tokens, output_tokens) for i in range(count * cell.batch)]
    prompts = prompts_of(scenario, requests)
    texts = [list(prompts(request)) for request in requests]
    return [texts[wave * cell.batch : (wave + 1) * cell.batch] for wave in range(count)]


def _untimed(step: Step) -> Step:
    """What the step accepted, without its seconds."""
    return {**step, "seconds": {}}


def _measured(cell: RoundsCell, rounds: Sequence[Step], plain_s: Sequence[float] = ()) -> MeasuredCell:
    """``rounds`` without seconds tell of acceptance alone. ``plain_s``: seconds of the plain rounds that took turns
    with these. Raises NoAnswer where no round was timed.
    """
    timed = [one for one in rounds if one["seconds"]]
    if not timed:
        raise NoAnswer(
            f"no round of {cell.batch} sequences with {cell.draft_tokens} drafts ran; give longer outputs, more "
            "num_kv_blocks or a larger max_num_batched_tokens"
        )
    counts, committed = AcceptanceCounts(), list[int]()
    for one in rounds:
        for drafted, accepted in zip(one["drafted"], one["accepted"], strict=True):
            counts.add(drafted, accepted)
            committed.append(accepted + 1)
    totals = [one["seconds"]["total"] for one in timed]
    medians = {part: float(np.median([one["seconds"].get(part, np.nan) for one in timed])) for part in PARTS}
    p10, p90 = np.percentile(totals, [10, 90]).tolist()
    row = GridRow(
        repeat=cell.repeat,
        batch=cell.batch,
        draft_tokens=cell.draft_tokens,
        context_tokens=float(np.mean([one["context_tokens"] for one in timed])),
        rounds=len(timed),
        elapsed_s=sum(totals),
        output_tokens=round(len(timed) * cell.batch * float(np.mean(committed))),
        round_s=float(np.median(totals)),
        round_p10_s=p10,
        round_p90_s=p90,
        target_s=medians["verify"],
        draft_s=medians["draft"],
        sample_s=medians["sample"],
        host_s=medians["host"],
        plain_s=float(np.mean(plain_s)) if plain_s else None,
    )
    return MeasuredCell(cell, row, counts)
