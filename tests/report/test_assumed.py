"""What an answer says that it does not model."""

from __future__ import annotations

import pytest

from specsim.report.assumed import deployment_lines, engine_line
from specsim.scenario import load_scenario


@pytest.mark.parametrize(
    ("model", "engine", "line"),
    [
        ("gpt-oss-20b", "sglang", "SGLang's pools of their own for windows and for states are not modelled"),
        ("qwen3-next-80b-a3b", "sglang", "SGLang's pools of their own for windows and for states are not modelled"),
        ("gpt-oss-20b", "vllm", "what windows hold until a chunk of a long prompt is computed is not modelled"),
        ("qwen3-next-80b-a3b", "vllm", None),
        ("llama-3.1-8b", "sglang", None),
    ],
)
def test_what_a_cache_of_several_kinds_leaves_out_is_said(model: str, engine: str, line: str | None) -> None:
    settings = [f"model={model}", f"engine.kind={engine}", "gpu=h200", "speculation=null"]
    found = deployment_lines(load_scenario("cpu-144m", settings))
    assert [line in one for one in found] == ([True] if line else [])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model=llama-3.1-8b"], "weights of 16 bits, the model's own, KV cache of 16 bits"),
        (["model=deepseek-v3", "deployment.tensor_parallel=8"], "weights in fp8-block, the model's own"),
        (["model=llama-3.1-8b", "deployment.weight_format=fp8"], "weights in fp8, in place of the model's 16 bits"),
        (["model=llama-3.1-8b", "deployment.kv_bits=8"], "KV cache of 8 bits"),
    ],
)
def test_how_weights_and_cache_are_stored_is_said(settings: list[str], told: str) -> None:
    assert told in engine_line(load_scenario("cpu-144m", [*settings, "gpu=h200", "speculation=null"]))
