"""Measuring an engine's steps, with a script that speaks the driver's protocol in vLLM's place."""

import json
import re
import stat
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from specsim.errors import InvalidInput, NoAnswer
from specsim.profiles.steps import PACE, StepGrid, StepShape
from specsim.profiles.store import HEADER, load_profile
from specsim.profiling.steps import engine_machine, engine_steps
from specsim.profiling.steps.engine_steps import coarse_first, measure_steps
from specsim.speculation.engine_steps import EngineSteps

GRID = StepGrid((1, 4), (0, 2), (100, 300), (64,), (4,))

# A Python that answers -c itself; as vLLM's driver it answers with 10 ms, 0.1 ms a new token and 1 us a key read, and
# notes what it was asked. "drifts": the longer it is asked, the slower this machine.
FAKE = """#!{python}
import json, os, sys
if sys.argv[1:2] == ["-c"]:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
LOG, MODE = {log!r}, {mode!r}
job = json.loads(sys.stdin.readline())
note = open(LOG, "a")
note.write(json.dumps({{"job": job}}) + "\\n")
if MODE == "no-start":
    print("some vLLM message", file=sys.stderr)
    print(json.dumps({{"error": "ValueError: no such model", "vllm": "0.20.0"}}))
    sys.exit(1)
if MODE == "old":
    print("usage: python ...")
    sys.exit(0)
device = "cuda" if MODE == "cuda" else "cpu"
print(json.dumps({{"vllm": "0.32.0", "device": device, "dtype": "bfloat16", "mode": "eager"}}), flush=True)
count, shape, left = 0, None, 0
for line in sys.stdin:
    asked = json.loads(line)
    if "begin" in asked:
        shape = asked["begin"]
        left = shape["steps"]
        note.write(json.dumps({{**shape, "flags": job["flags"], "pid": os.getpid()}}) + "\\n")
        note.flush()
        if MODE == "dies" and count == 3:
            sys.exit(7)
        count += 1
        print("{{}}", flush=True)
    elif MODE == "small" and shape["kv_len"] == 300 or MODE == "no-pace" and shape["steps"] == 48:
        print(json.dumps({{"skipped": "not enough blocks"}}), flush=True)
    else:
        steps = range(min(left, asked["steps"]))
        left -= len(steps)
        tokens = shape["sequences"] * shape["query_len"] + shape["prefill_tokens"]
        total = 0.01 + 1e-4 * tokens + 1e-6 * shape["sequences"] * shape["kv_len"]
        if MODE == "drifts":
            total *= 1 + os.stat(LOG).st_size / 5000
        found = [total * (1 + 0.01 * (i % 3 - 1)) if MODE == "cuda" else total for i in steps]
        parts = [{{"seconds": {{"total": t, "verify": 0.9 * t, "draft": 0.0}}}} for t in found]
        print(json.dumps({{"steps": parts}}), flush=True)
"""


def flag(entry: dict, name: str) -> str | None:
    """What the engine of an asked job or shape is told by a flag."""
    words = entry.get("flags") or entry["job"]["flags"]
    return words[words.index(name) + 1] if name in words else None


def config_of(entry: dict) -> dict | None:
    text = flag(entry, "--speculative-config")
    return None if text is None else json.loads(text)


def shape_of(entry: dict) -> StepShape:
    return StepShape(**{field: entry[field] for field in StepShape.__dataclass_fields__})


class Bench:
    """A fake vLLM, a model folder and a table's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.log = folder, folder / "table", folder / "asked.jsonl"
        self.model = folder / "llama-tiny"
        self.model.mkdir()
        self.configure(max_position_embeddings=4096)

    def configure(self, **fields: object) -> None:
        (self.model / "config.json").write_text(json.dumps({"model_type": "llama", **fields}))

    def vllm(self, mode: str = "") -> Path:
        path = self.folder / f"python-{mode}"
        path.write_text(FAKE.format(python=sys.executable, log=str(self.log), mode=mode))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def measure(self, mode: str = "", **options: object) -> bool:
        options = {"grid": GRID, "repeats": 2, **options}
        return measure_steps(self.vllm(mode), self.model, self.out, **options)

    def asked(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def visits(self) -> list[dict]:
        """What was asked for to be timed, not the pace."""
        return [entry for entry in self.asked() if "job" not in entry and shape_of(entry) != PACE]

    def shapes_asked(self) -> list[StepShape]:
        return [shape_of(entry) for entry in self.visits()]


class FakeMachine:
    """What an engine's Python would say of the machine."""

    slug, default_dtype = "cpu-made", "bfloat16"
    facts = {  # noqa: RUF012
        "device_name": "a machine", "device": "cpu", "threads": 2, "clocks": "", "driver": "none", "versions": {},
        "last_level_cache_bytes": 2**25, "memory_bytes": 2**34,
    }  # fmt: skip

    def __init__(self, python: Path, device: str) -> None: ...

    def rates(self, dtype: str, limit_s: float) -> dict:
        return {"launch_s": 1e-6, "ceilings": {"copy_bytes_per_s": 3e10, "flops_per_s": {dtype: 5e11}}}

    def probe_s(self, dtype: str) -> float:
        return 1e-3


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_steps, "EngineMachine", FakeMachine)
    monkeypatch.setattr("specsim.engines.turns.IDLE_S", 0.0)
    return Bench(tmp_path)


