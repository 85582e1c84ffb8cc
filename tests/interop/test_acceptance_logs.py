"""Acceptance read from what engines and load generators write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.errors import InvalidInput
from specsim.interop.acceptance_logs import (
    read_aiperf,
    read_bench_serve,
    read_prometheus,
    read_specdecode_bench,
    read_vllm_log,
    read_vllm_responses,
    read_vllm_summaries,
)

ENDS = [10, 20, 30, 40]  # rounds that accepted 0, 1, 2, 3 drafts: rates 0.9, 0.7, 0.4, length 3.0


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
        *(f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{{labels},position="{p}"}} {n}.0'
          for p, n in enumerate(reached)),
        f"vllm:num_requests_running{{{labels}}} 7.0",
    ]  # fmt: skip
    text = path.read_text() if path.exists() else ""
    path.write_text(text + "\n".join(lines) + "\n")
    return str(path)


def test_two_scrapes_are_subtracted_and_engines_added(tmp_path: Path) -> None:
    before, after = tmp_path / "before.prom", tmp_path / "after.prom"
    scrape(before, 50, [40, 20, 10])
    scrape(after, 110, [94, 62, 34])  # 60 rounds more: 54, 42, 24
    scrape(after, 40, [36, 28, 16], engine=1)
    counts = read_prometheus(after, before)
    assert counts.as_table() == {"3": ENDS}
    assert counts.acceptance_length() == pytest.approx(3.0)


def test_one_model_of_several_is_chosen(tmp_path: Path) -> None:
    after = tmp_path / "after.prom"
    scrape(after, 100, [90, 70, 40], model="big")
    scrape(after, 10, [1, 0, 0], model="small")
    assert read_prometheus(after, model="big").as_table() == {"3": ENDS}
    with pytest.raises(InvalidInput, match="counters of models big, small; choose one"):
        read_prometheus(after)
    with pytest.raises(InvalidInput, match="no vllm:spec_decode counters of model 'none'"):
        read_prometheus(after, model="none")


def test_counters_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    before, after = tmp_path / "before.prom", tmp_path / "after.prom"
    scrape(before, 200, [90, 70, 40])
    scrape(after, 100, [90, 70, 40])
    with pytest.raises(InvalidInput, match="counter 'drafts' is below its value"):
        read_prometheus(after, before)
    with pytest.raises(InvalidInput, match="no draft was verified"):
        read_prometheus(after, after)
    rising, other = tmp_path / "rising.prom", tmp_path / "other.prom"
    scrape(rising, 100, [50, 70])
    with pytest.raises(InvalidInput, match="more rounds accepted 2 drafts than 1"):
        read_prometheus(rising)
    other.write_text("vllm:num_requests_running 3.0\n")
    with pytest.raises(InvalidInput, match="no vllm:spec_decode counters;"):
        read_prometheus(other)
    with pytest.raises(InvalidInput, match="there is no file"):
        read_prometheus(tmp_path / "none.prom")


def test_shorter_drafts_are_warned_of(tmp_path: Path) -> None:
    after = tmp_path / "after.prom"
    scrape(after, 100, [90, 70, 40], drafted=250)
    with pytest.warns(UserWarning, match="250 tokens were drafted where k in every round makes 300"):
        read_prometheus(after)


def bench(**changes: Any) -> dict[str, Any]:
    return {
        "backend": "vllm", "completed": 10, "spec_decode_acceptance_rate": 66.7, "spec_decode_acceptance_length": 3.0,
        "spec_decode_num_drafts": 100, "spec_decode_draft_tokens": 300, "spec_decode_accepted_tokens": 200,
        "spec_decode_per_position_acceptance_rates": [0.9, 0.7, 0.4],
    } | changes  # fmt: skip


def test_bench_serve_results_are_read_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(bench()))
    assert read_bench_serve(path).as_table() == {"3": ENDS}
    path.write_text(json.dumps(bench(), indent=1) + "\n" + json.dumps(bench()))  # --append-result
    assert read_bench_serve(path).as_table() == {"3": [2 * n for n in ENDS]}


def test_own_results_keep_their_record(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"spec_decode_acceptance_counts": {"0": [5], "3": ENDS}}))
    assert read_bench_serve(path).as_table() == {"0": [5], "3": ENDS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("", "is empty"),
        ("[1]", "a int where a JSON object belongs"),
        (json.dumps({"completed": 3}), "no spec_decode_per_position_acceptance_rates"),
        (json.dumps(bench(spec_decode_per_position_acceptance_rates=[0.9, "x"])), "no spec_decode_per_position"),
        (json.dumps(bench(spec_decode_per_position_acceptance_rates=[0.4, 0.9])), "exceeds the one before it"),
        (json.dumps({"spec_decode_acceptance_counts": {"3": ["x"]}}), "is not"),
    ],
)
def test_malformed_bench_results_get_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_bench_serve(path)
    assert "\n" not in str(caught.value)


def test_aiperf_histogram(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    document: dict[str, Any] = {
        "schema_version": "1.4",
        "total_draft_tokens": {"unit": "tokens", "avg": 300.0},
        "pooled_spec_decode_acceptance_histogram": {"0": 10, "1": 20, "2": 30, "3": 40},
    }
    path.write_text(json.dumps(document))
    assert read_aiperf(path).as_table() == {"3": ENDS}
    document["total_draft_tokens"]["avg"] = 500.0
    path.write_text(json.dumps(document))
    assert read_aiperf(path).as_table() == {"5": [*ENDS, 0, 0]}
    del document["total_draft_tokens"]
    path.write_text(json.dumps(document))
    with pytest.warns(UserWarning, match="drafted tokens are not given, taken as 3 a round"):
        assert read_aiperf(path).as_table() == {"3": ENDS}
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="no histogram of accepted drafts"):
        read_aiperf(path)


def response(accepted: list[int], drafted: list[int]) -> dict[str, Any]:
    ends = [accepted.count(j) for j in range(4)]
    stats = {
        "acceptance_histogram": ends, "num_spec_steps": len(accepted), "num_draft_tokens": sum(drafted),
        "num_spec_tokens": 3, "per_step_accepted": accepted, "per_step_drafted": drafted,
    }  # fmt: skip
    return {"id": "x", "choices": [], "metrics": {"speculative_decoding": stats}}


def test_responses_give_rounds_by_request(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    several = [response([2, 0, 3], [3, 1, 3]), {"choices": [], "metrics": None}, response([1, 1], [3, 3])]
    path.write_text("\n".join(json.dumps(one) for one in several))
    first, second = read_vllm_responses(path)
    assert (first.drafted.tolist(), first.accepted.tolist()) == ([3, 1, 3], [2, 0, 3])
    assert second.counts().as_table() == {"3": [0, 2, 0, 0]}


def test_responses_without_steps_are_read_as_histograms(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    summary = response([1, 1], [3, 3])
    del summary["metrics"]["speculative_decoding"]["per_step_accepted"]
    path.write_text(json.dumps(summary))
    assert [one.as_table() for one in read_vllm_summaries(path)] == [{"3": [0, 2, 0, 0]}]
    with pytest.raises(InvalidInput, match="spec-decode-metrics detailed"):
        read_vllm_responses(path)
    path.write_text(json.dumps(response([4], [3])))
    with pytest.raises(InvalidInput, match="accepted more than it drafted"):
        read_vllm_responses(path)
    path.write_text("{}")
    for reader in (read_vllm_responses, read_vllm_summaries):
        with pytest.raises(InvalidInput, match="no response carries"):
            reader(path)


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
    assert read_vllm_log(path).as_table() == {"3": [20, 20, 30, 40]}
    path.write_text("INFO starting\n")
    with pytest.raises(InvalidInput, match="no 'SpecDecoding metrics' line"):
        read_vllm_log(path)


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
