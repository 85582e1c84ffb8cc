"""``specsim tune``: what it prints is read back by each engine's reader as the same schedule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from specsim.cli.main import main
from specsim.interop.engine_config import EngineConfig
from specsim.interop.sglang import read_sglang
from specsim.interop.tensorrt_llm import read_tensorrt_llm
from specsim.interop.vllm import read_vllm

SCENARIO: dict[str, Any] = {
    "schema": 1, "name": "small", "model": "llama-3.1-8b", "gpu": "h200", "engine": {"max_num_seqs": 96},
    "cost": {"source": "roofline"},
    "workload": {
        "kind": "synthetic", "arrivals": {"kind": "poisson", "rate_per_s": 20.0}, "requests": 40,
        "lengths": {"kind": "fixed", "prompt_tokens": 512, "output_tokens": 256},
    },
}  # fmt: skip
DRAFT_MODEL = {"program": "draft-model", "draft_model": "llama-3.2-1b"}
RATES = [0.8, 0.55, 0.4, 0.3]


def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], speculation: dict[str, Any], *options: str) -> Any:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | {"speculation": speculation}))
    how = () if "--simulate" in options else ("--by-formula",)
    status = main(["tune", str(path), *how, *options])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def read_back(engine: str, document: dict[str, Any]) -> EngineConfig:
    if engine == "vllm":
        return read_vllm(document["text"])
    if engine == "tensorrt-llm":
        return read_tensorrt_llm(yaml.safe_load(document["text"]))
    files = [json.loads(content) for content in document["files"].values()]
    return read_sglang(document["text"], *files)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize("program", ["draft-model", "ngram", "eagle3", "mtp"])
@pytest.mark.parametrize("rate", [0.6, 0.8])
def test_the_printed_schedule_is_read_back_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, program: str, rate: float
) -> None:
    drafter = DRAFT_MODEL if program == "draft-model" else {"program": program}
    acceptance = {"kind": "unconditional", "rates": [rate**i for i in range(1, 5)]}
    options = ("--for", engine, "--json", "--tolerance", "0.003", "--draft-model", "org/drafter")
    status, out, err = ask(
        tmp_path, capsys, drafter | {"max_draft_tokens": 4, "acceptance": acceptance}, *options
    )  # fmt: skip
    assert status == 0, err
    document = json.loads(out)
    config = read_back(engine, document)
    assert len(document["batches"]) == 96
    for row in document["batches"]:
        assert config.draft_tokens(row["batch"]) == row["draft_tokens"]
    assert config.limits["max_num_seqs"] == 96
    assert config.num_speculative_tokens == max(row["draft_tokens"] for row in document["batches"])
    assert document["gain_over_fixed"] >= 1.0 - 0.003
    assert document["alone"]["oracle"] >= document["alone"]["schedule"]
    assert document["gain_over_off_low"] <= document["gain_over_off"] <= document["gain_over_off_high"]


def test_the_decision_comes_first_and_then_what_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By formula predict's verdict on the load's own batch; the command is a line of its own."""
    speculation = DRAFT_MODEL | {"max_draft_tokens": 4, "acceptance": {"kind": "unconditional", "rates": RATES}}
    status, out, _ = ask(tmp_path, capsys, speculation, "--for", "vllm", "--set", "engine={}")
    assert status == 0
    lines = out.splitlines()
    assert (
        main(["predict", str(tmp_path / "scenario.yaml"), "--engine", "vllm", "--set", "engine.max_num_seqs=1024"])
        == 0
    )
    assert lines[:2] == capsys.readouterr().out.splitlines()[:2]
    assert (lines[2], lines[4]) == ("", "")
    config = read_vllm(lines[3])
    assert config.method == "draft_model"
    assert config.limits == {"max_num_seqs": 1024}  # what the schedule was priced for, though the engine's default
    prose = " ".join(out.split())
    assert "By formula the best single k over all batch sizes is " in prose
    assert "x the output tokens/s of no drafter (90 %" in prose
    assert "an oracle that knew" in prose


def test_prose_wraps_at_the_terminals_width_and_what_to_paste_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = ask(tmp_path, capsys, {"program": "eagle3"}, "--for", "vllm")
    assert status == 0, err
    long = [line for line in out.splitlines() if len(line) > 80]
    assert len(long) == 1
    assert long[0].startswith("vllm serve ")
    prose = " ".join(out.split())
    assert "up to 7 drafts a round tried; predict and simulate stop at 3, eagle3's usual number" in prose


