"""The schema says of a scenario what reading it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from specsim.errors import InvalidInput
from specsim.scenario import Scenario, ShortOptions, ask
from specsim.scenario.schema import json_schema, reference

SCHEMA = Draft202012Validator(json_schema())
SCENARIOS = [Path("specsim/presets/cpu-144m.yaml"), *sorted(Path("validation").glob("**/scenario.yaml"))]


def faults(fields: dict[str, Any]) -> list[str]:
    return [error.message for error in SCHEMA.iter_errors(fields)]


@pytest.mark.parametrize("file", SCENARIOS[:8], ids=str)
def test_scenarios_of_this_repository_fit(file: Path) -> None:
    assert faults(yaml.safe_load(file.read_text())) == []


def test_what_short_options_write_fits() -> None:
    asked = ask(None, ShortOptions(model="qwen3-8b", gpu="h200", drafter="eagle3", rate_per_s=2.0, ttft_p95="1"))
    assert faults(asked.fields) == []


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"sloo": {}}, {"slo": {"ttft_s": 1.0}}, {"engine": {"max_num_seqs": 0}}, {"model": 3}]
)
def test_what_a_scenario_refuses_does_not_fit(wrong: dict[str, Any]) -> None:
    fields = ask(None, ShortOptions(model="qwen3-8b", gpu="h200")).fields
    assert faults(fields) == []
    assert faults(fields | wrong)


def test_the_reference_tells_every_top_field_and_each_kind() -> None:
    sections = reference()
    assert {line.name for line in sections[0].fields} == {f.alias or n for n, f in Scenario.model_fields.items()}
    kinds = {one.kind for one in sections if one.path == "workload.arrivals"}
    assert kinds == {"poisson", "gamma", "piecewise", "diurnal", "closed_loop"}
    rate = next(line for one in reference("workload.arrivals") for line in one.fields if line.name == "rate_per_s")
    assert (rate.unit, rate.default) == ("requests/s", "required")


def test_a_section_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="workload"):
        reference("worklod")
