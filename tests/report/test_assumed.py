"""What an answer says that it does not model."""

from __future__ import annotations

import pytest

from specsim.report.assumed import deployment_lines
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
