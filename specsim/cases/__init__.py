"""Validation cases: a scenario, what was predicted before the run, and what the run measured.

A case is a folder of one of two kinds:

a map      ``scenario.yaml`` (the target), ``drafters.yaml``, ``predicted.json``, ``measured.csv``: round time over
           batch × k, by drafter
served     ``scenario.yaml`` and ``loads.yaml``; ``predicted-saturation.json``, ``saturation.csv``, ``predicted.json``,
           ``measured.csv``: whole workloads under several loads and alternatives

with ``machine.yaml`` (where and when it was measured) and ``conditions.csv`` (the machine's state beside the run).
Every prediction is committed before the run that tests it.
"""

from specsim.cases.case import Case, case_names, cases_folder, load_case, names_case, own_drafter, write_machine
from specsim.cases.loads import Loads
from specsim.cases.map import committed_score, predicted_cells, score
from specsim.cases.predict import write_prediction
from specsim.cases.served import (
    ServedRun,
    ServedStage,
    load_runs,
    loads_of,
    rows_of,
    rows_to_extend,
    runs_to_measure,
    saturation_per_s,
    saturation_runs,
    still_to_run,
)

__all__ = [
    "Case",
    "Loads",
    "ServedRun",
    "ServedStage",
    "case_names",
    "cases_folder",
    "committed_score",
    "load_case",
    "load_runs",
    "loads_of",
    "names_case",
    "own_drafter",
    "predicted_cells",
    "rows_of",
    "rows_to_extend",
    "runs_to_measure",
    "saturation_per_s",
    "saturation_runs",
    "score",
    "still_to_run",
    "write_machine",
    "write_prediction",
]
