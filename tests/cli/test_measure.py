"""The verbs that run the reference engine, on a model small enough to wait for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.cli.main import main  # noqa: E402
from specsim.fidelity import read_grid  # noqa: E402

SHAPE = {
    "source": "test",
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 256,
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    fields = {
        "schema": 1,
        "name": "tiny",
        "model": {"name": "tiny", "num_layers": 2, **SHAPE},
        "gpu": "cpu-generic",
        "engine": {"max_num_seqs": 2, "num_kv_blocks": 64},
        "speculation": {
            "program": "draft-model",
            "draft_model": {"name": "tinier", "num_layers": 1, **SHAPE},
            "max_draft_tokens": 1,
            "acceptance": {"kind": "constant", "rate": 0.5},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": 2},
            "requests": 3,
            "lengths": {"kind": "fixed", "prompt_tokens": 40, "output_tokens": 6},
        },
    }
    path.write_text(yaml.safe_dump(fields))
    return path


def test_a_measured_map_is_resumed_scored_and_says_where_it_was_made(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = scenario.parent / "measured.csv"
    assert main(["validate", str(scenario.parent) + "/", "--predict"]) == 0
    command = ["measure", str(scenario), "--grid", "--out", str(table), "--repeats", "2", "--cell-seconds", "0.01"]
    assert main(command) == 0
    rows = read_grid(table)["draft-model"]
    assert {(r.repeat, r.batch, r.draft_tokens) for r in rows} == {
        (r, b, k) for r in (0, 1) for b in (1, 2) for k in (0, 1)
    }
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-3]))  # as if cut off
    assert main(command) == 0
    again = read_grid(table)["draft-model"]
    assert again[:5] == rows[:5]
    assert len(again) == len(rows)
    machine = yaml.safe_load((scenario.parent / "machine.yaml").read_text())
    assert machine["probe"]["before_s"] > 0
    assert isinstance(machine["versions"]["torch"], str)
    capsys.readouterr()
    assert main(["validate", str(scenario.parent) + "/"]) == 0
    assert "as predicted before the run" in capsys.readouterr().out


def test_drafters_of_a_case_take_turns_repeat_by_repeat(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = yaml.safe_load(scenario.read_text())
    own = fields.pop("speculation")
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(yaml.safe_dump(fields))
    ngram = {"program": "ngram", "max_draft_tokens": 1, "acceptance": {"kind": "constant", "rate": 0.3}}
    (folder / "drafters.yaml").write_text(yaml.safe_dump({"draft-model": own, "ngram": ngram}))
    command = ["measure", f"{folder}/", "--grid", "--repeats", "2", "--cell-seconds", "0.01"]
    assert main(command) == 2
    assert "predict before measuring" in capsys.readouterr().err
    assert main(["validate", f"{folder}/", "--predict"]) == 0
    assert main(command) == 0
    table = (folder / "measured.csv").read_text().splitlines()[1:]
    turns = [tuple(line.split(",")[:2]) for line in table]
    assert list(dict.fromkeys(turns)) == [(d, r) for r in ("0", "1") for d in ("draft-model", "ngram")]
    assert len(turns) == 16  # 2 drafters, 2 repeats, 2 batch sizes, 2 draft lengths
    looked = [line.split(",")[1] for line in (folder / "conditions.csv").read_text().splitlines()[1:]]
    assert looked == ["/".join((c[0], c[2], c[3])) for c in (line.split(",") for line in table)]
    assert main(command) == 0  # nothing is left to measure
    assert (folder / "measured.csv").read_text().splitlines()[1:] == table
    capsys.readouterr()
    assert main(["validate", f"{folder}/", "--json"]) == 0
    case = json.loads(capsys.readouterr().out)["cases"]["case"]
    assert set(case["drafters"]) == {"draft-model", "ngram"}
    assert case["now"]["count"] == case["committed"]["count"] == 8


def test_a_served_workload_keeps_every_token(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(scenario), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["completed"] == 3
    assert summary["total_output_tokens"] == 18
    assert summary["engine"] == "reference"


def test_lossless_reports_each_dtype(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(scenario), "--lossless", "--json"]) == 0
    reports = {report["dtype"]: report for report in json.loads(capsys.readouterr().out)}
    assert set(reports) == {"float64", "float32", "bfloat16"}
    assert reports["float64"]["identical_share"] == 1.0
    assert 0 < reports["float64"]["acceptance_rate"] < 1
    assert all(len(r["gaps"]) == r["sequences"] - r["identical"] for r in reports.values())


def test_one_repeat_is_refused(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(scenario), "--grid", "--repeats", "1"]) == 2
    assert "needs at least 2" in capsys.readouterr().err


def test_drafters_are_chosen_by_the_program_and_others_are_refused_in_one_line(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--set", "speculation.draft_model=null", "--set", "speculation.max_draft_tokens=1"]
    assert main(["measure", str(scenario), "--set", "speculation.program=eagle", *own, "--lossless", "--json"]) == 0
    exact = json.loads(capsys.readouterr().out)[0]
    assert (exact["dtype"], exact["identical_share"]) == ("float64", 1.0)
    assert exact["acceptance_rate"] is not None
    assert main(["measure", str(scenario), "--set", "speculation.program=p-eagle", *own]) == 2
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) == 1
    assert "'p-eagle'" in message
    assert "feature head" in message


def test_short_options_override_the_scenario(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(scenario), "--drafter", "off", "--output", "3", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["total_output_tokens"] == 3 * 3
    assert measured["spec_decode_num_drafts"] == 0


def test_a_case_is_measured_as_its_folder_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "cpu-imposed-acceptance", "--grid", "--output", "3"]) == 2
    assert "--output-tokens would measure another case than the folder holds" in capsys.readouterr().err
