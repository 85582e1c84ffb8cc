"""Results of load generators: the load and the figures, under one set of names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.errors import InvalidInput
from specsim.interop.load_results import read_load_results
from specsim.scenario import load_scenario

BENCH = {
    "completed": 64, "duration": 10.0, "total_input_tokens": 46_016, "total_output_tokens": 16_384,
    "request_rate": "inf", "max_concurrency": 8, "output_throughput": 1638.4, "request_throughput": 6.4,
    "median_ttft_ms": 80.1, "p99_ttft_ms": 200.0, "median_tpot_ms": 8.1, "std_tpot_ms": 0.0,
}  # fmt: skip
AIPERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 6.4},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1638.4},
    "time_to_first_token": {"unit": "ms", "avg": 90.0, "p50": 80.1, "p99": 200.0},
    "inter_token_latency": {"unit": "ms", "avg": 8.2, "p50": 8.1},
    "input_sequence_length": {"avg": 719.0},
    "output_sequence_length": {"avg": 256.0},
    "request_count": {"avg": 64.0},
    "input_config": {"loadgen": {"concurrency": 8}},
}


def guidellm(**successful: float) -> dict[str, Any]:
    means = {
        "requests_per_second": 6.4,
        "output_tokens_per_second": 1638.4,
        "prompt_token_count": 719.0,
        "output_token_count": 256.0,
        "request_concurrency": 7.8,
    } | successful
    metrics: dict[str, Any] = {name: {"successful": {"mean": value}} for name, value in means.items()}
    metrics["time_to_first_token_ms"] = {"successful": {"mean": 90.0, "median": 80.1, "percentiles": {"p99": 200.0}}}
    metrics["request_totals"] = {"successful": 64, "errored": 0}
    return {"benchmarks": [{"metrics": metrics}]}


@pytest.mark.parametrize(
    ("document", "name"), [(BENCH, "vllm bench serve"), (AIPERF, "AIPerf"), (guidellm(), "GuideLLM")]
)
def test_every_generator_gives_the_same_load_and_figures(tmp_path: Path, document: Any, name: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    (found,) = read_load_results(path)
    assert (found.format, found.requests, found.concurrency) == (name, 64, 8)
    assert (found.prompt_tokens, found.output_tokens) == (719, 256)
    expected = {"output_throughput": 1638.4, "request_throughput": 6.4, "median_ttft_ms": 80.1, "p99_ttft_ms": 200.0}
    assert expected.items() <= found.metrics.items()
    scenario = load_scenario("cpu-144m", [f"workload={json.dumps(found.workload())}"])
    assert scenario.workload.mean_lengths() == (719, 256)


def test_an_open_loop_keeps_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(BENCH | {"request_rate": 2.5, "max_concurrency": None}))
    assert read_load_results(path)[0].workload()["arrivals"] == {"kind": "poisson", "rate_per_s": 2.5}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (json.dumps(BENCH | {"completed": 0}), "completed is 0; a finished run has a number above 0"),
        (json.dumps(BENCH | {"total_output_tokens": "...."}), "total_output_tokens is '....'"),
        ('{"output_throughput": NaN, "completed": 3, "total_input_tokens": 1}', "is None"),
        ("{}", "its keys are"),
        (json.dumps({"benchmarks": []}), "lists no run"),
        (json.dumps({"benchmarks": [3]}), "requests_per_second.mean is None"),
        (json.dumps(AIPERF | {"input_sequence_length": 3}), "input_sequence_length.avg is None"),
    ],
)
def test_what_no_finished_run_says_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=fault) as caught:
        read_load_results(path)
    assert "\n" not in str(caught.value)
