"""``specsim profile steps`` and ``plan``."""

import json

import pytest
import typer
from typer.testing import CliRunner

from specsim.assembly import assemble
from specsim.cli.profile_steps import import_steps, plan, steps
from specsim.errors import InvalidInput
from specsim.profiles.steps import QUICK_GRID
from specsim.scenario import load_scenario

app = typer.Typer()
app.command("steps")(steps)
app.command("plan")(plan)
app.command("import-steps")(import_steps)


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
        "steps",
        "--vllm",
        tmp_path,
        "--model",
        tmp_path,
        "--out",
        tmp_path / "table",
        "--device",
        "tpu",
    )
    assert "tpu" in str(device.exception)
    assert not (tmp_path / "table").exists()


def test_forward_results_become_a_profile_that_prices_rounds(tmp_path):
    """Passes of 1 ms a sequence and 2 ms a token, written as the command writes them, priced as they were measured."""
    cases = [
        {
            "case": f"b{b}-q{q}",
            "requests": [{"query_len": q, "kv_len": 1000, "num_draft_tokens": q - 1, "chunked": False}] * b,
            "median_us": 1e3 * b + 2e3 * b * q,
            "ranks": [{
                "num_tokens": b * q, "kv_blocks": 64, "routing": None,
                "latency_us": {
                    "timer": "cuda_event", "median": 1e3 * b + 2e3 * b * q, "mean": 1e3 * b + 2e3 * b * q, "std": 0.0,
                    "min": 1e3 * b + 2e3 * b * q, "sample_spread_pct": 0.0, "count": 9, "samples_us": [],
                },
            }],
        }
        for b in (1, 2, 4, 8) for q in (1, 2, 4)
    ]  # fmt: skip
    results, out = tmp_path / "forward.json", tmp_path / "profile"
    results.write_text(json.dumps(cases))
    run("import-steps", results, "--model", "Llama-3.1-8B", "--gpu", "h200", "--out", out)
    scenario = load_scenario(
        "cpu-144m",
        ("model=llama-3.1-8b", "gpu=h200", "speculation=null", f"cost.profile={out}", "cost.source=steps"),
    )
    cost = assemble(scenario).cost
    for b, q in ((1, 1), (4, 4), (8, 2)):
        assert cost.decode_round(b, q - 1, 1000.0 - q + 1).seconds == pytest.approx(1e-3 * b + 2e-3 * b * q, rel=0.03)
