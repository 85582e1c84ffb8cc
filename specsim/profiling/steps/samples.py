"""What visits of an engine's steps answered: kept as it came, one JSON object a visit, and the table made of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from specsim.errors import InvalidInput
from specsim.profiles.rows import append_rows
from specsim.profiles.schema import ProfileHeader, Row
from specsim.profiles.steps import StepShape
from specsim.profiles.store import write_header
from specsim.specs.record_lines import read_record_lines
from specsim.speculation.engine_steps import SAMPLES_A_VISIT, withheld_error

SAMPLES = "samples.jsonl"
PARTS = ("total", "verify", "sample", "draft", "host")
WITHOUT = "none"  # the drafter's name where there is none
Kind = tuple[str, StepShape]  # drafter, shape
Visit = tuple[int, Kind]  # repeat, what of


class _Sample(BaseModel):
    """A line of the file: the visit, the engine, and seconds by part or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat: NonNegativeInt
    drafter: str
    sequences: PositiveInt
    query_len: PositiveInt
    kv_len: PositiveInt
    num_draft_tokens: NonNegativeInt
    prefill_tokens: NonNegativeInt
    vllm: str
    dtype: str
    mode: str
    seconds: dict[str, list[NonNegativeFloat]] | None = None
    pace_s: list[PositiveFloat] | None = None
    skipped: str | None = None

    @model_validator(mode="after")
    def _check(self) -> _Sample:
        if (self.seconds is None) == (self.skipped is None):
            raise ValueError("a visit has either seconds or why it was skipped")
        if self.seconds is not None and not self.seconds.get("total"):
            raise ValueError("seconds hold no step's total")
        if self.pace_s == []:
            raise ValueError("pace_s holds no step")
        return self

    def visit(self) -> Visit:
        cell = StepShape(*(getattr(self, field) for field in StepShape.__dataclass_fields__))
        return self.repeat, (self.drafter, cell)

    def answer(self) -> dict[str, Any]:
        """As it was given to ``write_record``."""
        return self.model_dump(exclude={"repeat", "drafter", *StepShape.__dataclass_fields__}, exclude_none=True)


def write_record(folder: Path, repeat: int, kind: Kind, answer: dict[str, Any]) -> None:
    """Keep what an engine answered."""
    drafter, cell = kind
    with (folder / SAMPLES).open("a") as file:
        file.write(json.dumps({"repeat": repeat, "drafter": drafter, **asdict(cell), **answer}) + "\n")


def read_records(folder: Path) -> dict[Visit, dict[str, Any]]:
    """What engines answered so far; a line cut short by an interruption is dropped.

    Raises InvalidInput for a table without its samples, and for lines that are none.
    """
    path = folder / SAMPLES
    if not path.exists() and (folder / "steps.csv").exists():
        raise InvalidInput(f"{folder} holds a table without its {SAMPLES}; write to another folder with --out")
    return {one.visit(): one.answer() for one in read_record_lines(path, _Sample)}


def write_table(header: ProfileHeader, folder: Path, name: str, probed_s: float | None, pace: StepShape) -> None:
    """Write the table of the model ``name`` from all samples so far, and what is known only now: drift, the engine's
    version, the error. ``pace``: the plain step that took turns with the others, where one did.
    """
    samples = _in_one_state(_samples(folder), pace)
    rows = _rows(samples, name)
    (folder / "steps.csv").unlink(missing_ok=True)
    if rows:
        append_rows(folder, "steps", rows)
    error = withheld_error(rows)
    probe = header.probe
    if probe is not None and probed_s is not None:
        earlier = [] if probe.after_s is None else [probe.after_s]
        probe = probe.model_copy(update={"during_s": [*probe.during_s, *earlier], "after_s": probed_s})
    if probe is not None and rows:
        probe = probe.model_copy(update={"interrupted": [_interrupted(samples)]})
    update = {
        "probe": probe,
        "heldout_error": {} if error is None else {"steps": error},
        "backend": rows[0].kernel.split("/")[0] if rows else None,
    }
    write_header(folder, header.model_copy(update=update))


def _samples(folder: Path) -> dict[Kind, list[dict[str, Any]]]:
    """The visits of each kind that the engine could run."""
    found: dict[Kind, list[dict[str, Any]]] = {}
    for (_, kind), record in read_records(folder).items():
        if "seconds" in record:
            found.setdefault(kind, []).append(record)
    return found


def _in_one_state(samples: dict[Kind, list[dict[str, Any]]], pace: StepShape) -> dict[Kind, list[dict[str, Any]]]:
    """Visits as they would have been had the machine been all the time as it was in the mean of the run: the mean of
    their steps over that of the plain steps that took turns with them. As they are, where none did.

    What counts is the ratio of means, known to a few percent; a visit's single steps tell no more of it, so that it
    weighs as one of SAMPLES_A_VISIT equal steps. The pace itself is the best known of all.
    """
    paced = [one for records in samples.values() for one in records if "pace_s" in one]
    if not paced:
        return samples
    mean_s = float(np.mean([np.mean(one["pace_s"]) for one in paced]))

    def steadied(record: dict[str, Any]) -> dict[str, Any]:
        if "pace_s" not in record:
            return record
        factor = mean_s / float(np.mean(record["pace_s"]))
        means = {part: factor * float(np.mean(steps)) for part, steps in record["seconds"].items()}
        return record | {"seconds": {part: [mean] * SAMPLES_A_VISIT for part, mean in means.items()}}

    steps = paced[0] | {"seconds": {"total": paced[0]["pace_s"]}}
    own = {kind: [steadied(record) for record in records] for kind, records in samples.items()}
    return own | {(WITHOUT, pace): [*own.get((WITHOUT, pace), ()), steadied(steps)]}


def _rows(samples: dict[Kind, list[dict[str, Any]]], name: str) -> list[Row]:
    """One row a kind and part: median and spread over all samples of all repeats."""
    rows: list[Row] = []
    for (drafter, cell), records in sorted(samples.items(), key=lambda item: (item[0][1].columns(), item[0][0])):
        first = records[0]
        for part in PARTS:
            seconds = _seconds(records, part)
            p10, median, p90 = np.percentile(seconds or [0.0], [10, 50, 90]).tolist()
            if median <= 0:  # not told apart, or no drafter
                continue
            rows.append(Row(
                shape=cell.columns(), operation=part, dtype=first["dtype"],
                kernel=f"vllm {first['vllm']}/{name}/{drafter}", cache="cold", mode=first["mode"], median_s=median,
                p10_s=max(p10, 1e-9), p90_s=p90, samples=len(seconds),
            ))  # fmt: skip
    return rows


def _seconds(records: list[dict[str, Any]], part: str) -> list[float]:
    return [seconds for record in records for seconds in record["seconds"].get(part, ())]


def _interrupted(samples: dict[Kind, list[dict[str, Any]]]) -> float:
    """By how much mean steps exceed their kind's median, as a share: the mean of all kinds."""
    steps = [_seconds(records, "total") for records in samples.values()]
    return max(0.0, float(np.mean([np.mean(one) / np.median(one) for one in steps])) - 1.0)
