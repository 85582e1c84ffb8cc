"""``specsim fit``: logs in, a law's file out, which a scenario takes by its path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from specsim.cli.main import main
from specsim.interop.acceptance import read_log_file
from specsim.scenario import load_scenario
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    BetaLevels,
    ConditionalAcceptance,
    LatentAcceptance,
    TraceAcceptance,
)

LAW = ConditionalAcceptance(rates=(0.8, 0.6, 0.5))


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """A dump of /metrics after 3,000 requests' rounds of LAW at k = 3."""
    accepted = AcceptanceDraws(LAW, 1).replay(np.arange(3000), np.full(3000, 20), 3).accepted
    lines = ["# TYPE vllm:spec_decode_num_drafts_total counter"]
    lines.append(f'vllm:spec_decode_num_drafts_total{{model_name="m"}} {len(accepted)}')
    for position in range(3):
        reached = int((accepted > position).sum())
        lines.append(
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{model_name="m",position="{position}"}} {reached}'
        )
    path = tmp_path / "metrics.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_file_is_a_scenarios_acceptance(metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "acceptance.yaml"
    assert main(["fit", str(metrics), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "law: conditional" in told.out
    assert "how much requests differ" in told.out
    settings = [f"speculation.acceptance={out}", "speculation.max_draft_tokens=3"]
    scenario = load_scenario("cpu-144m", settings)
    assert scenario.speculation is not None
    assert scenario.speculation.acceptance.survival(3) == pytest.approx(LAW.survival(3), abs=0.02)
    # Read at once: the question's hash is that of the law, not of the path.
    inline = load_scenario("cpu-144m", settings[1:]).model_dump(mode="json", by_alias=True)
    assert "acceptance.yaml" not in json.dumps(inline)
    beside = tmp_path / "scenario.yaml"
    beside.write_text(
        "schema: 1\nname: beside\nmodel: llama-3.1-8b\ngpu: h100-sxm\n"
        "speculation: {program: eagle3, max_draft_tokens: 3, acceptance: acceptance.yaml}\n"
        "workload: {kind: synthetic, arrivals: {kind: closed_loop, concurrency: 1}, requests: 1, "
        "lengths: {kind: fixed, prompt_tokens: 10, output_tokens: 10}}\n"
    )
    assert load_scenario(str(beside)).speculation.acceptance == scenario.speculation.acceptance  # type: ignore[union-attr]


def test_a_known_spread_makes_counters_a_law_of_requests(
    metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(metrics), "--out", str(tmp_path / "law.yaml"), "--concentration", "5", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["acceptance"]["kind"] == "latent"
    law = LatentAcceptance(requests=BetaLevels(mean=found["acceptance"]["requests"]["mean"], concentration=5.0))
    assert law.expected_tokens(3) == pytest.approx(found["acceptance_length"]["value"], abs=1e-4)


def test_a_trace_is_read_as_its_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    runs = tuple(tuple(np.minimum(random.geometric(0.4, 40) - 1, 4).tolist()) for _ in range(12))
    TraceAcceptance(runs=runs, cap=4).write(tmp_path / "eagle.jsonl")
    assert main(["fit", str(tmp_path / "eagle.jsonl"), "--out", str(tmp_path / "law.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["draft_tokens"] == 4
    assert 0.4 < found["numbers"]["rate"]["low"] < 0.6 < found["numbers"]["rate"]["high"] < 0.8


def test_a_recorded_trace_of_the_repository_is_known_by_its_head() -> None:
    trace = Path(__file__).parents[2] / "validation/studies/acceptance/traces/greedy/eagle.jsonl"
    found = read_log_file(trace)
    assert (found.format, len(found.requests), found.draft_tokens()) == ("acceptance trace", 120, 16)
    assert found.acceptance_length() == pytest.approx(
        TraceAcceptance.model_validate({"path": trace}).expected_tokens(16)
    )


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["{metrics}", "{metrics}", "--before", "{metrics}"], "--before belongs to one dump"),
        (["{metrics}", "--concentration", "0"], "--concentration"),
        (["nowhere.txt"], "nowhere.txt"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], rule: str, metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [one.format(metrics=metrics) for one in arguments]
    assert main(["fit", *given, "--out", str(tmp_path / "law.yaml")]) == 2
    error = capsys.readouterr().err
    assert rule in error
    assert len(error.splitlines()) == 1


def test_its_tables_fit_a_terminal_of_80_columns(
    metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["fit", str(metrics), "--out", str(tmp_path / "law.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(mark in line for line in lines for mark in "┃│…")
    assert any("yes" in line.split() for line in lines)


def test_more_drafts_than_were_logged_say_what_to_ask_for(
    metrics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    law = tmp_path / "law.yaml"
    assert main(["fit", str(metrics), "--out", str(law)]) == 0
    words = ["--model", "llama-3.1-8b", "--gpu", "h100", "--drafter", "eagle-3", "--draft-tokens", "5"]
    capsys.readouterr()
    assert main(["predict", *words, "--set", f"speculation.acceptance={law}"]) == 2
    assert "5 tokens are drafted; draft 3 at most (--draft-tokens" in capsys.readouterr().err
