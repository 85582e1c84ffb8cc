"""Maps on an engine's own Python, with a stand-in for it: what is asked, counted, kept and left behind."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from specsim.cli.engine_map import measure_engine_map
from specsim.cli.measure_engine import RealEngine
from specsim.engines import VLLM, Checkpoints, Transformers, engine_python
from specsim.engines.driver import Driver
from specsim.engines.rounds import RoundsCell, SteadyRounds, cells_in_order
from specsim.engines.turns import side_by_side
from specsim.errors import InvalidInput, NoAnswer
from specsim.fidelity import read_grid
from specsim.fidelity.acceptance_file import read_acceptances
from specsim.fidelity.map_errors import mean_round_s
from specsim.scenario import Scenario, load_scenario
from tests.engines.stand_in import assert_none_left

FAKE = Path(__file__).with_name("fake_driver.py")
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128, "vocab_size": 256, "head_dim": 32,
    "max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
}  # fmt: skip


class Bench:
    """A stand-in's installation, two models, and scenarios that draft with one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "asked.jsonl"
        self.python = folder / "python"
        self.python.write_text(
            f'#!/bin/sh\n[ "$1" = -c ] && exec {shlex.quote(sys.executable)} "$@"\n'
            f"exec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))}\n"
        )
        self.python.chmod(0o755)
        for name, layers in (("target", 2), ("draft", 1)):
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(MODEL | {"num_hidden_layers": layers}))

    def ask(self, *settings: str, gpu: str = "h100-sxm") -> Scenario:
        path = self.folder / "question.yaml"
        path.write_text(
            f"""
schema: 1
name: stand-in
model: {self.folder}/target
gpu: {gpu}
engine: {{kind: vllm, max_num_seqs: 2, num_kv_blocks: 512}}
speculation: {{program: draft-model, draft_model: {self.folder}/draft, max_draft_tokens: 2,
  acceptance: {{kind: constant, rate: 0.5}}}}
workload: {{kind: synthetic, requests: 12, arrivals: {{kind: closed_loop, concurrency: 2}},
  lengths: {{kind: fixed, prompt_tokens: 20, output_tokens: 9}}}}
"""
        )
        return load_scenario(str(path), settings)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / "target", self.folder / "draft")

    def rounds(self, scenario: Scenario, **kwargs: Any) -> SteadyRounds:
        drafters = {"draft-model": (scenario, self.checkpoints)}
        return SteadyRounds(VLLM(), engine_python(self.python), self.folder / "out", drafters, **kwargs)

    def noted(self, key: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [entry for line in lines if key in (entry := json.loads(line))]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setenv("FAKE_LOG", str(made.log))
    monkeypatch.setenv("FAKE_DEVICE", "cuda")
    return made


def test_a_cell_is_what_its_rounds_took_and_accepted(bench: Bench) -> None:
    """k = 2 accepts 0, 1, 2, 0, 1: nine tokens are five rounds, the first of which warms up and is not timed; a batch
    of 2 makes four waves of the eight prompts.
    """
    with bench.rounds(bench.ask()) as rounds:
        [found] = rounds.measure(RoundsCell(0, 2, "draft-model", 2))
    assert found.acceptance.rounds == {2: {0: 16, 1: 16, 2: 8}}
    row = found.row
    assert (row.rounds, row.output_tokens) == (16, round(16 * 2 * (16 + 2 * 16 + 3 * 8) / 40))
    assert row.round_s == row.round_p90_s == pytest.approx(0.016)
    assert row.elapsed_s == pytest.approx(16 * 0.016)
    assert row.target_s == pytest.approx(0.9 * 0.016)
    assert row.context_tokens == pytest.approx(20 + (1 + 3 + 6 + 7) / 4)
    assert row.plain_s is None  # on a GPU one engine has the device


def test_prompts_that_take_more_rounds_count_with_all_of_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steady service a sequence that accepts little stays for longer: the mean is over rounds, not over prompts.

    Of each wave one prompt has four rounds more than the stand-in's five, with nothing accepted.
    """
    monkeypatch.setenv("FAKE_DRIVER", "lags")
    with bench.rounds(bench.ask()) as rounds:
        [found] = rounds.measure(RoundsCell(0, 2, "draft-model", 2))
    assert found.acceptance.rounds == {2: {0: 32, 1: 16, 2: 8}}
    assert found.row.rounds == 16
    assert found.row.output_tokens == round(16 * 2 * (32 + 2 * 16 + 3 * 8) / 56)


def test_draft_lengths_of_a_repeat_continue_the_same_prompts_and_repeats_others(bench: Bench) -> None:
    with bench.rounds(bench.ask()) as rounds:
        for cell in (
            RoundsCell(0, 1, "draft-model", 1),
            RoundsCell(0, 1, "draft-model", 0),
            RoundsCell(1, 1, "draft-model", 1),
        ):
            rounds.measure(cell)
    waves = [[entry["begin"]["prompts"]] for entry in bench.noted("begin")]
    first, plain, later = waves[:8], waves[8:16], waves[16:]
    assert first == plain
    assert len(later) == 8
    assert all(len(prompts) == 1 and len(prompts[0]) == 20 for [prompts] in waves)
    assert not {tuple(prompt) for [[prompt]] in first} & {tuple(prompt) for [[prompt]] in later}


@pytest.fixture
def on_cpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> SteadyRounds:
    monkeypatch.setenv("FAKE_DEVICE", "cpu")
    monkeypatch.setattr("specsim.engines.turns.IDLE_S", 0.0)
    trained = Checkpoints(bench.folder / "target", bench.folder / "draft", trained=True)
    drafters = {"draft-model": (bench.ask(gpu="cpu-generic"), trained)}
    return SteadyRounds(VLLM(), bench.python, bench.folder / "out", drafters)


def test_cells_that_are_compared_take_turns_wave_by_wave(bench: Bench, on_cpu: SteadyRounds) -> None:
    """Odd turns backwards: a machine that drifts favours none."""
    cells = [RoundsCell(0, 4, "draft-model", k) for k in (1, 0, 2)]
    with on_cpu as rounds:
        found = rounds.measure(*cells)
        [alone] = rounds.measure(cells[2])
    assert [one.cell for one in found] == cells
    assert found[2] == alone
    begun = [entry["begin"]["num_draft_tokens"] for entry in bench.noted("begin")]
    assert [k for k in begun if k][:4] == [1, 2, 2, 1]


def test_each_round_with_drafts_has_a_plain_one_right_after_it(bench: Bench, on_cpu: SteadyRounds) -> None:
    """The plain cell is of those rounds; plain prompts go on, or begin anew, from one cell to the next."""
    cells = [RoundsCell(0, 4, "draft-model", k) for k in (0, 1, 2)]
    with on_cpu as rounds:
        plain, *drafting = rounds.measure(*cells)
    [drafter, without] = [entry["pid"] for entry in bench.noted("start")]
    asked = [entry["pid"] for entry in bench.noted("steps") if entry["steps"] == 1]
    timed = [who for place, who in enumerate(asked) if who == without or asked[place + 1 : place + 2] == [without]]
    assert timed.count(without) >= sum(one.row.rounds for one in drafting) == plain.row.rounds
    assert all(one.row.plain_s == pytest.approx(0.014) for one in drafting)
    assert plain.row.round_s == pytest.approx(0.014)
    assert mean_round_s(plain.row) == pytest.approx(plain.row.plain_s)
    assert drafter != without


def test_a_repeat_has_engines_of_its_own(bench: Bench, on_cpu: SteadyRounds) -> None:
    with on_cpu as rounds:
        for repeat in (0, 0, 1):
            rounds.measure(RoundsCell(repeat, 1, "draft-model", 2))
    assert len({entry["pid"] for entry in bench.noted("start")}) == 4
    assert {entry["ended"] for entry in bench.noted("ended")} == {entry["pid"] for entry in bench.noted("start")}


def test_engines_start_at_once() -> None:
    """The first to start takes other memory than the last, and keeps it."""
    all_begun = threading.Barrier(5, timeout=20)

    def start() -> Driver:
        all_begun.wait()
        raise NoAnswer("it did not start")

    with pytest.raises(NoAnswer, match="did not start"), side_by_side([start] * 5):
        pass


UP_TOGETHER = """
import sys
from functools import partial
from pathlib import Path
from specsim.engines.driver import Driver
from specsim.engines.turns import side_by_side

python, folder = map(Path, sys.argv[1:])
starts = [partial(Driver, python, {"flags": []}, folder / f"{n}.log", device="cuda") for n in range(2)]
with side_by_side(starts):
    pass
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_engines_that_are_starting_end_with_the_command(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    """A start takes a minute; what it has begun by then ends too."""
    monkeypatch.setenv("FAKE_DRIVER", "slow")
    command = subprocess.Popen(
        [sys.executable, "-c", UP_TOGETHER, str(bench.python), str(bench.folder)], stderr=subprocess.DEVNULL
    )
    _until(lambda: len(bench.noted("worker")) == 2)
    command.send_signal(sent)
    command.wait(20)
    _assert_no_engine_left(bench)


@pytest.mark.parametrize("trouble", ["", "slow"])
def test_an_engine_that_does_not_start_stops_those_beside_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Those that are up, and those that have a minute to go."""
    monkeypatch.setenv("FAKE_DRIVER", trouble)

    def fails() -> Driver:
        _until(lambda: bench.noted("worker" if trouble else "start"))
        raise NoAnswer("it did not start")

    other = partial(Driver, bench.python, {"flags": []}, bench.folder / "other.log", device="cuda")
    with pytest.raises(NoAnswer, match="it did not start"), side_by_side([other, fails]):
        pass
    _assert_no_engine_left(bench)
    assert not (bench.folder / "other.log").exists()


def _until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def _assert_no_engine_left(bench: Bench) -> None:
    pids = bench.folder / "pids"
    pids.write_text(" ".join(str(entry[key]) for key in ("pid", "worker") for entry in bench.noted(key)))
    assert_none_left(pids)


def test_engines_of_a_gpu_give_way_to_each_other(bench: Bench) -> None:
    with bench.rounds(bench.ask()) as rounds:
        for k in (2, 0, 0, 1):
            rounds.measure(RoundsCell(0, 1, "draft-model", k))
    noted = [json.loads(line) for line in bench.log.read_text().splitlines()]
    events = [key for entry in noted for key in ("start", "ended") if key in entry]
    assert events == ["start", "ended"] * 3
    flags = [entry["start"]["flags"] for entry in bench.noted("start")]
    drafts = [json.loads(words[words.index("--speculative-config") + 1]) for words in (flags[0], flags[2])]
    assert [config["num_speculative_tokens"] for config in drafts] == [2, 1]
    assert "--speculative-config" not in flags[1]


def test_on_a_cpu_one_engine_serves_every_draft_length(bench: Bench, on_cpu: SteadyRounds) -> None:
    with on_cpu as rounds:
        for k in (2, 0, 1):
            rounds.measure(RoundsCell(0, 1, "draft-model", k))
    assert len(bench.noted("start")) == 2
    assert len(bench.noted("ended")) == 2


def test_cells_of_a_batch_size_follow_one_another_or_those_of_an_engine_do() -> None:
    lengths = {"a": [0, 1, 2], "b": [0, 3]}
    cells = list(cells_in_order([1, 2, 4], lengths, 2, seed=5))
    wanted = {
        RoundsCell(r, b, name, k) for r in range(2) for b in (1, 2, 4) for name, ks in lengths.items() for k in ks
    }
    assert len(cells) == len(wanted)
    assert set(cells) == wanted
    for start in range(0, len(cells), 5):
        assert len({(cell.repeat, cell.batch) for cell in cells[start : start + 5]}) == 1
    grouped = list(cells_in_order([1, 2, 4], lengths, 2, seed=5, by_engine=True))
    assert set(grouped) == wanted
    for start in range(0, len(grouped), 3):
        assert len({(cell.repeat, cell.drafter, cell.draft_tokens) for cell in grouped[start : start + 3]}) == 1


@pytest.fixture
def map_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Measures the whole map of the stand-in, whose machine nobody asks."""
    machine = type("Machine", (), {
        "default_dtype": "bfloat16", "facts": {"device_name": "made"}, "__init__": lambda *_: None,
        "probe_s": lambda *_: 1e-3,
    })  # fmt: skip
    monkeypatch.setattr("specsim.cli.engine_map.EngineMachine", machine)
    real = RealEngine("vllm", bench.python, bench.folder / "target", bench.folder / "draft", None)
    out = bench.folder / "map" / "measured.csv"

    def measure() -> Path:
        measure_engine_map({"draft-model": bench.ask()}, real, out, 2)
        return out

    return measure


def test_a_map_goes_on_where_an_engine_died(
    bench: Bench, map_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE_DRIVER", "dies")
    monkeypatch.setattr("specsim.engines.vllm.VLLM.job", _one_engine)
    with pytest.raises(NoAnswer, match=r"vLLM 0\.32\.0 stopped: its process ended with status 7; see .*vllm-0\.log"):
        map_of()
    kept = read_grid(bench.folder / "map" / "measured.csv")["draft-model"]
    assert len(kept) == 3  # cells of 8, 4 and 8 waves
    monkeypatch.setenv("FAKE_DRIVER", "")
    out = map_of()
    rows = read_grid(out)["draft-model"]
    assert rows[:3] == kept
    assert Counter((row.repeat, row.batch, row.draft_tokens) for row in rows) == {
        (repeat, batch, k): 1 for repeat in (0, 1) for batch in (1, 2) for k in (0, 1, 2)
    }
    records = read_acceptances(out.with_name("acceptance.csv"))
    assert set(records) == {("draft-model", row.repeat, row.batch, row.draft_tokens) for row in rows}
    for row in rows:
        counted = records["draft-model", row.repeat, row.batch, row.draft_tokens]
        rounds = sum(sum(found.values()) for found in counted.rounds.values())
        assert row.output_tokens == round(row.rounds * row.batch * (1 + counted.accepted() / rounds))
        assert rounds == (row.rounds + 8 // row.batch) * row.batch  # and one of each wave that warms up
    asked = bench.log.read_text()
    map_of()
    assert bench.log.read_text() == asked  # nothing left: no engine is even started


def _one_engine(self: VLLM, scenario: Scenario, checkpoints: Checkpoints, draft_tokens: int) -> Any:
    from specsim.engines.adapter import Job

    return Job({"flags": []}, shared=False)


def test_rounds_that_never_ran_are_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DRIVER", "empty")
    with bench.rounds(bench.ask()) as rounds, pytest.raises(NoAnswer, match="no round of 2 sequences with 1 drafts"):
        rounds.measure(RoundsCell(0, 2, "draft-model", 1))


def test_what_transformers_cannot_do_is_said_before_it_starts(bench: Bench) -> None:
    one = "engine.max_num_seqs=1"
    assert Transformers().job(bench.ask(one), bench.checkpoints, 2).start["assistant"].endswith("/draft")
    assert "assistant" not in Transformers().job(bench.ask(one), bench.checkpoints, 0).start
    look_up = bench.ask(one, "speculation={program: ngram, max_draft_tokens: 2}")
    assert Transformers().job(look_up, bench.checkpoints, 2).start["prompt_lookup"] is True
    with pytest.raises(NoAnswer, match=r"one sequence at a time; set engine\.max_num_seqs to 1"):
        Transformers().job(bench.ask(), bench.checkpoints, 2)
    with pytest.raises(NoAnswer, match="no 'eagle'; it has draft-model and ngram"):
        Transformers().job(
            bench.ask(one, "speculation={program: eagle, max_draft_tokens: 2}"), bench.checkpoints, 2
        )  # fmt: skip
    with pytest.raises(InvalidInput, match="--engine with --grid"):
        RealEngine("sglang", bench.python, None, None, None).offline()
