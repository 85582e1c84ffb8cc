"""``drafters.yaml``: one target, several drafters, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from specsim.cases import load_case
from specsim.cases.map import measured_rows
from specsim.errors import InvalidInput
from specsim.fidelity import write_grid
from specsim.results import GridRow
from tests.cases.tiny import SCENARIO, SHAPE

NGRAM = {"program": "ngram", "max_draft_tokens": 3, "acceptance": {"kind": "constant", "rate": 0.4}}


def case_folder(folder: Path, drafters: dict[str, Any]) -> str:
    fields = {key: value for key, value in SCENARIO.items() if key != "speculation"}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(fields))
    (folder / "drafters.yaml").write_text(yaml.safe_dump(drafters, sort_keys=False))
    return f"{folder}/"


def test_each_drafter_is_the_scenario_with_its_own_speculation(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"name": "small", "num_layers": 1, **SHAPE}))
    draft = SCENARIO["speculation"] | {"draft_model": "small.yaml"}
    case = load_case(case_folder(tmp_path, {"ngram": NGRAM, "draft-model": draft}))
    assert list(case.drafters) == ["ngram", "draft-model"]
    ngram, model = (case.drafters[name].speculation for name in ("ngram", "draft-model"))
    assert ngram is not None
    assert (ngram.program.name, ngram.max_draft_tokens) == ("ngram", 3)
    assert model is not None
    assert model.draft_model is not None
    assert model.draft_model.name == "small"  # a path counts from the case's folder
    assert {one.without_speculation().sha256() for one in case.drafters.values()} == {case.scenario.sha256()}


def test_without_the_file_the_scenario_s_own_drafter_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(SCENARIO))
    case = load_case(f"{tmp_path}/")
    assert case.drafters == {"draft-model": case.scenario}


@pytest.mark.parametrize(
    ("drafters", "fault"),
    [
        ({}, "names no drafter"),
        ({"a/b": NGRAM}, "'a/b' is no name for a drafter"),
        ({"ngram": NGRAM | {"max_draft_tokens": -1}}, "drafter 'ngram': .*max_draft_tokens"),
        ({"ngram": NGRAM | {"k": 3}}, "drafter 'ngram': .*unknown field"),
        ({"mine": {"program": "nosuch"}}, "drafter 'mine': .*nosuch"),
    ],
)
def test_faults_are_one_line_that_names_the_drafter(tmp_path: Path, drafters: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=rf"drafters\.yaml.*{fault}") as error:
        load_case(case_folder(tmp_path, drafters))
    assert "\n" not in str(error.value)


def test_rows_of_no_drafter_and_drafters_without_rows_are_told(tmp_path: Path) -> None:
    case = load_case(case_folder(tmp_path, {"ngram": NGRAM, "lookahead": NGRAM}))
    row = GridRow(0, 1, 0, 100.0, 10, 1.0, 10, *[0.1] * 7)
    write_grid(case.measured, "ngram", [row])
    assert measured_rows(case, "ngram") == [row]
    with pytest.raises(InvalidInput, match="no rows of lookahead; measure it first"):
        measured_rows(case, "lookahead")
    write_grid(case.measured, "eagle", [row])
    with pytest.raises(InvalidInput, match="eagle, which is no drafter of the case"):
        measured_rows(case, "ngram")
