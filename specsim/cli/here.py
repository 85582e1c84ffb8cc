"""Repeating a validation case on the user's own machine: profile, predict, measure, in that order."""

from __future__ import annotations

from pathlib import Path

import yaml

from specsim.cases import Case, load_case, write_prediction
from specsim.cli.measure import measure_map
from specsim.cli.options import messages
from specsim.cli.profile import run as profile_run


def repeat_here(case: Case, folder: Path) -> Path:
    """Make a copy of ``case`` in ``folder`` whose hardware is this machine, and run it; resumes where it stopped."""
    profile = folder / "profile"
    messages().print("1/3 profile of this machine")
    profile_run(device="cpu", dtype=case.scenario.precision().dtype, out=profile, gpu=None, quick=True)
    scenario = yaml.safe_load((case.folder / "scenario.yaml").read_text())
    scenario |= {"gpu": "profile", "cost": {"profile": "profile"}}
    for key in ("model", "draft_model"):
        owner = scenario if key == "model" else scenario["speculation"]
        value = owner.get(key)
        if isinstance(value, str) and (case.folder / value).exists():
            owner[key] = str((case.folder / value).resolve())
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario, sort_keys=False))
    copy = load_case(f"{folder}/")
    messages().print("2/3 prediction")
    if not copy.measured.exists():
        write_prediction(copy)
    messages().print("3/3 measurement")
    measure_map(copy.scenario, copy.measured, device="cpu", repeats=4, cell_seconds=2.0)
    return folder
