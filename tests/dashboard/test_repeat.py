"""The command line that a view offers prints the numbers that the view shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.cli.main import main
from specsim.report.served import FIGURES, number
from tests.dashboard.pages import answered, cards, command, frames, opened, pressed, scenario_file

QUESTIONS = [
    {"model": "qwen3-8b", "gpu": "h100-sxm", "drafter": "eagle3", "rate": "4", "batch": "24"},
    {
        "model": "llama-3.1-8b",
        "gpu": "l40s",
        "drafter": "ngram",
        "draft_tokens": "3",
        "acceptance": "0.6 0.5 0.4",
        "kv_bits": "8",
    },
    {"base": '{"model": "qwen3-8b", "gpu": "h100-sxm", "speculation": {"program": "eagle3"}}', "prompt": "2048"},
]


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_map_is_what_predict_prints(
    question: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = opened(view="Map", **question)
    answered(app)
    scenario_file(app, tmp_path)
    monkeypatch.chdir(tmp_path)
    document = printed(command(app), capsys)
    shown = frames(app)[0]
    for column in ("batch", "draft_tokens", "speedup", "low", "high", "round_s", "output_tokens_per_s"):
        assert shown[column].tolist() == [cell[column] for cell in document["grid"]]
    assert document["verdict"]["sentence"] in cards(opened(**question))[0]


@pytest.mark.parametrize("question", QUESTIONS[:2])
def test_the_scenario_file_asks_the_same(
    question: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = opened(view="Map", **question)
    words, path = command(app), scenario_file(app, tmp_path)
    batch = words[words.index("--batch") :] if "--batch" in words else []
    assert printed(["predict", str(path), *batch], capsys)["grid"] == printed(words, capsys)["grid"]


@pytest.mark.slow
def test_the_load_is_what_simulate_prints(capsys: pytest.CaptureFixture[str]) -> None:
    app = opened(**QUESTIONS[0])
    pressed(app, "Simulate this load")
    answered(app)
    document = printed(["simulate", *command(app)[1:-2]], capsys)["alternatives"]
    table = frames(app)[0].set_index("one run of each")
    compared = 0
    for figure in FIGURES:
        if figure.label in table.index:
            for side in ("off", "on"):
                value = document[f"speculation {side}"].get(figure.key)
                assert table.loc[figure.label, side] == number(value, figure.scale)
                compared += 1
    assert compared > 40
