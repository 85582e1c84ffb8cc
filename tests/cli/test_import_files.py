"""``specsim import`` prints YAML that a scenario takes as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from specsim.cli.main import main
from specsim.scenario import load_scenario


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    assert main(["import", *arguments]) == 0
    shown = capsys.readouterr()
    return yaml.safe_load(shown.out), shown.out


def test_acceptance_of_a_bench_result_goes_into_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    path.write_text(
        json.dumps(
            {
                "spec_decode_per_position_acceptance_rates": [0.8, 0.6, 0.3],
                "spec_decode_num_drafts": 1000,
                "spec_decode_draft_tokens": 3000,
            }
        )
    )
    fields, text = answer(["acceptance", str(path)], capsys)
    assert "# acceptance_length: 2.7\n" in text
    speculation = fields["speculation"]
    assert isinstance(speculation, dict)
    settings = [f"speculation.{name}={json.dumps(value)}" for name, value in speculation.items()]
    scenario = load_scenario("cpu-144m", settings)
    assert scenario.speculation is not None
    assert scenario.speculation.acceptance.expected_tokens(3) == pytest.approx(2.7)


def test_a_trace_and_a_model_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp,input_length,output_length\n0,100,10\n1000,200,30\n")
    fields, text = answer(["trace", str(trace)], capsys)
    assert fields == {"workload": {"kind": "trace", "path": str(trace)}}
    assert "# prompt_tokens_mean: 150" in text
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 4096,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "intermediate_size": 14336,
                "vocab_size": 128256,
            }
        )
    )
    fields, text = answer(["model", str(config)], capsys)
    assert "# parameters: 8,030,261,248\n" in text  # of Llama-3.1-8B, as published
    assert "# kv_bytes_per_token: 131,072\n" in text


def test_a_command_line_gives_engine_and_speculation(capsys: pytest.CaptureFixture[str]) -> None:
    words = '{"method": "eagle3", "model": "h/e", "num_speculative_tokens": 3}'
    fields, _ = answer(["config", f"vllm serve m --speculative-config '{words}' --max-num-seqs 64"], capsys)
    assert fields["engine"] == {"kind": "vllm", "max_num_seqs": 64}
    assert fields["speculation"]["max_draft_tokens"] == 3  # type: ignore[index]
