"""Acceptance read from what engines and load generators write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.acceptance import AcceptanceRecord, MeanAcceptance, read_acceptance, read_specdecode_bench

ENDS = [10, 20, 30, 40]  # rounds that accepted 0, 1, 2, 3 drafts: rates 0.9, 0.7, 0.4, length 3.0


def table(record: AcceptanceRecord) -> dict[str, list[int]]:
    assert record.counts is not None
    return record.counts.as_table()


def scrape(path: Path, drafts: int, reached: list[int], *, engine: int = 0, model: str = "m", drafted: int = 0) -> str:
    """Append one engine's counters, as vLLM's Prometheus endpoint writes them."""
    labels = f'engine="{engine}",model_name="{model}"'
    lines = [
        "# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.",
        "# TYPE vllm:spec_decode_num_drafts_total counter",
        f"vllm:spec_decode_num_drafts_total{{{labels}}} {drafts}.0",
        f"vllm:spec_decode_num_drafts_created{{{labels}}} 1.7e+09",
        f"vllm:spec_decode_num_draft_tokens_total{{{labels}}} {drafted or drafts * len(reached)}.0",
        f"vllm:spec_decode_num_accepted_tokens_total{{{labels}}} {sum(reached)}.0",
        *(
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{{labels},position="{p}"}} {n}.0'
            for p, n in enumerate(reached)
        ),
        f"vllm:num_requests_running{{{labels}}} 7.0",
    ]
    text = path.read_text() if path.exists() else ""
    path.write_text(text + "\n".join(lines) + "\n")
    return str(path)


def test_two_scrapes_are_subtracted_and_engines_added(tmp_path: Path) -> None:
    before, after = tmp_path / "before.prom", tmp_path / "after.prom"
    scrape(before, 50, [40, 20, 10])
    scrape(after, 110, [94, 62, 34])  # 60 rounds more: 54, 42, 24
    scrape(after, 40, [36, 28, 16], engine=1)
    record = read_acceptance(after, before)
    assert table(record) == {"3": ENDS}
    assert record.acceptance_length() == pytest.approx(3.0)


def test_one_model_of_several_is_chosen(tmp_path: Path) -> None:
    after = tmp_path / "after.prom"
    scrape(after, 100, [90, 70, 40], model="big")
    scrape(after, 10, [1, 0, 0], model="small")
    assert table(read_acceptance(after, model="big")) == {"3": ENDS}
    with pytest.raises(InvalidInput, match="counters of models big, small; choose one"):
        read_acceptance(after)
    with pytest.raises(InvalidInput, match="no vllm:spec_decode counters of model 'none'"):
        read_acceptance(after, model="none")


def test_counters_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    before, after = tmp_path / "before.prom", tmp_path / "after.prom"
    scrape(before, 200, [90, 70, 40])
    scrape(after, 100, [90, 70, 40])
    with pytest.raises(InvalidInput, match="counter 'drafts' is below its value"):
        read_acceptance(after, before)
    with pytest.raises(InvalidInput, match="no draft was verified"):
        read_acceptance(after, after)
    rising, other = tmp_path / "rising.prom", tmp_path / "other.prom"
    scrape(rising, 100, [50, 70])
    with pytest.raises(InvalidInput, match="more rounds accepted 2 drafts than 1"):
        read_acceptance(rising)
    other.write_text("vllm:num_requests_running 3.0\n")
    with pytest.raises(InvalidInput, match="no vllm:spec_decode counters;"):
        read_acceptance(other)
    with pytest.raises(InvalidInput, match="there is no file"):
        read_acceptance(tmp_path / "none.prom")


def test_shorter_drafts_are_told(tmp_path: Path) -> None:
    after = tmp_path / "after.prom"
    scrape(after, 100, [90, 70, 40], drafted=250)
    assert "250 tokens were drafted where k in every round makes 300" in read_acceptance(after).notes[0]


def bench(**changes: Any) -> dict[str, Any]:
    return {
        "backend": "vllm",
        "completed": 10,
        "spec_decode_acceptance_rate": 66.7,
        "spec_decode_acceptance_length": 3.0,
        "spec_decode_num_drafts": 100,
        "spec_decode_draft_tokens": 300,
        "spec_decode_accepted_tokens": 200,
        "spec_decode_per_position_acceptance_rates": [0.9, 0.7, 0.4],
    } | changes


def test_bench_serve_results_are_read_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(bench()))
    assert table(read_acceptance(path)) == {"3": ENDS}
    path.write_text(json.dumps(bench(), indent=1) + "\n" + json.dumps(bench()))  # --append-result
    assert table(read_acceptance(path)) == {"3": [2 * n for n in ENDS]}


def test_own_results_keep_their_record(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"spec_decode_acceptance_counts": {"0": [5], "3": ENDS}}))
    assert table(read_acceptance(path)) == {"0": [5], "3": ENDS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("", "no line of vLLM"),
        ("[1]", "a number where a JSON object belongs"),
        (json.dumps({"completed": 3}), "JSON of another kind; acceptance is in the server's /metrics or log"),
        (json.dumps(bench(spec_decode_per_position_acceptance_rates=[0.9, "x"])), "no spec_decode_per_position"),
        (json.dumps(bench(spec_decode_per_position_acceptance_rates=[0.4, 0.9])), "exceeds the one before it"),
        (json.dumps({"spec_decode_acceptance_counts": {"3": ["x"]}}), "is not"),
    ],
)
def test_malformed_bench_results_get_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_acceptance(path)
    assert "\n" not in str(caught.value)


def test_aiperf_histogram(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    document: dict[str, Any] = {
        "schema_version": "1.4",
        "total_draft_tokens": {"unit": "tokens", "avg": 300.0},
        "pooled_spec_decode_acceptance_histogram": {"0": 10, "1": 20, "2": 30, "3": 40},
    }
    path.write_text(json.dumps(document))
    assert table(read_acceptance(path)) == {"3": ENDS}
    document["total_draft_tokens"]["avg"] = 500.0
    path.write_text(json.dumps(document))
    assert table(read_acceptance(path)) == {"5": [*ENDS, 0, 0]}
    del document["total_draft_tokens"]
    path.write_text(json.dumps(document))
    record = read_acceptance(path)
    assert table(record) == {"3": ENDS}
    assert record.notes == ("drafted tokens are not given, taken as 3 a round",)


@pytest.mark.parametrize(
    ("histogram", "drafted", "message"),
    [
        ({"0": 10, "1": -1}, 30, "no histogram of accepted drafts"),
        ({"0": "...."}, 30, "no histogram of accepted drafts"),
        ({"2": 10}, 15, "20 of 15 drafted tokens accepted in 10 rounds is impossible"),
        ([], 30, "no histogram of accepted drafts"),
    ],
)
def test_counts_that_no_run_gives_are_refused(tmp_path: Path, histogram: object, drafted: int, message: str) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    document = {"total_draft_tokens": {"avg": drafted}, "pooled_spec_decode_acceptance_histogram": histogram}
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=message):
        read_acceptance(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"spec_decode_acceptance_counts": {"3": [10, 20, 30, 1.7e308]}}',
        '{"spec_decode_acceptance_counts": {"3": [10, 20, 30, 10000000000000000000000]}}',
        '{"timings": {"predicted_n": 1e300, "draft_n": 259, "draft_n_accepted": 167}}',
        f'{{"accept_length": 1{"0" * 350}}}',
    ],
)
def test_counts_that_nobody_counted_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match="more than any server"):
        read_acceptance(file)


@pytest.mark.parametrize("text", ['{"accept_length": NaN}', '{"accept_length": Infinity}', '{"accept_length": 1e999}'])
def test_numbers_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"acceptance is in the server's|larger than any float64"):
        read_acceptance(path)


def response(accepted: list[int], drafted: list[int]) -> dict[str, Any]:
    ends = [accepted.count(j) for j in range(4)]
    stats = {
        "acceptance_histogram": ends,
        "num_spec_steps": len(accepted),
        "num_draft_tokens": sum(drafted),
        "num_spec_tokens": 3,
        "per_step_accepted": accepted,
        "per_step_drafted": drafted,
    }
    return {"id": "x", "choices": [], "metrics": {"speculative_decoding": stats}}


def test_responses_give_rounds_by_request(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    several = [response([2, 0, 3], [3, 1, 3]), {"choices": [], "metrics": None}, response([1, 1], [3, 3])]
    path.write_text("\n".join(json.dumps(one) for one in several))
    record = read_acceptance(path)
    first, second = record.histories
    assert record.counts is not None
    assert len(record.requests) == 2
    assert (first.drafted.tolist(), first.accepted.tolist()) == ([3, 1, 3], [2, 0, 3])
    assert second.counts().as_table() == {"3": [0, 2, 0, 0]}


def test_responses_without_steps_are_read_as_histograms(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    summary = response([1, 1], [3, 3])
    del summary["metrics"]["speculative_decoding"]["per_step_accepted"]
    path.write_text(json.dumps(summary))
    assert [one.as_table() for one in read_acceptance(path).requests] == [{"3": [0, 2, 0, 0]}]
    path.write_text(json.dumps(response([4], [3])))
    with pytest.raises(InvalidInput, match="accepted more than it drafted"):
        read_acceptance(path)


LINE = (
    "(APIServer pid=1) INFO 09-04 11:01:16 [metrics.py:125] SpecDecoding metrics: Mean acceptance length: {length}, "
    "Accepted throughput: 6.46 tokens/s, Drafted throughput: 7.77 tokens/s, Accepted: {accepted} tokens, "
    "Drafted: {drafted} tokens, Per-position acceptance rate: {rates}, Avg Draft acceptance rate: 66.7%\n"
)


def test_log_lines_are_added_up(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    good = LINE.format(length="3.00", accepted=200, drafted=300, rates="0.900, 0.700, 0.400")
    none = LINE.format(length="1.00", accepted=0, drafted=30, rates="0.000, 0.000, 0.000")
    path.write_text("INFO starting\n" + good + "INFO other\n" + none)
    assert table(read_acceptance(path)) == {"3": [20, 20, 30, 40]}
    path.write_text("INFO starting\n")
    with pytest.raises(InvalidInput, match=r"no line of vLLM \('SpecDecoding metrics'\), SGLang"):
        read_acceptance(path)


def test_v0_counters_give_the_mean(tmp_path: Path) -> None:
    """vLLM V0: 100 rounds of 4 drafts, 150 accepted, each round emits one more."""
    path = tmp_path / "metrics.prom"
    names = {"accepted_tokens": 150, "draft_tokens": 400, "emitted_tokens": 250}
    lines = [f'vllm:spec_decode_num_{name}_total{{model_name="m"}} {value}.0' for name, value in names.items()]
    path.write_text("\n".join(lines))
    record = read_acceptance(path)
    assert record.mean == MeanAcceptance(2.5, 4, 100)
    assert record.law().expected_tokens(4) == pytest.approx(2.5)


def sglang_line(running: int, length: float, rate: float | None) -> str:
    told = "" if rate is None else f" accept rate: {rate:.2f},"
    return (
        f"[2026-11-02 02:56:41 TP0] Decode batch. #running-req: {running}, #token: 7352, token usage: 0.01, "
        f"accept len: {length:.2f},{told} cuda graph: True, gen throughput (token/s): 39.33, #queue-req: 0, \n"
    )


def test_sglang_lines_weigh_by_their_requests_and_either_rate_tells_k(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    lengths = {30: 2.5, 10: 3.3, 20: 2.14}
    mean = sum(n * length for n, length in lengths.items()) / 60
    for rate_of in (lambda length: (length - 1) / 3, lambda length: length / 4):  # of today; of before late 2025
        path.write_text("".join(sglang_line(n, length, rate_of(length)) for n, length in lengths.items()))
        record = read_acceptance(path)
        assert record.mean is not None
        assert record.mean.draft_tokens == 3
        assert record.acceptance_length() == pytest.approx(mean)
    path.write_text(sglang_line(4, 2.5, None))
    with pytest.raises(InvalidInput, match="keep the log's first lines, which hold server_args"):
        read_acceptance(path)
    path.write_text("server_args=ServerArgs(speculative_num_draft_tokens=6)\n" + sglang_line(4, 2.5, None))
    assert read_acceptance(path).draft_tokens() == 5


def test_sglang_gauges_are_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    path.write_text('# TYPE sglang:spec_accept_length gauge\nsglang:spec_accept_length{model_name="m"} 2.4\n')
    with pytest.raises(InvalidInput, match="as gauges of one moment"):
        read_acceptance(path)


def test_llama_cpp_logs_and_wrapped_responses(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(
        "0.06 I slot print_timing: id 1 | draft acceptance = 0.64479 (  167 accepted /   259 generated), "
        "mean acceptance length =  2.92, acceptance rate per position = (0.805, 0.632, 0.483)\n"
    )
    assert read_acceptance(log).acceptance_length() == pytest.approx(2.92, abs=0.005)
    body = {"timings": {"predicted_n": 256, "draft_n": 259, "draft_n_accepted": 167}}
    wrapped = tmp_path / "captured.jsonl"
    wrapped.write_text("\n".join(json.dumps({"id": n, "resp_body": json.dumps(body)}) for n in range(2)))
    record = read_acceptance(wrapped)
    assert record.acceptance_length() == pytest.approx(256 / 89)
    assert record.draft_tokens() == 3


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"request_throughput": 1.0, "mean_ttft_ms": 3.0}, "a vllm bench serve result without speculation"),
        ({"benchmarks": []}, "a GuideLLM report"),
        ({"architectures": ["LlamaForCausalLM"]}, "a model's config.json"),
    ],
)
def test_another_format_is_named(tmp_path: Path, document: dict[str, Any], told: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match=told):
        read_acceptance(path)


@given(st.floats(0.02, 0.98), st.integers(1, 12))
def test_a_mean_gives_back_its_rate(rate: float, k: int) -> None:
    length = (1 - rate ** (k + 1)) / (1 - rate)
    assert MeanAcceptance(length, k).law().rate == pytest.approx(rate, rel=1e-6)


def test_specdecode_bench_traces_count_the_bonus_token(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"id": 0, "acc_ngram": {"acc_len": [4, 3, 2, 1]}, "acc_eagle": {"acc_len": [2, 1, 1, 1]}}] * 2
    path.write_text("\n".join(json.dumps(row) for row in rows))
    law = read_specdecode_bench(path, "ngram")
    assert law.runs == ((3, 2, 1, 0),) * 2
    assert law.cap == 3
    assert law.expected_tokens(3) == pytest.approx(4.0)
    assert law.expected_tokens(1) == pytest.approx(2.0)  # runs of 3 in two rounds
    assert read_specdecode_bench(path, "ngram", cap=2).runs[0] == (2, 2, 1, 0)
    with pytest.raises(InvalidInput, match="no acceptance lengths of drafter 'medusa'; drafters there: eagle, ngram"):
        read_specdecode_bench(path, "medusa")