def test_every_shape_is_visited_by_an_engine_that_serves_it(bench):
    seen = []
    assert bench.measure(progress=lambda done, total, what: seen.append((done, total)))
    shapes = GRID.shapes()
    assert sorted(bench.shapes_asked(), key=StepShape.columns) == sorted(2 * shapes, key=StepShape.columns)
    assert seen == [(i + 1, 2 * len(shapes)) for i in range(2 * len(shapes))]
    for entry in bench.asked():
        config = config_of(entry)
        if "job" in entry:
            assert int(flag(entry, "--max-num-seqs")) > 4
            assert int(flag(entry, "--max-model-len")) > 300
        else:  # no drafter where nothing is drafted, prompt look-up elsewhere
            assert (config is None) == (entry["num_draft_tokens"] == 0)
            assert config is None or config["num_speculative_tokens"] == 2


def test_the_table_is_read_back_and_prices_rounds(bench):
    bench.measure()
    profile = load_profile(str(bench.out))
    totals = {row.shape: row for row in profile.rows["steps"] if row.operation == "total"}
    assert totals.keys() == {shape.columns() for shape in (*GRID.shapes(), PACE)}
    for shape, row in totals.items():
        tokens = shape[0] * shape[1] + shape[4]
        assert row.median_s == pytest.approx(0.01 + 1e-4 * tokens + 1e-6 * shape[0] * shape[2], rel=1e-5)
        assert row.p10_s <= row.median_s <= row.p90_s
        assert (row.mode, row.dtype) == ("eager", "bfloat16")
        assert row.samples == (3 if shape == PACE.columns() else 6)  # 2 visits, each with the weight of 3
    assert not [row for row in profile.rows["steps"] if row.operation == "draft"]  # nothing told apart
    assert profile.header.backend == "vllm 0.32.0"
    assert profile.header.probe.after_s is not None
    prices = EngineSteps.of(profile, model="llama-tiny")
    assert prices.decode_round(4, 2, 298).seconds == pytest.approx(0.01 + 12e-4 + 4 * 300e-6, rel=0.02)
    assert json.loads((bench.out / "model" / "config.json").read_text())["model_type"] == "llama"


def test_a_run_stopped_by_its_budget_goes_on_where_it_stopped(bench):
    assert not bench.measure(minutes=0)
    assert bench.shapes_asked() == []
    with pytest.raises(NoAnswer, match="status 7"):
        bench.measure("dies")
    lost = bench.shapes_asked()[-1]  # asked, never answered
    assert bench.measure()
    shapes = GRID.shapes()
    counts = {shape: bench.shapes_asked().count(shape) for shape in shapes}
    assert counts == {shape: 3 if shape == lost else 2 for shape in shapes}
    before = bench.asked()
    assert bench.measure()
    assert bench.asked() == before  # nothing left: no engine is even started


def test_a_sample_cut_short_is_measured_again(bench):
    bench.measure(repeats=1)
    samples = bench.out / "samples.jsonl"
    whole = samples.read_text()
    samples.write_text(whole[:-20])
    assert bench.measure(repeats=1)
    assert len(bench.shapes_asked()) == len(GRID.shapes()) + 1
    assert len(samples.read_text().splitlines()) == len(whole.splitlines())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"repeat": 0, "drafter": "none"', "line 2 is not JSON"),
        ("[1]", "line 2: "),
        ('{"repeat": 0}', "line 2: .*field drafter is missing"),
        ("WHOLE", "line 2: "),
    ],
)
def test_a_damaged_sample_is_one_line_that_names_it(bench, line, said):
    bench.measure(repeats=1)
    samples = bench.out / "samples.jsonl"
    lines = samples.read_text().splitlines()
    lines[1] = line if line != "WHOLE" else lines[1].replace('"total": [', '"total": ["x", ')
    samples.write_text("\n".join(lines) + "\n")
    with pytest.raises(InvalidInput, match=rf"samples\.jsonl, {said}.*; remove the line"):
        bench.measure(repeats=1)
    samples.write_text("\n".join(one for one in lines if one != lines[1]) + "\n")
    asked = len(bench.shapes_asked())
    assert bench.measure(repeats=1)
    assert len(bench.shapes_asked()) == asked + 1


