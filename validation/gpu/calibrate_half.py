"""Calibrate on half of a public set of runs and test on the other half: calibration rows alone, never a test row.

``python validation/gpu/calibrate_half.py [STUDY ...]``
"""

from __future__ import annotations

import sys

from rich.console import Console

from specsim.planning.calibrate import Calibration, calibrate
from specsim.planning.constants_fit import MeasuredRun
from specsim.report.calibrated import constants_table, figures_table, runs_table, verdict
from specsim.studies.predict import accepting, scenario_of_row
from specsim.studies.study import load_study, study_path

STUDIES = ("gh200-apertus-8b-open-ended", "a100-llama-3.1-8b-eagle3")
TOLD = ("weights", "kv_cache", "drafter", "k", "concurrency")


def calibration_runs(name: str) -> list[MeasuredRun]:
    """Rows of split calibration, each under its own settings, with acceptance as measured in it."""
    study, rows = load_study(study_path(name))
    return [
        MeasuredRun(
            ", ".join(f"{key} {row.condition[key]}" for key in TOLD if key in row.condition),
            accepting(scenario_of_row(study, row), row.acceptance_length),
            row.figures,
        )
        for row in rows
        if row.split == "calibration"
    ]


def show(name: str, found: Calibration, screen: Console) -> None:
    """Tables of one study."""
    screen.print(name)
    for table in (runs_table(found), figures_table(found), constants_table(found)):
        screen.print(table)
    screen.print(verdict(found), soft_wrap=True)


def main() -> None:
    """Calibrate on each study asked for."""
    for name in sys.argv[1:] or STUDIES:
        show(name, calibrate(calibration_runs(name)), Console(width=110, highlight=False))


if __name__ == "__main__":
    main()
