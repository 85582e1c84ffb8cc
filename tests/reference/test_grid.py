"""The measured map: every cell visited once a repeat, at the context asked for, with the acceptance imposed."""

from __future__ import annotations

from typing import Any, get_args

import pytest

torch = pytest.importorskip("torch")

from specsim.assembly import assemble  # noqa: E402
from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.timing.grid import measure_grid  # noqa: E402
from specsim.reference.timing.host import HostPart, host_times  # noqa: E402
from specsim.results import GridRow  # noqa: E402
from specsim.scenario import Scenario  # noqa: E402

pytestmark = pytest.mark.torch

TARGET = {
    "name": "target", "source": "test", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "intermediate_size": 128, "vocab_size": 101, "weight_bits": 32,
}  # fmt: skip
CPU = {
    "name": "a-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 8e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 32_000_000,
}


def question(program: str = "draft-model", **lengths: int) -> Scenario:
    data: dict[str, Any] = {
        "schema": 1,
        "name": "map",
        "model": TARGET,
        "gpu": CPU,
        "deployment": {"kv_bits": 32},
        "speculation": {
            "program": program,
            "max_draft_tokens": 4,
            "acceptance": {"kind": "constant", "rate": 0.7},
            "draft_model": TARGET | {"num_layers": 1} if program == "draft-model" else None,
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
            "requests": 1,
            "lengths": {"kind": "fixed", "prompt_tokens": 48, "output_tokens": 64} | lengths,
        },
    }
    return Scenario.model_validate(data)


def measured(scenario: Scenario, **changes: Any) -> list[GridRow]:
    asked = {"batches": [1, 5], "draft_lengths": [0, 1, 4], "repeats": 2, "seconds_per_cell": 0.06} | changes
    return list(measure_grid(assemble(scenario), device="cpu", **asked))


@pytest.mark.parametrize("program", ["draft-model", "ngram"])
def test_rows_are_what_was_asked_for(program: str) -> None:
    scenario = question(program)
    rows = measured(scenario)
    cells = [(row.repeat, row.batch, row.draft_tokens) for row in rows]
    assert sorted(cells) == [(r, b, k) for r in (0, 1) for b in (1, 5) for k in (0, 1, 4)]
    assert [r for r, _, _ in cells] == [0] * 6 + [1] * 6  # a repeat ends before the next begins
    for row in rows:
        assert row.rounds >= 8
        assert 0 < row.round_p10_s <= row.round_s <= row.round_p90_s
        assert row.elapsed_s >= 0.06
        assert min(row.target_s, row.sample_s, row.host_s) > 0
        assert (row.draft_s > 0) == (program == "draft-model" and row.draft_tokens > 0)
        assert row.context_tokens == pytest.approx(scenario.mean_context_tokens(), abs=16)
        tokens = row.output_tokens / (row.rounds * row.batch)
        if row.draft_tokens == 0:
            assert tokens == 1.0
        else:  # a round's tokens spread by less than their own number, 1.7 at least
            expected = sum(0.7**i for i in range(row.draft_tokens + 1))
            assert tokens == pytest.approx(expected, abs=5 * 1.7 / (row.rounds * row.batch) ** 0.5)


def test_finished_cells_are_skipped_and_the_rest_is_measured() -> None:
    every = {(r, b, k) for r in (0, 1) for b in (1, 5) for k in (0, 1, 4)}
    done = every - {(0, 5, 1), (1, 1, 4)}
    rows = measured(question(), done=done, seconds_per_cell=0.01)
    assert {(row.repeat, row.batch, row.draft_tokens) for row in rows} == every - done


def test_rows_come_one_at_a_time() -> None:
    rows = measure_grid(
        assemble(question()), batches=[1], draft_lengths=[0, 2], repeats=50, seconds_per_cell=0.01, device="cpu"
    )
    assert next(rows).repeat == 0


def test_lengths_of_a_batch_follow_one_another_in_an_order_of_their_own() -> None:
    rows = measured(question(), batches=[1, 2, 3], draft_lengths=[0, 1, 2, 3], repeats=4, seconds_per_cell=0.0)
    blocks = [rows[i : i + 4] for i in range(0, len(rows), 4)]
    assert all(len({(row.repeat, row.batch) for row in block}) == 1 for block in blocks)
    assert len({tuple(row.draft_tokens for row in block) for block in blocks}) > 1
    assert len({tuple(block[0].batch for block in blocks[i : i + 3]) for i in range(0, 12, 3)}) > 1


def test_the_shortest_contexts_are_measured_too() -> None:
    rows = measured(question(prompt_tokens=1, output_tokens=2), batches=[2], repeats=1, seconds_per_cell=0.01)
    assert len(rows) == 3


def test_a_draft_longer_than_the_scenarios_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_draft_tokens 4"):
        measured(question(), draft_lengths=[0, 5])


def test_host_time_is_positive() -> None:
    times = host_times([1, 4], device="cpu", seconds_per_cell=0.05)
    assert {(t.part, t.sequences) for t in times} == {(p, b) for p in get_args(HostPart) for b in (1, 4)}
    for time in times:
        assert 0 < time.p10_s <= time.median_s <= time.p90_s
        assert time.samples >= 8
        if time.part == "step":
            assert 2e-5 < time.median_s < 0.5