def test_what_the_engine_could_not_run_is_left_out_of_the_table(bench):
    assert bench.measure("small")
    rows = load_profile(str(bench.out)).rows["steps"]
    assert rows
    assert all(row.shape[2] != 300 for row in rows)


def test_shapes_beyond_the_models_positions_are_not_asked_for(bench):
    bench.configure(max_position_embeddings=200)
    bench.measure()
    assert {shape.kv_len for shape in bench.shapes_asked()} <= {64, 100}


def test_a_model_of_few_positions_has_a_pace_of_few_keys(bench):
    bench.configure(max_position_embeddings=164)  # three new tokens and 60 for drafts leave 104
    grid = StepGrid((1, 4), (0, 2), (100,), (), ())
    assert bench.measure(grid=grid, repeats=1)
    assert all(int(flag(entry, "--max-model-len")) <= 164 for entry in bench.asked() if "job" in entry)
    rows = [row for row in load_profile(str(bench.out)).rows["steps"] if row.operation == "total"]
    assert {row.shape[2] for row in rows} == {100, 104}


def test_a_model_that_no_shape_fits_is_refused_before_anything_starts(bench):
    bench.configure(max_position_embeddings=100)
    with pytest.raises(InvalidInput, match=r"100 positions and no step of the grid fits.*124"):
        bench.measure()
    assert bench.asked() == []
    assert not bench.out.exists()


def test_a_pace_that_cannot_run_is_said_and_no_cell_is_taken_for_skipped(bench):
    with pytest.raises(NoAnswer, match=r"without a drafter.*cannot run them: not enough blocks.*KV cache"):
        bench.measure("no-pace")
    assert not (bench.out / "samples.jsonl").exists()


@pytest.mark.parametrize(("device", "started"), [("cpu", {None, 2}), ("cuda", {None, 1, 2})])
def test_a_draft_model_gets_an_engine_for_each_draft_length_where_graphs_are_captured_for_it(bench, device, started):
    draft = bench.folder / "llama-draft"
    grid = StepGrid((1,), (0, 1, 2), (100,), (), ())
    drafters = {"llama-draft": draft}
    bench.measure("cuda" if device == "cuda" else "", device=device, drafters=drafters, grid=grid, repeats=1)
    configs = [config_of(entry) for entry in bench.asked() if "job" in entry]
    assert len(configs) == len(started) + (device == "cpu")  # the pace has an engine of its own
    assert {config and config["num_speculative_tokens"] for config in configs} == started
    assert {config["model"] for config in configs if config} == {str(draft)}
    kernels = {row.kernel for row in load_profile(str(bench.out)).rows["steps"]}
    assert kernels == {"vllm 0.32.0/llama-tiny/none", "vllm 0.32.0/llama-tiny/llama-draft"}


def test_on_a_cpu_engines_are_up_together_anew_every_repeat_and_their_cells_take_turns(bench):
    bench.measure(repeats=3)
    assert len([entry for entry in bench.asked() if "job" in entry]) == 3 * 3  # without a drafter, with it, the pace
    assert len({entry["pid"] for entry in bench.visits()}) == 3 * 2
    drafting = [bool(shape.num_draft_tokens) for shape in bench.shapes_asked()]
    changes = sum(one != other for one, other in pairwise(drafting))
    assert changes > 2 * 3  # an engine after the other would change once or twice a repeat


def test_a_machine_that_slows_down_leaves_ratios_of_steps_alone(bench):
    """It takes several times as long at the end as at the beginning; each visit is held against its pace."""
    bench.measure("drifts", repeats=2)
    records = [json.loads(line) for line in (bench.out / "samples.jsonl").read_text().splitlines()]
    paces = [np.mean(record["pace_s"]) for record in records]
    assert max(paces) > 2 * min(paces)
    rows = [row for row in load_profile(str(bench.out)).rows["steps"] if row.operation == "total"]
    shapes = [row.shape for row in rows]
    alone = [0.01 + 1e-4 * (b * width + chunk) + 1e-6 * b * kv for b, width, kv, _, chunk in shapes]
    slower = np.array([row.median_s for row in rows]) / alone
    assert slower == pytest.approx(np.full(len(rows), np.mean(slower)), rel=0.03)


