"""``specsim tune``: what it prints is read back by each engine's reader as the same schedule."""

from __future__ import annotations

import json
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
    status = main(["tune", str(path), *options])
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


def test_the_text_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line on stdout is the configuration itself, and no remark mixes with it."""
    speculation = DRAFT_MODEL | {"max_draft_tokens": 4, "acceptance": {"kind": "unconditional", "rates": RATES}}
    status, out, _ = ask(tmp_path, capsys, speculation, "--for", "vllm", "--set", "engine={}")
    assert status == 0
    config = read_vllm(out.splitlines()[0])
    assert config.method == "draft_model"
    assert config.limits == {"max_num_seqs": 1024}  # what the schedule was priced for, though the engine's default
    assert "the best single k" in out
    assert "x off (90 %" in out
    assert "for an oracle" in out


def test_the_schedule_under_the_scenario_s_own_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speculation = DRAFT_MODEL | {"max_draft_tokens": 4, "acceptance": {"kind": "unconditional", "rates": RATES}}
    status, out, _ = ask(tmp_path, capsys, speculation, "--for", "vllm", "--load", "--json")
    assert status == 0
    document = json.loads(out)
    names = ["off", f"k={document['fixed_draft_tokens']}", "schedule"]
    assert list(document["load"]) == names
    assert [document["load"][name]["completed"] for name in names] == [40] * 3
    assert document["load"]["schedule"]["mean_tpot_ms"] < document["load"]["off"]["mean_tpot_ms"]
    assert ask(tmp_path, capsys, speculation, "--for", "vllm", "--load")[1].count("mean_tpot_ms") == 1


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
        (("--for", "vllm", "--batches", "1,x"), 2, "is not a list of whole numbers"),
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
