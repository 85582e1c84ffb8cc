"""A run as people read it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from specsim.assembly import Assembly, assemble
from specsim.report.served import limited_line, run_table, slo_line
from specsim.results import Slo
from specsim.scenario import ShortOptions, ask
from specsim.serving.simulate import simulate

ASKED = ShortOptions(
    model="llama-3.1-8b", gpu="h100", drafter="eagle3", concurrency=12, prompt_tokens=64, output_tokens=32
)
ROOFLINE = ["cost.source=roofline", "workload.requests=60"]


def asked(*settings: str) -> Assembly:
    return assemble(ask(None, ASKED, [*ROOFLINE, *settings]).scenario)


def told(summaries: dict[str, dict[str, Any]], base: str | None = None) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(run_table(summaries, base))
    return capture.get()


def test_figures_have_units_and_the_change_has_one_direction() -> None:
    on = {"completed": 4, "p95_ttft_ms": 250.0, "goodput_share": 0.5, "p50_e2el_ms": 3000.0, "saturated": False}
    off = on | {"p95_ttft_ms": 200.0, "saturated": True}
    rows = {line[:24].strip(): line[24:].split() for line in told({"on": on, "off": off}, "off").splitlines() if line}
    assert rows["one run of each"] == ["off", "on", "change"]
    assert rows["TTFT p95, ms"] == ["200", "250", "+25.0%"]
    assert rows["goodput, % of requests"] == ["50.0", "50.0", "+0.0%"]
    assert rows["E2E p50, s"] == ["3.00", "3.00", "+0.0%"]
    assert rows["queue kept growing"] == ["yes", "no"]
    assert "preemptions" in rows
    assert "TPOT p50, ms" not in rows


def test_the_slo_is_answered_with_what_missed_first() -> None:
    summary = {"p95_ttft_ms": 800.0, "p99_tpot_ms": 50.0, "saturated": False, "truncated": False}
    both = Slo.model_validate({"ttft_s": {"p95": 1.0}, "tpot_s": {"p99": 0.04}})
    assert slo_line(summary, both) == (
        "SLO missed: TPOT p99 50 ms (limit 40 ms, 25% above); TTFT p95 800 ms (limit 1 s, 20% below)"
    )
    met = Slo.model_validate({"ttft_s": {"p95": 1.0}})
    assert slo_line(summary, met).startswith("SLO met: TTFT p95 800 ms")
    assert "kept growing" in slo_line(summary | {"saturated": True}, met)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["engine.max_num_seqs=4"], "max_num_seqs, 4"),
        (["engine.num_kv_blocks=30"], "the KV cache, 30 blocks"),
        (["engine.max_num_batched_tokens=64"], "the tokens of a step, 64"),
        ([], "no request waited for room"),
    ],
)
def test_what_limited_a_run_is_the_limit_that_was_made_short(settings: list[str], word: str) -> None:
    machine = asked(*settings)
    line = limited_line(simulate(machine).summary(), machine)
    assert line is not None
    assert word in line


def test_prompts_found_in_the_prefix_cache_count(tmp_path: Any) -> None:
    """Two alike prompts of 64 tokens, one after the other: the second finds all whole blocks but the last."""
    trace = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 10_000 * i, "input_length": 1024, "output_length": 4, "hash_ids": [7, 8]} for i in range(2)]
    trace.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
    scenario = ask(
        None,
        ShortOptions("llama-3.1-8b", "h100"),
        [
            "cost.source=roofline",
            f"workload={{kind: trace, path: {trace}}}",
            "engine.prefix_caching=true",
        ],
    ).scenario
    result = simulate(assemble(scenario))
    assert [one.cached_tokens for one in result.requests] == [0, 1008]
    assert result.summary()["prefix_cache_hit_rate"] == pytest.approx(1008 / 2048)
    streamed = simulate(assemble(scenario), keep=False).summary()
    for key in ("prefix_cache_hit_rate", "mean_kv_cache_usage", "peak_kv_cache_usage", "mean_batch", "steps"):
        assert streamed[key] == pytest.approx(result.summary()[key])