def test_a_grid_that_holds_the_step_of_the_pace_is_measured_once(bench):
    seen = []
    grid = StepGrid((4,), (0, 2), (128,), (), ())
    assert bench.measure(grid=grid, repeats=2, progress=lambda done, total, what: seen.append((done, total)))
    assert seen[-1] == (4, 4)
    assert len((bench.out / "samples.jsonl").read_text().splitlines()) == 4


def test_a_second_drafter_joins_the_same_table(bench):
    bench.measure(repeats=1)
    bench.measure(repeats=1, drafters={"llama-draft": bench.folder / "llama-draft"})
    profile = load_profile(str(bench.out))
    rounds = {name: EngineSteps.of(profile, model="llama-tiny", drafter=name) for name in ("ngram", "llama-draft")}
    assert rounds["ngram"].decode_round(4, 2, 98).seconds == rounds["llama-draft"].decode_round(4, 2, 98).seconds
    plain = [shape for shape in GRID.shapes() if not shape.num_draft_tokens]
    assert len(bench.shapes_asked()) == 2 * len(GRID.shapes()) - len(plain)  # steps without drafts serve both


def test_drafters_of_one_run_take_turns(bench):
    bench.measure(repeats=2, drafters={"ngram": None, "llama-draft": bench.folder / "llama-draft"})
    plain = [shape for shape in GRID.shapes() if not shape.num_draft_tokens]
    assert len(bench.shapes_asked()) == 2 * (2 * len(GRID.shapes()) - len(plain))
    methods = [(config_of(entry) or {}).get("method") for entry in bench.visits()]
    assert {*methods} == {None, "ngram", "draft_model"}
    drafting = [method for method in methods if method]
    assert drafting[::2] != drafting[1::2]
    assert {*drafting[::2], *drafting[1::2]} == {"ngram", "draft_model"}
    assert all(one != other for one, other in zip(drafting[::2], drafting[1::2], strict=True))


def test_prices_are_mean_steps_where_medians_leave_slow_ones_out(bench):
    """The stand-in's samples are even: mean and median agree, and nothing is stretched."""
    bench.measure()
    profile = load_profile(str(bench.out))
    assert profile.header.probe.interrupted == [pytest.approx(0.0, abs=1e-9)]
    probe = profile.header.probe.model_copy(update={"interrupted": [0.05]})
    stretched = replace(profile, header=profile.header.model_copy(update={"probe": probe}))
    even, slow = (EngineSteps.of(one, model="llama-tiny").decode_round(4, 2, 298) for one in (profile, stretched))
    assert slow.seconds == pytest.approx(1.05 * even.seconds)
    assert slow.parts["verify"] == pytest.approx(1.05 * even.parts["verify"])


def test_a_table_without_its_samples_is_not_overwritten(bench):
    bench.measure(repeats=1)
    (bench.out / "samples.jsonl").unlink()
    table = (bench.out / "steps.csv").read_text()
    with pytest.raises(InvalidInput, match="without its samples"):
        bench.measure(repeats=1)
    assert (bench.out / "steps.csv").read_text() == table


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("no-start", "vLLM 0.20.0 stopped: ValueError: no such model; see .*vllm.log.*0.32.0"),
        ("old", "vLLM stopped: it answered 'usage"),
    ],
)
def test_an_engine_that_does_not_start_is_one_line(bench, mode, said):
    with pytest.raises(NoAnswer, match=said) as caught:
        bench.measure(mode)
    assert "\n" not in str(caught.value)
    assert Path(re.search(r"see (\S+vllm\.log)", str(caught.value))[1]).exists()


def test_another_device_than_asked_for_is_refused(bench):
    with pytest.raises(InvalidInput, match="runs on cuda and --device is cpu"):
        bench.measure("cuda")


def test_a_log_is_kept_only_of_a_failure(bench):
    bench.measure(repeats=1)
    assert not (bench.out / "vllm.log").exists()


def test_wrong_paths_and_other_models_are_refused(bench, tmp_path):
    with pytest.raises(InvalidInput, match="no Python there"):
        measure_steps(tmp_path / "absent", bench.model, bench.out, grid=GRID)
    with pytest.raises(InvalidInput, match=r"no config\.json"):
        measure_steps(bench.vllm(), tmp_path / "absent", bench.out, grid=GRID)
    bench.measure(repeats=1)
    bench.configure(hidden_size=99)
    with pytest.raises(InvalidInput, match="another model"):
        bench.measure(repeats=1)


