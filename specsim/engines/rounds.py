"""What steady decoding costs on a real engine at each batch size and draft length: the twin of the predicted map.

A cell serves waves of prompts through the engine's own Python, without a server: all of a wave start together, and
the rounds count in which all of them decode, until the first has the workload's output tokens. Small batches serve
several waves, so that every cell continues enough prompts for its acceptance to mean something; every repeat continues
others, and within a repeat every draft length the same. Cells that are compared take turns wave by wave: a shared
machine changes by 5 to 10 % within seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from specsim.engines.adapter import Checkpoints, OfflineEngine
from specsim.engines.driver import Driver
from specsim.engines.prompts import prompts_of
from specsim.errors import NoAnswer
from specsim.results import AcceptanceCounts, GridRow
from specsim.scenario import Scenario
from specsim.workload.request import RequestSpec

LEAST_PROMPTS = 8  # of a cell
WARM_UP_ROUNDS = 1
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
        self._stack = ExitStack()
        self.facts: dict[str, Any] = {}

    def check(self, cells: Sequence[RoundsCell]) -> None:
        """Raises InvalidInput or NoAnswer, before anything starts, for a cell that the engine cannot run."""
        for name, k in {(cell.drafter, cell.draft_tokens) for cell in cells}:
            self._engine.job(*self._drafters[name], k)

    def measure(self, *cells: RoundsCell) -> list[MeasuredCell]:
        """Run cells, which take turns. Raises NoAnswer where the engine stops or no round had the whole batch."""
        waves = {cell: _waves(self._drafters[cell.drafter][0], cell) for cell in cells}
        rounds: dict[RoundsCell, list[Mapping[str, Any]]] = {cell: [] for cell in cells}
        for turn in range(max(map(len, waves.values()))):
            for cell in cells if turn % 2 == 0 else reversed(cells):
                if turn < len(waves[cell]):
                    rounds[cell] += self._wave(cell, waves[cell][turn])
        return [_measured(cell, found) for cell, found in rounds.items()]

    def _wave(self, cell: RoundsCell, prompts: list[list[int]]) -> list[Mapping[str, Any]]:
        """The rounds of one wave."""
        scenario, checkpoints = self._drafters[cell.drafter]
        driver = self._started(scenario, checkpoints, cell.draft_tokens)
        answer = driver.ask({
            "waves": [prompts],
            "draft_tokens": cell.draft_tokens,
            "output_tokens": _lengths(scenario)[1],
            "warm_up": WARM_UP_ROUNDS,
        })  # fmt: skip
        if not answer["rounds"]:
            raise NoAnswer(
                f"no round of {cell.batch} sequences with {cell.draft_tokens} drafts ran; give longer outputs, more "
                "num_kv_blocks or a larger max_num_batched_tokens"
            )
        found: list[Mapping[str, Any]] = answer["rounds"]
        return found

    def _started(self, scenario: Scenario, checkpoints: Checkpoints, draft_tokens: int) -> Driver:
        """The running engine of these drafts, or a new one; others give way where they share no device."""
        job = self._engine.job(scenario, checkpoints, draft_tokens)
        key = str(job.start)
        if key not in self._running:
            if not job.shared:
                self._stack.close()
                self._running.clear()
            self._folder.mkdir(parents=True, exist_ok=True)
            log = self._folder / f"{self._engine.kind}-{len(self._running)}.log"
            self._starting(f"starting {self._engine.kind} for {draft_tokens} drafts, log in {log}")
            device = "cpu" if scenario.gpu.kind == "cpu" else "cuda"
            driver = Driver(
                self._python, job.start, log, device=device, script=self._engine.script, kind=self._engine.kind
            )
            self._running[key] = self._stack.enter_context(driver)
            self.facts = driver.facts
        return self._running[key]

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


def _waves(scenario: Scenario, cell: RoundsCell) -> list[list[list[int]]]:
    """The prompts of each wave: those that follow on the prompts of the repeat before."""
    count = -(-max(cell.batch, LEAST_PROMPTS) // cell.batch)
    prompt_tokens, output_tokens = _lengths(scenario)
    first = cell.repeat * count * cell.batch
    requests = [RequestSpec(first + i, None, prompt_tokens, output_tokens) for i in range(count * cell.batch)]
    prompts = prompts_of(scenario, requests)
    texts = [list(prompts(request)) for request in requests]
    return [texts[wave * cell.batch : (wave + 1) * cell.batch] for wave in range(count)]


def _measured(cell: RoundsCell, rounds: Sequence[Mapping[str, Any]]) -> MeasuredCell:
    counts, output_tokens = AcceptanceCounts(), 0
    for one in rounds:
        for drafted, accepted in zip(one["drafted"], one["accepted"], strict=True):
            counts.add(drafted, accepted)
            output_tokens += accepted + 1
    totals = [one["seconds"]["total"] for one in rounds]
    medians = {part: float(np.median([one["seconds"].get(part, np.nan) for one in rounds])) for part in PARTS}
    p10, p90 = np.percentile(totals, [10, 90]).tolist()
    row = GridRow(
        repeat=cell.repeat, batch=cell.batch, draft_tokens=cell.draft_tokens,
        context_tokens=float(np.mean([one["context_tokens"] for one in rounds])), rounds=len(rounds),
        elapsed_s=sum(totals), output_tokens=output_tokens, round_s=float(np.median(totals)), round_p10_s=p10,
        round_p90_s=p90, target_s=medians["verify"], draft_s=medians["draft"], sample_s=medians["sample"],
        host_s=medians["host"],
    )  # fmt: skip
    return MeasuredCell(cell, row, counts)
