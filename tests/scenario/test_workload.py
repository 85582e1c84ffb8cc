"""Workloads: what is drawn depends on the seed and on nothing else, and traces are re-timed as asked."""

from __future__ import annotations

import shutil
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from specsim.errors import InvalidInput
from specsim.scenario import SyntheticWorkload, TraceWorkload, Workload, load_scenario, workload
from specsim.workload.request import Requests

FIXED = {"kind": "fixed", "prompt_tokens": 10, "output_tokens": 20}
LOGNORMAL = {"kind": "lognormal", "prompt_mean": 300, "prompt_cv": 1.0, "output_mean": 100, "output_cv": 1.0}
POISSON = {"kind": "poisson", "rate_per_s": 5.0}
CODE = {"name": "code", "weight": 3, "lengths": FIXED, "acceptance": {"kind": "constant", "rate": 0.9}, "priority": 2}
CHAT = {"name": "chat", "weight": 1}


def synthetic(**changes: Any) -> SyntheticWorkload:
    fields = {"arrivals": POISSON, "lengths": LOGNORMAL, "requests": 40_000, "classes": [CODE, CHAT]}
    return SyntheticWorkload.model_validate(fields | changes)


def columns(requests: Requests) -> list[Any]:
    return [
        None if values is None else values.tolist()
        for values in (requests.arrival_s, requests.prompt_tokens, requests.output_tokens, requests.class_index)
    ]


@pytest.mark.parametrize("size", [1000, 16_384, 39_999, 10**6])
def test_chunks_of_any_size_hold_the_same_requests(size: int) -> None:
    workload = synthetic()
    parts = list(workload.chunks(3, size))
    assert [part.first_id for part in parts] == list(range(0, 40_000, size))
    whole = columns(workload.draw(3))
    assert [list(chain(*found)) for found in zip(*map(columns, parts), strict=True)] == whole


def test_a_short_run_is_the_start_of_a_long_one() -> None:
    long, short = synthetic().draw(5), synthetic(requests=100).draw(5)
    assert columns(long.part(0, 100)) == columns(short)


def test_seeds_differ_and_repeat() -> None:
    assert columns(synthetic().draw(1)) == columns(synthetic().draw(1))
    assert columns(synthetic().draw(1)) != columns(synthetic().draw(2))


def test_one_choice_does_not_move_the_others() -> None:
    """Common random numbers: arrivals, classes and a class's own lengths each have their own luck."""
    base = synthetic().draw(7)
    other_law = synthetic(lengths=FIXED).draw(7)
    assert other_law.arrival_s is not None
    assert base.arrival_s is not None
    assert other_law.arrival_s.tolist() == base.arrival_s.tolist()
    assert other_law.class_index.tolist() == base.class_index.tolist()
    faster = synthetic(arrivals={"kind": "poisson", "rate_per_s": 10.0}).draw(7)
    assert columns(faster)[1:] == columns(base)[1:]
    third = synthetic(classes=[CODE | {"lengths": LOGNORMAL}, CHAT, {"name": "rare", "weight": 1e-9}]).draw(7)
    chat = base.class_index == 1
    assert third.prompt_tokens[chat].tolist() == base.prompt_tokens[chat].tolist()


def test_speculation_leaves_the_requests_alone() -> None:
    settings = [("speculation.max_draft_tokens=1",), ("speculation.max_draft_tokens=5",), ("speculation=null",)]
    first, *others = [load_scenario("cpu-144m", setting).requests() for setting in settings]
    assert all(other == first for other in others)


def test_classes_come_in_their_shares_with_their_lengths() -> None:
    requests = synthetic().draw(0)
    code = requests.class_index == 0
    assert abs(code.mean() - 0.75) < 5 * (0.75 * 0.25 / 40_000) ** 0.5
    assert set(requests.prompt_tokens[code].tolist()) == {10}
    assert requests.prompt_tokens[~code].mean() == pytest.approx(300, rel=0.05)
    assert requests.classes == ("code", "chat")
    assert requests.part(0, 50).rows()[0].priority == (2 if code[0] else 0)
    law = synthetic().acceptance_by_class()
    assert list(law) == ["code"]
    assert law["code"].conditional_rates(2).tolist() == [0.9, 0.9]
    assert synthetic().mean_lengths() == pytest.approx((0.75 * 10 + 0.25 * 300, 0.75 * 20 + 0.25 * 100))