def test_the_schedule_is_confirmed_under_the_scenario_s_own_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 3, "acceptance": {"kind": "unconditional", "rates": RATES}}
    status, out, err = ask(tmp_path, capsys, speculation, "--for", "vllm", "--simulate", "--json")
    assert status == 0, err
    found = json.loads(out)["confirmation"]
    names = [one["name"] for one in found["trials"]]
    assert names[:4] == ["off", "k=1", "k=2", "k=3"]
    fastest = min(found["trials"], key=lambda one: one["mean_e2el_ms"])
    chosen = next(one for one in found["trials"] if one["name"] == found["chosen"])
    assert chosen["mean_e2el_ms"] <= 1.005 * fastest["mean_e2el_ms"]
    assert found["chosen"] != "off"


def test_the_slo_s_figures_are_those_of_the_chosen_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 2, "acceptance": {"kind": "unconditional", "rates": RATES}}
    options = ("--for", "vllm", "--simulate", "--set", "slo={tpot_s: {p95: 1.0}}")
    status, out, err = ask(tmp_path, capsys, speculation, *options)
    assert status == 0, err
    told = re.search(r"^SLO met: TPOT p95 ([\d.]+) ms \(limit 1 s, .* below\)$", out, re.MULTILINE)
    chosen = next(line.split() for line in out.splitlines() if line.startswith("*"))
    assert told is not None
    assert told[1] == chosen[4]


def test_a_missed_slo_names_the_run_that_misses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 1, "acceptance": {"kind": "constant", "rate": 0.8}}
    options = ("--for", "vllm", "--simulate", "--set", "slo={tpot_s: {p95: 1.0e-6}}")
    _, out, err = ask(tmp_path, capsys, speculation, *options)
    assert "\nWith seed 1: SLO missed: TPOT p95 " in out, err


