"""``specsim validate gpu``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specsim.cli.main import main
from tests.studies.tiny import write_study

FIGURES = "split,drafter,blocks,kv_tokens\ncalibration,none,16,16000\ntest,none,32,40000\n"


def test_one_study_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, FIGURES)
    assert main(["validate", "gpu", str(path), "--rows"]) == 0
    printed = capsys.readouterr().out
    for text in ("a study of its own making", "calibration rows", "test rows", "0.0%, +0.0%", "20.0%, -20.0%", "-20%"):
        assert text in printed


def test_the_document_holds_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "gpu", str(write_study(tmp_path, FIGURES)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    errors = document["splits"]["test"]["measured"]["errors"]["KV tokens"]
    assert (errors["rows"], errors["mean_absolute"], errors["stated"]) == (1, pytest.approx(0.2), 0)
    first, second = document["studies"]["tiny"]["figures"]
    assert (first["measured"], second["acceptance_as_measured"]["value"]) == (16000, 32000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "gpu", "no-such-study"], "unknown study 'no-such-study'"),
        (["validate", "gpu", "--here"], "validate gpu takes --rows and --json"),
        (["validate", "--rows"], "leave out --rows"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert len(told.splitlines()) == 1
