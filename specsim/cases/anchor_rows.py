"""In what conditions a measurement was made: ``conditions.csv``, anchors timed beside the runs.

One row a repeat and run (of a map: drafter/batch/k): how often was looked, and the seconds of each anchor. Against the
anchors in a profile's header they say how the machine's state differed from the one that the profile knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specsim.assembly import assemble
from specsim.cases.case import Case
from specsim.errors import InvalidInput
from specsim.kept_files import append_csv, read_csv
from specsim.profiles.store import Profile
from specsim.specs.conditions import Conditions

ANCHORS = tuple(Conditions.model_fields)
_COLUMNS = ("repeat", "run", "looks", *(f"{name}_s" for name in ANCHORS))


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """Typical seconds of each anchor over ``looks`` looks in or just after one run."""

    repeat: int
    run: str
    looks: int
    seconds: Mapping[str, float]


def append_anchors(path: Path, row: AnchorRow) -> None:
    """Append a row to a CSV: a checkpoint."""
    seconds = (f"{row.seconds[name]:.4g}" for name in ANCHORS)
    append_csv(path, _COLUMNS, [[row.repeat, row.run, row.looks, *seconds]])


def read_anchors(path: Path) -> list[AnchorRow]:
    """The rows of a CSV; none without the file. Raises InvalidInput with file and line for one that cannot be read."""
    rows: list[AnchorRow] = []
    if not path.exists():
        return rows
    for line, record in read_csv(path):
        try:
            seconds = {name: float(record[f"{name}_s"]) for name in ANCHORS}
            rows.append(AnchorRow(int(record["repeat"]), record["run"], int(record["looks"]), seconds))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{path}:{line}: {error} is missing or not a number; remove the row, or the file and do without"
            ) from None
    return rows


def profile_anchors(profile: Profile | None) -> dict[str, float]:
    """The anchors in a profile's header; empty where it holds none."""
    probe = None if profile is None else profile.header.probe
    return {} if probe is None else dict(probe.anchors)


def conditions_of(rows: Iterable[AnchorRow], profiled: Mapping[str, float]) -> Conditions | None:
    """Mean of the rows' anchors over the profile's; None where either knows nothing.

    Every row counts alike: a map's cells and a served load's repeats take about as long as one another.
    """
    seconds = [row.seconds for row in rows]
    if not seconds or not profiled:
        return None
    return Conditions(**{name: float(np.mean([one[name] for one in seconds])) / profiled[name] for name in ANCHORS})


def run_conditions(case: Case, drafter: str = "") -> Conditions | None:
    """The conditions of a case's measurement, or of one drafter's, against its profile; None where nobody looked."""
    rows = read_anchors(case.conditions)
    mine = [row for row in rows if row.run.startswith(f"{drafter}/")] if drafter else rows
    return conditions_of(mine, profile_anchors(assemble(case.scenario).profile))
