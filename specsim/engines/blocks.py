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

from specsim.errors import InvalidInput
from specsim.json_file import read_json_lines
from specsim.kept_files import append_text, drop_torn_line
from specsim.results import RunResult
from specsim.scenario import Scenario

FILE = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One run of an arm: ``summary`` as RunResult has it."""

    block: int
    arm: str
    summary: Mapping[str, Any]


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
    drop_torn_line(path)
    if not path.exists():
        return []
    runs = [ArmRun(row["block"], row["arm"], row["summary"]) for row in read_json_lines(path, "runs of an engine")]
    for run in runs:
        if run.arm not in arms or run.summary["scenario_sha256"] != arms[run.arm].sha256():
            raise InvalidInput(
                f"{path} holds runs of another scenario ({run.arm}); write to another folder with --out"
            )
    return runs


def ratios(runs: Sequence[ArmRun], metric: str, arm: str, base: str) -> list[float]:
    """``metric`` of one arm over another's, block by block, where both ran."""
    values = {(run.block, run.arm): run.summary[metric] for run in runs}
    both = sorted(block for block, name in values if name == arm and (block, base) in values)
    return [values[block, arm] / values[block, base] for block in both if values[block, arm] and values[block, base]]
