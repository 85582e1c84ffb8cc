"""Load, Compare, Plan and the engine's configuration: they run when asked to, and the command line agrees."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from specsim.cli.main import main
from tests.dashboard.pages import answered, cards, command, frames, opened, pressed, scenario_file, text

LOADED = {
    "model": "qwen3-8b", "gpu": "h100-sxm", "drafter": "eagle3", "draft_tokens": "2", "rate": "8", "tpot_p95": "20ms",
    "prices": "roofline", "set": "workload.requests=200",
}  # fmt: skip


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("view", "label"), [("Load", "Simulate loads"), ("Compare", "Compare drafters"), ("Plan", "Plan it")]
)
def test_nothing_runs_before_it_is_asked_for(view: str, label: str) -> None:
    app = opened(view=view, **LOADED)
    answered(app)
    assert app.info
    assert label in [button.label for button in app.button]
    assert not app.get("plotly_chart")


@pytest.mark.slow
def test_each_load_is_what_simulate_prints(capsys: pytest.CaptureFixture[str]) -> None:
    app = pressed(opened(view="Load", **LOADED), "Simulate loads")
    answered(app)
    assert len(app.get("plotly_chart")) == 5
    assert "No interval" in text(app)
    (card,) = cards(app)
    assert "SLO met: off" in card
    tpot = frames(app)[1].set_index("requests/s")
    words = command(app)[1:]
    words[words.index("--rate") + 1] = tpot.index[3]
    runs = printed(["simulate", *words], capsys)["alternatives"]
    for side in ("off", "on"):
        told = runs[f"speculation {side}"]["p95_tpot_ms"]
        assert float(tpot.loc[tpot.index[3], f"{side} p95"]) == pytest.approx(told, rel=0.01)  # three digits are shown


@pytest.mark.slow
def test_drafters_are_what_compare_prints(capsys: pytest.CaptureFixture[str]) -> None:
    asked = LOADED | {"drafters": "eagle3, ngram", "draft_tokens": "2"}
    app = pressed(opened(view="Compare", **asked), "Compare drafters")
    answered(app)
    assert "this ranks benchmarks" in text(app)
    found = printed(command(app), capsys)
    table = frames(app)[0].set_index("drafter")
    for one in found["drafters"]:
        for best in one["best"]:
            if (batch := str(best["batch"])) in table.columns:
                shown = table.loc[one["drafter"], batch].lstrip("*=")
                assert shown == f"{best['speedup']:.2f} k={best['draft_tokens']}"


@pytest.mark.slow
def test_the_fleet_is_what_plan_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = pressed(opened(view="Plan", price="h100=2.5", **LOADED), "Plan it")
    answered(app)
    scenario_file(app, tmp_path)
    monkeypatch.chdir(tmp_path)
    found = printed([*command(app), "--workers", "1"], capsys)
    table = frames(app)[0]
    assert [int(gpus) for gpus in table["GPUs"]] == [option["gpus"] for option in found["options"]]
    assert [str(option["draft_tokens"] or "off") for option in found["options"]] == [
        drafts.rpartition("=")[2] for drafts in table["drafts"]
    ]


def test_the_frontier_draws_single_replicas() -> None:
    app = pressed(opened(view="Plan", **LOADED | {"gpus": "h100,h200", "prices": "kernels"}), "Draw the frontier")
    answered(app)
    assert len(app.get("plotly_chart")) == 1
    assert all(f"nvidia-{card}-" in text(app) for card in ("h100", "h200"))
    assert "by formula, without an interval" in text(app)


@pytest.mark.slow
def test_the_configuration_is_what_tune_prints(capsys: pytest.CaptureFixture[str]) -> None:
    app = pressed(opened(**LOADED), "Tune vllm")
    answered(app)
    shown = [code.value for code in app.code]
    line = next(code for code in shown if code.startswith("specsim tune"))
    tuned = printed(shlex.split(line.replace("\\\n", ""))[1:], capsys)
    assert tuned["command"] in shown
    assert any(button.proto.label == "Engine configuration" for button in app.get("download_button"))


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ({"view": "Plan", "rate": "", "tpot_p95": ""}, "no SLO to meet"),
        ({"view": "Plan", "rate": "", "concurrency": "8"}, "closed-loop clients"),
    ],
)
def test_what_cannot_be_planned_is_one_line(link: dict[str, str], told: str) -> None:
    app = opened(**{key: value for key, value in (LOADED | link).items() if value})
    assert not app.exception
    assert told in app.error[0].value


@pytest.mark.parametrize(
    ("view", "label", "changes"),
    [("Compare", "Compare drafters", {"drafters": "abacus"}), ("Plan", "Plan it", {"gpus": "abacus"})],
)
def test_a_choice_that_is_none_is_one_line(view: str, label: str, changes: dict[str, str]) -> None:
    app = pressed(opened(view=view, **LOADED | changes), label)
    assert not app.exception
    assert "abacus" in app.error[0].value
    assert not any(button.label == "Stop" for button in app.button)
