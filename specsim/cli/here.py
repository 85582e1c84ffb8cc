"""Repeating a validation case on the user's own machine: profile, predict, measure, in that order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from specsim.assembly import assemble
from specsim.cases import Case, load_case
from specsim.cli.case_runs import measure_maps, measure_served, predict_into
from specsim.cli.options import messages, require_torch
from specsim.cli.profile import run as profile_run
from specsim.specs.yaml_file import read_mapping

CELL_SECONDS = 2.0  # of a map, shared by its drafters


def repeat_here(case: Case, folder: Path) -> Path:
    """Make a copy of ``case`` in ``folder`` whose hardware is this machine, and run it; resumes where it stopped."""
    require_torch()
    from specsim.profiling.device.machine import default_dtype

    dtype, native = assemble(case.scenario).precision.dtype, default_dtype("cpu")
    if dtype == "bfloat16" and native == "float32":
        messages().print("this CPU has no instructions for bfloat16: the case is repeated in float32")
        dtype = native
    messages().print("1/3 profile of this machine")
    profile_run(device="cpu", dtype=dtype, out=folder / "profile", gpu=None, quick=True)
    copy = _copy(case, folder)
    _repeat_map(copy) if copy.loads is None else _repeat_served(copy)
    return folder


def _repeat_map(copy: Case) -> None:
    messages().print("2/3 prediction")
    if not copy.measured.exists():
        predict_into(copy)
    messages().print("3/3 measurement")
    seconds = CELL_SECONDS / len(copy.drafters)
    measure_maps(copy.drafters, copy.measured, device="cpu", repeats=4, cell_seconds=seconds)


def _repeat_served(copy: Case) -> None:
    messages().print("2/3 saturation and prediction")
    if not copy.predicted.exists():
        if not copy.saturation.exists():
            predict_into(copy)
        measure_served(copy, "saturation", device="cpu")
        predict_into(copy)
    messages().print("3/3 measurement")
    measure_served(copy, "loads", device="cpu")


def _copy(case: Case, folder: Path) -> Case:
    """The case in ``folder``, on the hardware of the profile there; what it names by relative paths stays in place."""
    scenario = _from(case.folder, read_mapping(case.folder / "scenario.yaml"))
    scenario |= {"gpu": "profile", "cost": {"profile": "profile"}}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario, sort_keys=False))
    if case.loads is not None:
        shutil.copyfile(case.folder / "loads.yaml", folder / "loads.yaml")
    elif (case.folder / "drafters.yaml").exists():
        drafters = _from(case.folder, read_mapping(case.folder / "drafters.yaml"))
        (folder / "drafters.yaml").write_text(yaml.safe_dump(drafters, sort_keys=False))
    return load_case(f"{folder}/")


def _from(folder: Path, value: Any) -> Any:
    """A scenario's fields with relative paths to what exists in ``folder`` made absolute."""
    if isinstance(value, dict):
        return {key: _from(folder, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from(folder, inner) for inner in value]
    return str((folder / value).resolve()) if isinstance(value, str) and value and (folder / value).exists() else value