def test_off_is_said_where_it_serves_the_load_faster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Drafts pay alone in the batch and not at the 96 that the load fills."""
    speculation = DRAFT_MODEL | {"max_draft_tokens": 2, "acceptance": {"kind": "constant", "rate": 0.35}}
    load = "workload.arrivals={kind: closed_loop, concurrency: 96}"
    options = (
        "--for",
        "vllm",
        "--simulate",
        "--set",
        load,
        "--set",
        "workload.requests=200",
        "--prefer",
        "throughput",
    )
    status, out, err = ask(tmp_path, capsys, speculation, *options, "--set", "engine.async_scheduling=true")
    assert status == 3, err
    assert out.startswith("OFF: mean E2E ")
    assert "\n\n# off: start vllm without --speculative-config\nvllm serve meta-llama/Llama-3.1-8B\n\n" in out
    assert "off serves this load faster than every draft length" in err


@pytest.mark.parametrize(
    ("engine", "program", "start"),
    [
        ("vllm", "eagle3", "vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2 --speculative-config "),
        ("sglang", "eagle3", "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp-size 2 --spec"),
        ("tensorrt-llm", "eagle3", "# trtllm-serve meta-llama/Llama-3.1-8B --tp_size 2 --config speculation.yaml"),
    ],
)
def test_a_whole_command_with_a_placeholder_for_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, program: str, start: str
) -> None:
    speculation = {"program": program, "max_draft_tokens": 3}
    status, out, err = ask(
        tmp_path, capsys, speculation, "--for", engine, "--set", "deployment.tensor_parallel=2"
    )  # fmt: skip
    assert status == 0, err
    assert out.splitlines()[3].startswith(start)
    assert "YOUR-EAGLE3-CHECKPOINT" in out
    assert "--draft-model" in err


def test_a_schedule_s_graphs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """vLLM before 0.25 ran a batch-size schedule in pieces; later versions pad steps of the shorter lengths."""
    speculation = {"program": "eagle3", "max_draft_tokens": 5}
    options = ("--for", "vllm", "--json", "--tolerance", "0", "--set", "engine.max_num_seqs=200")
    old = json.loads(ask(tmp_path, capsys, speculation, *options, "--engine", "vllm 0.24")[1])
    assert any("piecewise where k follows the batch size" in note and "Runner V2" in note for note in old["notes"])
    new = json.loads(ask(tmp_path, capsys, speculation, *options)[1])
    assert not any("piecewise" in note for note in new["notes"])
    lengths = {entry[2] for entry in new["ranges"]}
    matching = next(note for note in new["notes"] if note.startswith("capture sizes"))
    sizes = {int(word) for word in matching.split() if word.isdigit()}
    for first, last, k in new["ranges"]:
        inside = [count for count in (8, 16, 24, 32, 64, 128) if first <= count <= last and count * (1 + k) <= 512]
        assert {count * (1 + k) for count in inside} <= sizes
    assert len(lengths - {0}) > 1


def test_the_best_length_by_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speculation = {"program": "eagle3", "max_draft_tokens": 3}
    status, out, _ = ask(tmp_path, capsys, speculation, "--for", "vllm", "--contexts", "500,4000", "--json")
    assert status == 0
    found = json.loads(out)["by_context"]
    assert [one["context_tokens"] for one in found] == [500, 4000]
    assert all({row["draft_tokens"] for row in one["best"]} <= {0, 1, 2, 3} for one in found)


@pytest.mark.parametrize(
    ("engine", "line"),
    [("vllm", "--speculative-config"), ("sglang", "--speculative-algorithm"), ("tensorrt-llm", "speculative_config")],
)
def test_where_nothing_pays_it_says_off_and_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, line: str
) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 4, "acceptance": {"kind": "constant", "rate": 0.02}}
    status, out, err = ask(tmp_path, capsys, speculation, "--for", engine)
    assert status == 3
    assert f"# off: start {engine} without {line}" in out
    assert len(err.strip().splitlines()) == 1
    assert "no k pays at any batch size up to 96" in err
    status, out, _ = ask(tmp_path, capsys, speculation, "--for", engine, "--json")
    assert status == 3
    assert json.loads(out)["policy"] == {"kind": "fixed", "k": 0}


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        (("--for", "vllm", "--tolerance", "2"), 2, "give a share of throughput"),
        (("--for", "vllm", "--batches", "1,x"), 2, "it should be a list of whole numbers"),
        (("--for", "trtllm"), 2, "trtllm"),
        (("--for", "vllm", "--context", "9000000"), 3, "does not fit"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], status: int, line: str
) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 4, "acceptance": {"kind": "constant", "rate": 0.7}}
    found, _, err = ask(tmp_path, capsys, speculation, *options)
    assert found == status
    assert line in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_without_a_drafter_there_is_nothing_to_tune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SCENARIO))
    assert main(["tune", str(path), "--for", engine]) == 2
    assert "add a drafter" in capsys.readouterr().err


@pytest.mark.parametrize("how", [(), ("--by-formula",)])
def test_a_program_that_drafts_nothing_has_no_k(capsys: pytest.CaptureFixture[str], how: tuple[str, ...]) -> None:
    assert main(["tune", "cpu-144m", "--for=vllm", "--set=speculation.program=none", *how]) == 2
    assert capsys.readouterr().err.endswith(
        "none drafts nothing here, so that there is no k to choose; name a drafter\n"
    )


def test_a_drafter_that_no_engine_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SGLang has no Medusa."""
    rates = {"kind": "constant", "rate": 0.7}
    own = {"name": "medusa", "source": "test", "lossless": True, "proposal": "copy"}
    speculation = {"program": own, "max_draft_tokens": 4, "acceptance": rates}
    status, _, err = ask(tmp_path, capsys, speculation, "--for", "sglang")
    assert status == 3
    assert "SGLang has no method 'medusa'" in err


def test_predict_chooses_an_exit_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.yaml"
    law = {"kind": "layer_indexed", "exit_layer": 8, "rates": {2: 0.4, 8: 0.8}}
    speculation = {"program": "layerskip", "max_draft_tokens": 3, "acceptance": law}
    path.write_text(yaml.safe_dump(SCENARIO | {"speculation": speculation}))
    assert main(["predict", str(path), "--batches", "1,64", "--batch", "64", "--exit-layers", "2,8", "--json"]) == 0
    exits = json.loads(capsys.readouterr().out)["exits"]
    assert [row["batch"] for row in exits] == [1, 64]
    assert all(row["exit_layer"] in (2, 8) and row["counted_speedup"] <= row["speedup"] for row in exits)
    assert main(["predict", str(path), "--exit-layers", "2,40"]) == 2
    assert "exit layer 40 is outside the listed layers" in capsys.readouterr().err