def test_a_drafter_is_measured_in_the_first_round_however_short_the_time(bench, monkeypatch):
    """On a clock that every cell moves by 10 s: engines share what is left by their cells, one cell at least."""
    now = [0.0]
    monkeypatch.setattr(engine_steps.time, "monotonic", lambda: now[0])
    ask = engine_steps._measure

    def slow(driver, cell):
        now[0] += 10.0
        return ask(driver, cell)

    monkeypatch.setattr(engine_steps, "_measure", slow)
    grid = StepGrid((1, 2, 4, 8), (0, 2), (100, 200, 300, 400), (), ())
    assert not bench.measure("cuda", device="cuda", grid=grid, minutes=1.0)
    drafted = [shape.num_draft_tokens for shape in bench.shapes_asked()]
    assert drafted == [0, 0, 0, 2, 2, 2]


def test_what_an_engine_leaves_of_its_time_goes_to_those_that_need_it(bench, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(engine_steps.time, "monotonic", lambda: now[0])
    ask = engine_steps._measure

    def slow_without_drafts(driver, cell):
        now[0] += 1.0 if cell.num_draft_tokens else 9.0
        return ask(driver, cell)

    monkeypatch.setattr(engine_steps, "_measure", slow_without_drafts)
    grid = StepGrid((1, 4), (0, 2), (100, 300), (), ())
    assert bench.measure("cuda", device="cuda", grid=grid, minutes=0.75, repeats=1)  # half of 45 s: three cells of 9 s
    assert [shape.num_draft_tokens for shape in bench.shapes_asked()] == [0, 0, 0, 2, 2, 2, 2, 0]


def test_coarse_cells_come_first_and_every_cell_once():
    cells = StepGrid((1, 2, 4, 8, 16), (0, 1, 2, 4, 8), (100, 200, 300, 400, 500), (), ()).shapes()
    order = coarse_first(cells, np.random.default_rng(0))
    assert sorted(order, key=StepShape.columns) == sorted(cells, key=StepShape.columns)
    ends = {(b, kv, k) for b in (1, 4, 16) for kv in (100, 300, 500) for k in (0, 2, 8)}
    assert {(s.sequences, s.kv_len, s.num_draft_tokens) for s in order[: len(ends)]} == ends


def test_a_table_whose_header_never_got_a_ceiling_is_measured_anew_in_place(bench):
    bench.measure(repeats=1)
    header = bench.out / HEADER
    spoilt = (
        header.read_text().replace("    bfloat16: 500000000000.0\n", "").replace("flops_per_s:", "flops_per_s: {}")
    )
    header.write_text(spoilt)
    with pytest.raises(InvalidInput, match=r"no compute ceiling.*again"):
        load_profile(str(bench.out))
    asked = bench.asked()
    assert bench.measure(repeats=1)
    assert bench.asked() == asked  # the samples were good
    assert load_profile(str(bench.out)).header.ceilings.flops_per_s == {"bfloat16": 5e11}


def test_specsims_own_python_needs_no_torch(bench):
    """The whole command where importing torch fails; the engine's Python, another process, has it."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from specsim.profiles.steps import StepGrid\n"
        "from specsim.profiling.steps import engine_machine\n"
        "from specsim.profiling.steps.engine_steps import measure_steps\n"
        "engine_machine.EngineMachine.rates = lambda self, dtype, limit_s: {'launch_s': 1e-6, 'ceilings': "
        "{'copy_bytes_per_s': 3e10, 'flops_per_s': {dtype: 5e11}}}\n"
        f"grid = StepGrid((1,), (0, 2), (100,), (), ())\n"
        f"assert measure_steps(Path({str(bench.vllm())!r}), Path({str(bench.model)!r}), Path({str(bench.out)!r}), "
        "grid=grid, repeats=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch = pytest.importorskip("torch")
    assert load_profile(str(bench.out)).header.versions["torch"] == str(torch.__version__)


def test_a_python_without_torch_is_one_line(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')  # -S: no installed packages
    python.chmod(0o755)
    with pytest.raises(
        NoAnswer, match=r"cannot measure this machine: .*No module named.*; give an environment"
    ) as caught:
        engine_machine.EngineMachine(python, "cpu")
    assert "\n" not in str(caught.value)
