"""Arms measured in blocks: every block runs each arm once, so that a ratio compares what ran within minutes.

``runs.jsonl`` gets a line after every run, and a second call goes on where the first stopped. Odd blocks run the arms
backwards, so that a machine that drifts favours none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from specsim.errors import InvalidInput
from specsim.kept_files import append_text
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.specs.record_lines import read_record_lines

FILE = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One run of an arm: ``summary`` as RunResult has it."""

    block: int
    arm: str
    summary: Mapping[str, Any]


class _Line(BaseModel):
    """A run as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: NonNegativeInt
    arm: str
    summary: dict[str, Any]


def measure_blocks(
    arms: Mapping[str, Scenario], serve: Callable[[Scenario], RunResult], folder: Path, blocks: int
) -> Iterator[ArmRun]:
    """Every run that ``folder`` lacks, as it ends. Raises InvalidInput where it holds runs of other scenarios."""
    done = {(run.block, run.arm) for run in read_runs(folder, arms)}
    names = list(arms)
    for block in range(blocks):
        for name in names if block % 2 == 0 else reversed(names):
            if (block, name) in done:
                continue
            run = ArmRun(block, name, serve(arms[name]).summary(arms[name].slo))
            append_text(folder / FILE, json.dumps(asdict(run)) + "\n")
            yield run


def read_runs(folder: Path, arms: Mapping[str, Scenario]) -> list[ArmRun]:
    """The runs in ``folder``; none without its file. Raises InvalidInput for one of another arm or scenario."""
    path = folder / FILE
    runs = [ArmRun(line.block, line.arm, line.summary) for line in read_record_lines(path, _Line)]
    for run in runs:
        if run.arm not in arms or run.summary.get("scenario_sha256") != arms[run.arm].sha256():
            raise InvalidInput(
                f"{path} holds runs of another scenario ({run.arm}); write to another folder with --out"
            )
    return runs


def ratios(runs: Sequence[ArmRun], metric: str, arm: str, base: str) -> list[float]:
    """``metric`` of one arm over another's, block by block, where both ran."""
    values = {(run.block, run.arm): run.summary[metric] for run in runs}
    both = sorted(block for block, name in values if name == arm and (block, base) in values)
    return [values[block, arm] / values[block, base] for block in both if values[block, arm] and values[block, base]]
