"""``specsim plan``: one answer on stdout, one line for what is wrong, exit status 3 where nothing meets the SLO."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from specsim.cli.main import main
from specsim.cli.progress_lines import BETWEEN_LINES_S, TASK_AFTER_S, ProgressLines

ASKED = [
    "plan", "--model", "llama-3.1-8b", "--gpu", "a100-80gb,l40s", "--tp", "1", "--rate", "20", "--prompt", "300",
    "--output", "60", "--set", "cost.source=roofline", "--no-what-if",
    "--workers", "1",
]  # fmt: skip
SLO = ["--ttft-p95", "500ms", "--tpot-p95", "30ms"]


def test_one_command_answers_how_many_gpus_on_and_off_and_at_what_cost(capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--price", "a100=2", "--price", "l40s=1.1"]
    drafts = ["--drafter", "eagle-3", "--draft-tokens", "2"]
    grows = ["--loads", "20,60", "--growth", "50", "--months", "2", "--schedules"]
    assert main([*ASKED, *SLO, *drafts, *prices, *grows, "--json", "--workers", "2"]) == 0
    answer = json.loads(capsys.readouterr().out)
    options = answer["options"]
    assert {(one["gpu"], one["drafter"]) for one in options} == {
        (gpu, drafter) for gpu in ("A100-80GB", "L40S") for drafter in (None, "eagle3")
    }  # fmt: skip
    costs = [one["usd_per_hour"] for one in options]
    assert costs == sorted(costs)
    assert all(one["verdict"]["met"] for one in options)
    (later,) = answer["later"]
    assert later["rate_per_s"] == 60
    assert later["options"][0]["gpus"] > options[0]["gpus"]
    fleets = answer["growth"]["fleets"]
    assert [one["drafter"] is None for one in fleets] == [False, True] or options[0]["drafter"] is None
    assert [one["rate_per_s"] for one in fleets[0]["months"]] == pytest.approx([30, 45])
    assert fleets[0]["months"][1]["gpus"] > options[0]["gpus"]
    assert answer["largest_rate"]["rate_per_s"] >= 20
    assert all(one["command"].startswith("vllm serve meta-llama/Llama-3.1-8B") for one in options)
    assert any("k up to" in one["what"] for one in answer["excluded"] + options)  # schedules were tried


def test_the_table_says_what_the_document_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *SLO]) == 0
    text = capsys.readouterr().out
    assert "serve 20 requests/s within the SLO" in text
    assert "With speculation no choice meets it." not in text  # none was asked for
    assert "Simulated: 4 runs" in text
    assert "--schedules" not in text
    assert "TTFT p95" in text
    assert "$" not in text


def test_latencies_that_no_limit_names_are_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*ASKED[:-3], "--workers", "1", "--tpot-p95", "30ms", "--what-if", "--loads", "20,30", "--growth", "20"]
    words[words.index("a100-80gb,l40s")] = "a100-80gb"
    assert main([*words, "--months", "1", "--no-what-if"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"Its last run: TTFT p95 [\d.]+ m?s, TPOT p95 [\d.]+ ms\.", text)
    assert "left out" not in text  # nothing was
    assert "$" not in text


def test_a_named_drafters_acceptance_may_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for tune: of the one drafter that is named; of several it is not clear whose it would be."""
    law = tmp_path / "law.yaml"
    law.write_text("kind: constant\nrate: 0.9\n")
    asked = [*ASKED, *SLO, "--draft-tokens", "2", "--set", f"speculation.acceptance={law}"]
    assert main([*asked, "--drafter", "eagle-3", "--json"]) == 0
    options = json.loads(capsys.readouterr().out)["options"]
    lengths = [one["verdict"]["acceptance_length"] for one in options if one["drafter"] == "eagle3"]
    assert lengths
    assert lengths == pytest.approx([1 + 0.9 + 0.81] * len(lengths), rel=0.02)
    assert main([*asked, "--drafter", "eagle-3,ngram"]) == 2
    assert "--set speculation is of one drafter and --drafter names 2; name one" in capsys.readouterr().err


def test_several_drafters_are_ranked_by_their_own_publications(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *SLO, "--drafter", "eagle-3,ngram", "--draft-tokens", "2"]) == 0
    assert (
        "Acceptance of eagle3 (MT-bench), ngram (Spec-Bench, Vicuna-7B) is that of their own publications"
        in " ".join(capsys.readouterr().out.split())
    )
    assert main([*ASKED, *SLO, "--drafter", "ngram", "--draft-tokens", "2"]) == 0
    assert "their own publications" not in capsys.readouterr().out


def test_where_nobody_watches_a_line_now_and_then_says_how_far_it_is() -> None:
    screen = Console(file=io.StringIO(), width=80)
    with ProgressLines(screen) as progress:
        task = progress.add_task("deployments", total=None)
        progress.update(task, completed=1, total=4)
        assert screen.file.getvalue() == ""  # short work says nothing
        progress.told_s -= BETWEEN_LINES_S
        progress.update(task, completed=2, total=4)
        progress.update(task, completed=3, total=4)
        progress.told_s -= TASK_AFTER_S
        progress.add_task("what if", total=None)
    assert screen.file.getvalue() == "deployments: 50%\nwhat if\n"


def test_a_plan_with_drafters_names_the_schedules_it_left(capsys: pytest.CaptureFixture[str]) -> None:
    one = ["a100-80gb" if word == "a100-80gb,l40s" else word for word in ASKED]
    assert main([*one, *SLO, "--drafter", "eagle-3", "--draft-tokens", "2"]) == 0
    assert capsys.readouterr().out.endswith("--schedules also tries a k by batch size.\n")


def test_an_impossible_slo_exits_3_and_says_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--tpot-p95", "1ms"]) == 3
    error = capsys.readouterr().err
    assert "no deployment meets the SLO: the nearest, A100-80GB TP 1 off, misses tpot p95" in error
    assert "% over" in error


def test_the_largest_rate_of_one_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--max-rate", "--model", "llama-3.1-8b", "--gpu", "2x l40s", "--tp", "1", "--prompt", "300"]
    assert main([*asked, "--output", "60", "--set", "cost.source=roofline", *SLO, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["largest_rates"]
    assert row["gpus"] == 2
    assert row["verdict"]["met"]
    assert not row["beyond"]["met"]


def test_the_largest_rate_of_one_gpu_is_told_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--max-rate", "--model", "llama-3.1-8b", "--gpu", "l40s", "--prompt", "300", "--output", "60"]
    assert main([*asked, "--set", "cost.source=roofline", *SLO]) == 0
    assert capsys.readouterr().out.startswith("1 GPU, L40S TP 1 off: up to ")


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--price", "a100=2"], "L40S has no price"), (["--region", "x"], "add --prices"), (["--loads", "20,-1"], "-1"),
     (["--months", "6"], "add --growth"), (["--growth", "-3"], "above 0"), (["--growth", "900"], "100 times the load"),
     (["--growth", "8", "--max-rate"], "drop --rate and --growth"), (["--schedules"], "add --drafter"),
     (["--drafter", "ngram", "--draft-tokens", "0"], "--draft-tokens '0'"), (["--rate", "1e9"], "a share of the load"),
     (["--growth", "1e9"], "a smaller percentage"), (["--prices", "empty.yaml"], "holds no price"),
     (["--max-rate", "--tp", "1"], "--gpu names several"), (["--prices", "none.csv"], "no file none.csv")],
)  # fmt: skip
def test_wrong_input_exits_2_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("{}\n")
    assert main([*ASKED, *SLO, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
