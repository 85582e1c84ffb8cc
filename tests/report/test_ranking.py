"""What a comparison of techniques says of its acceptance."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.report.assumed import ranking_line
from specsim.scenario import Scenario


def question(program: str, **speculation: Any) -> Scenario:
    fields: dict[str, Any] = {
        "schema": 1, "name": "made", "model": "llama-3.1-8b", "gpu": "h100-sxm",
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
    assert "Acceptance of eagle3, medusa" in line
    assert "ranks benchmarks" in line


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
