"""What a comparison of techniques says of its acceptance."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.report.assumed import ranking_line
from specsim.scenario import Scenario


def question(program: str, model: str = "llama-3.1-8b", **speculation: Any) -> Scenario:
    fields: dict[str, Any] = {
        "schema": 1, "name": "made", "model": model, "gpu": "h100-sxm",
        "speculation": {"program": program} | speculation,
        "workload": {
            "kind": "synthetic", "arrivals": {"kind": "closed_loop", "concurrency": 4}, "requests": 10,
            "lengths": {"kind": "fixed", "prompt_tokens": 64, "output_tokens": 256},
        },
    }  # fmt: skip
    return Scenario.model_validate(fields)


MEASURED = {"acceptance": {"kind": "constant", "rate": 0.6}}


def test_published_acceptance_ranks_benchmarks() -> None:
    line = ranking_line([question("eagle3").speculation, question("medusa").speculation, None])
    assert line is not None
    assert "Acceptance of eagle3 (MT-bench), medusa (data not told)" in line
    assert "ranks benchmarks" in line


def test_each_drafter_is_named_by_its_program_and_what_its_acceptance_was_counted_on() -> None:
    """PARD and two-model speculation may run the same draft model: each has its own data."""
    draft = {"draft_model": "llama-3.2-1b"}
    asked = [question("pard", **draft), question("draft-model", **draft), question("dflash"), question("eagle3")]
    line = ranking_line(one.speculation for one in asked)
    assert line is not None
    for told in (
        "pard with Llama-3.2-1B (HumanEval, Llama-3.1-8B)",
        "draft-model with Llama-3.2-1B (assumed)",
        "dflash (MT-bench, Llama-3.1-8B)",
    ):
        assert told in line


def test_a_drafters_own_figure_on_the_model_comes_before_that_of_another() -> None:
    """DFlash's paper counts 6.49 tokens a round with 15 drafts on Qwen3-8B, vLLM 2.93 with 8 on Llama-3.1-8B."""
    own, other = question("dflash", model="qwen3-8b").speculation, question("dflash").speculation
    assert own is not None
    assert other is not None
    assert own.acceptance.expected_tokens(15) == pytest.approx(6.49, rel=0.01)
    assert other.acceptance.expected_tokens(8) == pytest.approx(2.93, rel=0.01)
    assert "Qwen3-8B" in own.acceptance_origin.sentence()
    stated = question("dflash", model="qwen3-8b", acceptance={"kind": "constant", "rate": 0.5}).speculation
    assert stated is not None
    assert stated.acceptance.expected_tokens(1) == 1.5


@pytest.mark.parametrize(
    "scenarios",
    [
        [question("eagle3"), question("eagle3", max_draft_tokens=2)],  # one drafter, two lengths
        [question("eagle3", **MEASURED), question("medusa", **MEASURED)],  # both measured on the workload
        [question("eagle3"), question("eagle3").without_speculation()],
    ],
)
def test_other_comparisons_need_no_such_remark(scenarios: list[Scenario]) -> None:
    assert ranking_line(one.speculation for one in scenarios) is None
