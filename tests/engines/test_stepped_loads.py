"""Loads on stepped engines, with a stand-in for one: clocks that are sums of steps, in the pace of the profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from specsim.cases import Case, load_case, write_prediction
from specsim.cli.engine_served import measure_engine_served
from specsim.cli.measure_engine import RealEngine
from specsim.engines import VLLM, SteppedLoads, engine_python
from specsim.errors import NoAnswer
from specsim.results import RequestRecord
from specsim.results.served_rows import load_rows
from tests.engines.test_rounds import Bench

PACE_S = 0.02  # of the stand-in's steps of a shape
Run = Callable[..., AbstractContextManager[SteppedLoads]]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench(tmp_path)
    monkeypatch.setenv("FAKE_LOG", str(found.log))
    monkeypatch.setattr("specsim.engines.stepped_loads.IDLE_S", 0.0)
    return found


@pytest.fixture
def run(bench: Bench) -> Run:
    @contextmanager
    def running(*settings: str, profiled_s: float = PACE_S) -> Iterator[SteppedLoads]:
        scenario = bench.ask(*settings, gpu="cpu-generic")
        loads = SteppedLoads(VLLM("bfloat16"), engine_python(bench.python), bench.folder / "out", profiled_s)
        loads.check(scenario.without_speculation(), bench.checkpoints)
        with loads.running({"off": (scenario.without_speculation(), bench.checkpoints)}):
            yield loads

    return running


def served(bench: Bench, loads: SteppedLoads, *settings: str) -> list[RequestRecord]:
    found = loads.serve({"off": bench.ask(*settings, gpu="cpu-generic").without_speculation()})["off"]
    assert found.num_kv_blocks == 512
    return list(found.requests)


OPEN = "workload.arrivals={kind: poisson, rate_per_s: 2}"
CLOSED = "workload.arrivals={kind: closed_loop, concurrency: 2}"


def test_requests_that_do_not_meet_take_their_own_steps(bench: Bench, run: Run) -> None:
    """9 tokens: one with the prompt, then 2 a step of 11 ms: 5 steps in all."""
    with run(OPEN) as loads:
        records = served(bench, loads, OPEN)
    assert len(records) == 12
    arrivals = np.array([record.arrival_s for record in records])
    alone = [i for i in range(1, 11) if min(arrivals[i] - arrivals[i - 1], arrivals[i + 1] - arrivals[i]) > 0.06]
    assert alone
    for record in (records[i] for i in alone):
        assert record.first_token_s - record.arrival_s == pytest.approx(0.011)
        assert record.finish_s - record.arrival_s == pytest.approx(0.055)


@pytest.mark.parametrize("slower", [1.0, 2.5])
def test_a_slower_machine_serves_the_same_load(bench: Bench, run: Run, slower: float) -> None:
    """The pace takes ``slower`` times what it took when steps were profiled: steps count that much less."""
    with run(CLOSED, profiled_s=PACE_S / slower) as loads:
        records = served(bench, loads, CLOSED)
    first = records[0]
    assert first.first_token_s - first.arrival_s == pytest.approx(0.012 / slower)


def test_as_many_are_in_flight_as_there_are_clients(bench: Bench, run: Run) -> None:
    with run(CLOSED) as loads:
        records = served(bench, loads, CLOSED)
    moments = sorted([(r.arrival_s, 1) for r in records] + [(r.finish_s, -1) for r in records])
    in_flight = np.cumsum([change for _, change in moments])
    assert in_flight.max() == 2
    assert in_flight[-1] == 0


def test_arrivals_are_the_workloads_own(bench: Bench, run: Run) -> None:
    with run(OPEN) as loads:
        records = served(bench, loads, OPEN)
    wanted = [request.arrival_s for request in bench.ask(OPEN, gpu="cpu-generic").requests()]
    assert [record.arrival_s for record in records] == wanted
    assert all(record.first_token_s > record.arrival_s for record in records)


def test_engines_of_a_gpu_do_not_take_turns(bench: Bench) -> None:
    loads = SteppedLoads(VLLM(), engine_python(bench.python), bench.folder / "out", PACE_S)
    with pytest.raises(NoAnswer, match="share no GPU"):
        loads.check(bench.ask().without_speculation(), bench.checkpoints)


# -- a case --------------------------------------------------------------------------------------------------------


@pytest.fixture
def case(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Case]:
    facts = {"device_name": "made", "versions": {"torch": "2"}}
    machine = {
        "default_dtype": "bfloat16",
        "facts": facts,
        "__init__": lambda *_: None,
        "probe_s": lambda *_: 1e-3,
    }
    monkeypatch.setattr("specsim.cli.engine_served.EngineMachine", type("Machine", (), machine))
    bench.ask(gpu="cpu-generic")
    (bench.folder / "question.yaml").rename(bench.folder / "scenario.yaml")
    (bench.folder / "loads.yaml").write_text(
        """
alternatives: {"off": ["speculation=null"], "again": ["speculation=null", "seed=2"]}
loads: {half: {kind: poisson, rate_per_s: 0.5}}
saturation_of: "off"
repeats: 2
clock: steps
"""
    )
    return lambda: load_case(f"{bench.folder}/")


def test_every_repeat_starts_its_engines_anew_and_goes_on_where_it_stopped(
    bench: Bench, case: Callable[[], Case]
) -> None:
    engine = RealEngine("vllm", bench.python, bench.folder / "target", bench.folder / "draft", None)
    assert not measure_engine_served(case(), "saturation", engine, 0.0)
    assert measure_engine_served(case(), "saturation", engine, None)
    rows = load_rows(case().saturation)
    assert [(row.repeat, row.load) for row in rows] == [(0, "saturation")] * 2 + [(1, "saturation")] * 2
    assert len(bench.noted("start")) == len(bench.noted("ended")) == 2 * 3  # two alternatives and the pace
    write_prediction(case())
    assert measure_engine_served(case(), "loads", engine, None)
    rows = load_rows(case().measured)
    assert {(row.repeat, row.alternative) for row in rows} == {(0, "off"), (0, "again"), (1, "off"), (1, "again")}
    assert case().engine == "vllm, stepped"
    case().measured.write_text("".join(case().measured.read_text().splitlines(keepends=True)[:-1]))
    assert measure_engine_served(case(), "loads", engine, None)
    assert len(load_rows(case().measured)) == 4