def test_a_class_is_a_function_of_the_requests_number() -> None:
    """Weights 1:1 and 1:3 cut the same number in [0, 1) at 1/2 and 1/4: what is a under the second is a under both."""
    even = synthetic(classes=[{"name": "a"}, {"name": "b"}]).draw(9).class_index
    uneven = synthetic(classes=[{"name": "a"}, {"name": "b", "weight": 3}]).draw(9).class_index
    assert not even[uneven == 0].any()
    assert abs((uneven == 0).sum() / (even == 0).sum() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"lengths": None}, "class 'chat' has none"),
        ({"lengths": None, "classes": []}, "lengths are missing"),
        ({"classes": [CHAT, CHAT]}, "class 'chat' is given twice"),
        ({"requests": 0}, "requests"),
        ({"requests": 10**12}, "requests"),
        ({"classes": [CHAT | {"weight": 0}]}, "weight"),
        ({"lengths": FIXED | {"prompt_tokens": 10**12}}, "prompt_tokens"),
    ],
)
def test_malformed_synthetic_workloads(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        synthetic(**changes)


def test_class_lengths_are_enough() -> None:
    workload = synthetic(lengths=None, classes=[CODE])
    assert set(workload.draw(0).output_tokens.tolist()) == {20}


def test_closed_loop_requests_have_think_times_instead_of_arrivals() -> None:
    closed = {"kind": "closed_loop", "concurrency": 3, "think_s": 2.0, "think": "exponential"}
    workload = synthetic(arrivals=closed)
    requests = workload.draw(0)
    assert requests.arrival_s is None
    assert requests.think_s is not None
    assert abs(requests.think_s.mean() - 2.0) < 5 * 2.0 / 200
    assert workload.clients is not None
    assert columns(requests)[1:] == columns(synthetic().draw(0))[1:]


def test_a_million_requests_take_little_memory() -> None:
    workload = synthetic(requests=1_000_000)
    tracemalloc.start()
    count = sum(len(part) for part in workload.chunks(0, 10_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1_000_000
    assert peak < 8e6  # all at once are 18 MB, as objects a hundred and more


ROWS = [(2.0, 100, 10, "code"), (0.0, 50, 5, "chat"), (1.0, 400, 40, "code"), (6.0, 10, 80, "chat")]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    lines = ["arrival_s,prompt_tokens,output_tokens,acceptance_class", *(",".join(map(str, row)) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_trace_is_replayed_by_arrival(trace: Path) -> None:
    rows = TraceWorkload(path=trace).draw(0).rows()
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens, r.request_class) for r in rows] == sorted(ROWS)


def times(workload: TraceWorkload, seed: int = 0) -> list[float]:
    found = workload.draw(seed).arrival_s
    assert found is not None
    return found.tolist()


def test_retiming(trace: Path) -> None:
    assert times(TraceWorkload(path=trace, speed=2.0)) == [0.0, 0.5, 1.0, 3.0]
    assert times(TraceWorkload(path=trace, rate_per_s=1.0)) == [0.0, 0.5, 1.0, 3.0]  # 3 gaps in 6 s are 0.5/s
    assert times(TraceWorkload(path=trace, requests=2)) == [0.0, 1.0]
    workload = TraceWorkload.model_validate({"path": trace, "arrivals": POISSON})
    same = synthetic(requests=4).draw(0)
    assert same.arrival_s is not None
    assert times(workload) == same.arrival_s.tolist()
    assert workload.draw(0).prompt_tokens.tolist() == [50, 400, 100, 10]


def test_a_trace_in_a_closed_loop(trace: Path) -> None:
    closed = {"kind": "closed_loop", "concurrency": 2, "think_s": 0.5}
    requests = TraceWorkload.model_validate({"path": trace, "arrivals": closed}).draw(0)
    assert requests.arrival_s is None
    assert requests.think_s is not None
    assert requests.think_s.tolist() == [0.5] * 4


def test_caps_and_drops(trace: Path) -> None:
    capped = TraceWorkload(path=trace, max_prompt_tokens=60, max_output_tokens=30).draw(0)
    assert capped.prompt_tokens.tolist() == [50, 60, 60, 10]
    assert capped.output_tokens.tolist() == [5, 30, 10, 30]
    dropped = TraceWorkload(path=trace, max_prompt_tokens=60, longer="drop").draw(0)
    assert dropped.prompt_tokens.tolist() == [50, 10]
    assert [row.request_id for row in dropped.rows()] == [0, 1]
    with pytest.raises(InvalidInput, match="no request within"):
        TraceWorkload(path=trace, max_prompt_tokens=5, longer="drop").draw(0)


def test_shuffling_moves_requests_over_the_same_times(trace: Path) -> None:
    workload = TraceWorkload(path=trace, shuffle=True)
    seen = set()
    for seed in range(40):
        requests = workload.draw(seed)
        assert times(workload, seed) == [0.0, 1.0, 2.0, 6.0]
        assert sorted(zip(requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True)) == sorted(
            (prompt, output) for _, prompt, output, _ in ROWS
        )
        seen.add(tuple(requests.prompt_tokens.tolist()))
    assert len(seen) > 10  # of 24 orders


def test_trace_lengths_as_a_law(trace: Path) -> None:
    workload = synthetic(lengths={"kind": "trace", "path": trace, "max_output_tokens": 50}, classes=[])
    requests = workload.draw(0)
    pairs, counts = np.unique(np.stack((requests.prompt_tokens, requests.output_tokens)), axis=1, return_counts=True)
    assert sorted(zip(*pairs.tolist(), strict=True)) == [(10, 50), (50, 5), (100, 10), (400, 40)]
    assert np.all(np.abs(counts / 40_000 - 0.25) < 5 * (3 / 16 / 40_000) ** 0.5)
    assert workload.mean_lengths() == (140.0, 26.25)


def test_classes_of_a_trace_have_laws(trace: Path) -> None:
    fields = {"path": trace, "classes": [{"name": "code", "acceptance": {"kind": "constant", "rate": 0.9}}]}
    workload = TraceWorkload.model_validate(fields)
    assert list(workload.acceptance_by_class()) == ["code"]
    assert [row.request_class for row in workload.draw(0).rows()] == ["chat", "code", "code", "chat"]
    fields["classes"] = [{"name": "cod", "priority": 1}]
    with pytest.raises(InvalidInput, match=r"names no class 'cod'; its classes: .*code"):
        TraceWorkload.model_validate(fields).draw(0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"requests": 5}, "has 4 requests and requests is 5"),
        ({"path": "absent.csv"}, "there is no trace absent.csv"),
    ],
)
def test_traces_that_cannot_serve(trace: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        TraceWorkload.model_validate({"path": trace} | changes).draw(0)


@pytest.mark.parametrize("changes", [{"speed": 2, "rate_per_s": 1}, {"speed": 0}, {"rate_per_s": float("nan")}])
def test_contradictory_retiming(trace: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TraceWorkload.model_validate({"path": trace} | changes)


def test_simultaneous_arrivals_have_no_rate(tmp_path: Path) -> None:
    path = tmp_path / "burst.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n1,2,3\n1,2,3\n")
    assert times(TraceWorkload(path=path)) == [1.0, 1.0]
    with pytest.raises(InvalidInput, match="all arrive at once"):
        TraceWorkload(path=path, rate_per_s=1.0).draw(0)


def test_lengths_without_arrivals_need_some(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("num_prefill_tokens,num_decode_tokens\n5,6\n7,8\n")
    with pytest.raises(InvalidInput, match=r"add workload\.arrivals"):
        TraceWorkload(path=path).draw(0)
    assert TraceWorkload.model_validate({"path": path, "arrivals": POISSON}).draw(0).output_tokens.tolist() == [6, 8]


def test_a_changed_file_is_read_again(trace: Path) -> None:
    assert len(TraceWorkload(path=trace).draw(0)) == 4
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    assert len(TraceWorkload(path=trace).draw(0)) == 1


def test_a_scenarios_hash_covers_what_its_trace_holds(trace: Path) -> None:
    def found() -> str:
        return load_scenario("cpu-144m", [f"workload={{kind: trace, path: {trace}}}"]).sha256()

    first = found()
    assert found() == first
    trace.write_text(trace.read_text().replace("80,chat", "81,chat"))
    assert found() != first


def test_a_scenarios_hash_is_the_same_in_another_folder(tmp_path: Path, trace: Path) -> None:
    """What is predicted in one checkout can be measured in another."""

    def found(folder: str) -> str:
        moved = tmp_path / folder
        moved.mkdir()
        shutil.copy(trace, moved / "trace.csv")
        settings = [f"workload={{kind: trace, path: {moved}/trace.csv}}", f"cost={{profile: {moved}/profile}}"]
        return load_scenario("cpu-144m", settings).sha256()

    assert found("here") == found("there")


def test_paths_count_from_the_scenarios_folder(tmp_path: Path, trace: Path) -> None:
    source = Path(load_scenario.__code__.co_filename).parents[1] / "presets" / "cpu-144m.yaml"
    text = source.read_text()
    head, _ = text.split("  lengths:\n")
    (tmp_path / "case.yaml").write_text(f"{head}  lengths:\n    kind: trace\n    path: trace.csv\n  requests: 8\n")
    scenario = load_scenario(str(tmp_path / "case.yaml"))
    assert {r.prompt_tokens for r in scenario.requests()} <= {50, 400, 100, 10}


def test_a_class_law_shorter_than_the_longest_draft_is_refused() -> None:
    classes = "[{name: a, acceptance: {kind: conditional, rates: [0.5]}}]"
    with pytest.raises(InvalidInput, match="1 conditional rates and 6 tokens are drafted"):
        load_scenario("cpu-144m", [f"workload.classes={classes}"])


@pytest.mark.parametrize(("columns", "kind"), [(slice(4, 52), SyntheticWorkload), (slice(52, None), TraceWorkload)])
def test_the_examples_in_the_documentation_are_workloads(columns: slice, kind: type) -> None:
    lines = [line[columns] for line in (workload.__doc__ or "").splitlines() if line.startswith("    ")]
    fields = yaml.safe_load("\n".join(line.rstrip() for line in lines))["workload"]
    found = TypeAdapter[Workload](Workload).validate_python(fields)
    assert isinstance(found, kind)
    assert list(found.acceptance_by_class()) == ["code"]
