"""Calibration on half of a public set of runs lowers the error on the other half, and never sees a test row."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from specsim.planning.calibrate import calibrate
from specsim.studies.study import load_study, study_path


@pytest.fixture(scope="module")
def half() -> Any:
    folder = str(Path(__file__).parents[2] / "validation" / "gpu")
    sys.path.insert(0, folder)
    try:
        return import_module("calibrate_half")
    finally:
        sys.path.remove(folder)


def test_only_calibration_rows_are_runs(half: Any) -> None:
    for name in half.STUDIES:
        _, rows = load_study(study_path(name))
        tested = {tuple(row.figures.values()) for row in rows if row.split == "test"}
        runs = half.calibration_runs(name)
        assert len(runs) == sum(row.split == "calibration" for row in rows)
        assert not tested & {tuple(run.figures.values()) for run in runs}


@pytest.mark.full
def test_the_other_half_comes_out_better(half: Any) -> None:
    found = calibrate(half.calibration_runs("gh200-apertus-8b-open-ended"))
    assert found.better, (found.mean_error(held=True, after=False), found.mean_error(held=True, after=True))
