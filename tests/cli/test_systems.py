"""``specsim systems``: the list by taxonomy, and one technique explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.cli.main import main
from specsim.speculation.program import load_program, program_names


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["systems", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_are_listed_under_how_they_draft(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    for name in program_names():
        assert f" {name} " in out
    found = document(capsys)
    rows = found["drafters"]
    assert {row["name"] for row in rows} == set(program_names())
    assert {row["verification"] for row in rows} >= {"chain, exact", "tree, exact", "tree, typical", "none"}
    kinds = [one["kind"] for one in found["policies"]]
    assert kinds[0] == "profiled"
    assert set(kinds) >= {"fixed", "table", "throughput", "tiers", "verify_budget"}


@pytest.mark.parametrize("name", program_names())
def test_each_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems", name]) == 0
    out = " ".join(capsys.readouterr().out.split())
    program = load_program(name)
    assert " ".join(program.mechanism.split()) in out
    for figure in program.figures:
        assert " ".join(figure.split()) in out
    for missing in program.unknown:
        assert " ".join(missing.split()) in out
    if program.acceptance is not None:
        assert f"Acceptance, {program.acceptance.basis}" in out
        assert " ".join(program.acceptance.source.split()) in out


def test_costs_are_told_in_passes_and_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """Kangaroo on Vicuna-7B: 67 M parameters of its own, one layer of KV, 6 passes of 603 M weights."""
    found = document(capsys, "kangaroo", "--model", "vicuna-7b")
    cost = found["cost"]
    assert cost["verify_width"] == 7
    assert cost["phases"][0]["pass_widths"] == [1] * 6
    assert cost["phases"][0]["parameters"] == pytest.approx(603e6, rel=0.001)
    assert cost["phases"][0]["bytes_per_pass"] == pytest.approx(2 * 603e6, rel=0.001)
    assert cost["extra_weight_bytes"] == pytest.approx(2 * 67.1e6, rel=0.001)
    assert cost["draft_kv_bytes_per_token"] == 2 * 32 * 128 * 2
    assert found["acceptance_basis"] == "assumed"
    assert found["tokens_per_round"] == pytest.approx(sum((0.43 * 0.85) ** i for i in range(7)))
    assert found["program"]["phases"][0]["weights"][0] == {"kind": "target_layers", "first": 0, "last": 2, "exits": []}


def test_a_length_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "eagle3", "-k", "5")["cost"]["verify_width"] == 6
    assert document(capsys, "draft-model", "--draft-model", "llama-3.2-1b")["cost"]["draft_model"] == "Llama-3.2-1B"


def test_a_file_of_ones_own_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsource: ours\nlossless: true\nproposal: copy\nphases: [{where: cpu}]\n")
    assert main(["systems", str(path)]) == 0
    assert "mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eagel"], "did you mean eagle"),
        (["lookahead", "-k", "5"], "give one of 0, 28"),
        (["eagle3", "--draft-model", "llama-3.2-1b"], "runs no draft model"),
        (["layerskip", "--model", "vicuna-68m"], "has 2 layers"),
        (["eagle3", "--model", "nothing"], "unknown model"),
        (["missing.yaml"], "there is no file missing.yaml"),
        (["draft-model", "-k", "-1"], "no draft length"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["systems", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
