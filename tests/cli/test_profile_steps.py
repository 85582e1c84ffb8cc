"""``specsim profile steps`` and ``plan``."""

import json

import pytest
import typer
from typer.testing import CliRunner

from specsim.cli.profile_steps import plan, steps
from specsim.errors import InvalidInput
from specsim.profiles.steps import QUICK_GRID

app = typer.Typer()
app.command("steps")(steps)
app.command("plan")(plan)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_plan_writes_cases_and_says_how_to_run_them(tmp_path):
    out = tmp_path / "cases.json"
    result = run("plan", "--for", "vllm", "--out", out, "--grid", "quick", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["cases"] == len(json.loads(out.read_text())["cases"]) == len(QUICK_GRID.shapes())
    assert answer["command"].startswith("vllm bench forward")
    assert str(out) in answer["command"]


@pytest.mark.parametrize(("option", "value"), [("--for", "sglang"), ("--grid", "large")])
def test_an_unknown_plan_is_refused(tmp_path, option, value):
    result = run("plan", "--out", tmp_path / "cases.json", option, value)
    assert isinstance(result.exception, InvalidInput)
    assert value in str(result.exception)
    assert not (tmp_path / "cases.json").exists()


@pytest.mark.torch
def test_steps_refuses_what_is_not_there_before_it_measures(tmp_path):
    pytest.importorskip("torch")
    absent = run("steps", "--vllm", tmp_path / "no", "--model", tmp_path / "none", "--out", tmp_path / "table")
    assert isinstance(absent.exception, InvalidInput)
    device = run(
        "steps", "--vllm", tmp_path, "--model", tmp_path, "--out", tmp_path / "table", "--device", "tpu",
    )  # fmt: skip
    assert "tpu" in str(device.exception)
    assert not (tmp_path / "table").exists()
