"""``specsim init`` and ``schema``: what is written is read back as the same question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specsim.cli.main import main
from specsim.scenario import ShortOptions, ask, load_scenario

SHORT = ("--model", "llama-3.1-8b", "--gpu", "2x h200", "--drafter", "eagle-3", "--rate", "3", "--ttft-p95", "800ms")
SERVER = (
    "vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --max-num-seqs 64 --speculative-config "
    """'{"method": "eagle3", "model": "yuhuili/EAGLE3", "num_speculative_tokens": 4}'"""
)


def test_short_options_are_written_with_comments_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    assert main(["init", *SHORT, "--out", str(file)]) == 0
    asked = ask(None, ShortOptions("llama-3.1-8b", "2x h200", drafter="eagle-3", rate_per_s=3, ttft_p95="0.8"))
    assert load_scenario(str(file)).sha256() == asked.scenario.sha256()
    text = file.read_text()
    assert all(f"# assumed: {one}" in text for one in asked.assumed)


def test_what_breaks_a_rule_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.yaml"
    assert main(["init", *SHORT, "--gpu", "3x h200", "--out", str(file)]) == 2
    assert "tensor_parallel 3 does not divide" in capsys.readouterr().err
    assert not file.exists()


def test_a_file_that_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("mine")
    assert main(["init", *SHORT, "--out", str(file)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_a_server_as_it_was_started(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    assert main(["init", "--from", SERVER, "--gpu", "h200", "--concurrency", "4", "-o", str(file)]) == 0
    scenario = load_scenario(str(file))
    assert (scenario.model.name, scenario.deployment.tensor_parallel) == ("Llama-3.1-8B", 2)
    assert scenario.engine.max_num_seqs == 64
    assert scenario.speculation is not None
    assert (scenario.speculation.program.name, scenario.speculation.max_draft_tokens) == ("eagle3", 4)


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,6\n1,7,8\n2,9,9\n")
    file = tmp_path / "own.yaml"
    options = ("--from", str(tmp_path / "trace.csv"), "--model", "llama-3.1-8b", "--gpu", "h200")
    assert main(["init", *options, "-o", str(file)]) == 0
    workload = load_scenario(str(file)).workload
    assert (workload.kind, workload.count(), workload.mean_lengths()) == ("trace", 3, (7.0, pytest.approx(23 / 3)))


def test_what_is_no_source_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--from", "nowhere.csv", "--model", "llama-3.1-8b", "--gpu", "h200"]) == 2
    assert "no file" in capsys.readouterr().err


def test_schema_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["slo"]
    assert main(["schema", "slo"]) == 0
    assert "p95" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("specsim 0.")
