"""Predictions name their profile by content, and a case is held against today's code only where that is fair."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from specsim.cases import Case, case_names, load_case
from specsim.cases.anchor_rows import run_conditions
from specsim.cases.pin import pin, profile_sha256, read_prediction, retired
from specsim.profiles.store import HEADER, load_profile, profile_names
from specsim.scenario import Scenario
from specsim.specs.conditions import Conditions

PROFILE = "cpu-amd-epyc-family-25-model-17-2-threads"
SEEN = Conditions(memory=1, compute=1, attention=1, elementwise=1, host=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(load_profile(PROFILE).folder, tmp_path / "profile"))


def test_the_hash_follows_every_measured_figure_and_nothing_else(folder: Path) -> None:
    before = profile_sha256(folder)
    header = yaml.safe_load((folder / HEADER).read_text())
    words = header | {"notes": ["another word"], "heldout_error": {}, "backend": None}
    words["probe"] = header["probe"] | {"a_new_field": []}
    (folder / HEADER).write_text(yaml.safe_dump(words, sort_keys=True))
    assert profile_sha256(folder) == before
    for section, figure in (("ceilings", "copy_bytes_per_s"), ("probe", "before_s")):
        changed = header | {section: header[section] | {figure: 1.01 * header[section][figure]}}
        (folder / HEADER).write_text(yaml.safe_dump(changed))
        assert profile_sha256(folder) != before
    (folder / HEADER).write_text(yaml.safe_dump(header))
    for table in sorted(folder.glob("*.csv")):
        text = table.read_text()
        table.write_text(text.rstrip("\n").rpartition("\n")[0] + "\n")  # a row less
        assert profile_sha256(folder) != before
        table.write_text(text)
    assert profile_sha256(folder) == before


def asking(gpu: str) -> Scenario:
    scenario = load_case("cpu-imposed-acceptance").scenario
    return Scenario.model_validate(scenario.model_dump() | {"gpu": gpu})


def test_a_case_is_held_against_today_s_code_by_its_own_profile_in_a_known_state() -> None:
    measured, roofline = asking(PROFILE), asking("cpu-generic")
    own = {"profile": pin(measured)}
    other = {"profile": {"name": "elsewhere", "sha256": "f" * 64}}
    assert retired(own, measured, SEEN) is None
    assert retired(own, measured, None) == "nobody timed anchors beside the run: the machine's state is unknown"
    assert (
        retired(other, measured, SEEN) == f"predicted with elsewhere {'f' * 12}, and priced with another profile now"
    )
    assert retired({}, measured, SEEN) == "predicted by a roofline, and priced with another profile now"
    assert retired(own, roofline, None) == f"predicted with {PROFILE} {pin(measured)['sha256'][:12]}, " + (  # type: ignore[index]
        "and priced by a roofline now"
    )
    assert retired({"profile": None}, roofline, None) is None


def predictions(case: Case) -> list[tuple[dict[str, object], str]]:
    """What a shipped case was predicted from, and the drafter (none of served loads)."""
    if case.loads is None:
        found = read_prediction(case.predicted)
        return [(found[name], name) for name in case.drafters]
    paths = (case.predicted, case.predicted_saturation)  # loads are predicted once the saturation is measured
    return [(read_prediction(path), "") for path in paths if path.exists()]


def test_every_shipped_prediction_names_its_profile_and_some_case_is_held_against_today_s_code() -> None:
    """A profile that is measured anew retires what the one before priced; then new runs are due."""
    live = set()
    for case in map(load_case, case_names()):
        for prediction, drafter in predictions(case):
            named = prediction["profile"]
            assert isinstance(named, dict)
            own = (Path(case.scenario.cost.profile or "") / HEADER).is_file()  # a profile among the cases
            assert own or named["name"] in profile_names()
            assert len(named["sha256"]) == 64
            if retired(prediction, case.scenario, run_conditions(case, drafter)) is None:
                live.add(case.name)
    assert live
