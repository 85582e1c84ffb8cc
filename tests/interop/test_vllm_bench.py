"""``vllm bench forward``: what its result files mean as steps, and that the case file asks for what the grid holds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.vllm_bench import case_name, read_forward, write_cases
from specsim.profiles.steps import CPU_GRID, CUDA_GRID, QUICK_GRID, StepShape


def entry(name="verify", *, requests=None, median_us=900.0, samples=None, drafter=False, **extra):
    samples = [median_us - 10, median_us, median_us + 10] if samples is None else samples
    latency = {
        "timer": "graph_events",
        "median": median_us,
        "mean": median_us,
        "std": 8.0,
        "min": median_us - 10,
        "sample_spread_pct": 0.2,
        "count": 3,
        "samples_us": samples,
    }
    rank = {"num_tokens": 8, "kv_blocks": 40, "routing": "real", "latency_us": latency, "graph_vs_eager": {}}
    if drafter:
        rank["drafter"] = {"method": "eagle3", "num_draft_tokens": 3, "acceptance": "all"}
    requests = [request(4, 1000, 3)] * 2 if requests is None else requests
    return {"case": name, "requests": requests, "median_us": median_us, "ranks": [rank], **extra}


def request(query_len, kv_len, num_draft_tokens=0, *, chunked=False):
    return {"query_len": query_len, "kv_len": kv_len, "num_draft_tokens": num_draft_tokens, "chunked": chunked}


@pytest.fixture
def written(tmp_path):
    def write(*entries, name="forward.json"):
        path = tmp_path / name
        path.write_text(json.dumps(list(entries)))
        return path

    return write


def read(path, **options):
    return read_forward(path, dtype="bfloat16", kernel="vllm 0.33.0/m/eagle3", **options)


def test_target_alone_is_a_verify_row_in_seconds(written):
    (row,) = read(written(entry(samples=[880.0, 890.0, 900.0, 910.0, 920.0]))).rows
    assert (row.operation, row.shape, row.mode, row.samples) == ("verify", (2, 4, 1000, 3, 0), "graph", 5)
    assert row.median_s == pytest.approx(900e-6)
    assert (row.p10_s, row.p90_s) == pytest.approx((884e-6, 916e-6))  # a tenth of the way between five samples


def test_a_run_with_its_drafter_is_a_total(written):
    (row,) = read(written(entry(drafter=True))).rows
    assert row.operation == "total"


def test_two_runs_tell_the_drafter_from_the_target(written):
    both = written(entry(drafter=True, median_us=1200.0))
    alone = written(entry(median_us=900.0), name="alone.json")
    rows = {row.operation: row for row in read(both, without_drafter=alone).rows}
    assert rows.keys() == {"verify", "draft"}
    assert rows["verify"].median_s == pytest.approx(900e-6)
    assert rows["draft"].median_s == pytest.approx(300e-6)
    assert rows["draft"].p10_s == pytest.approx(284e-6)  # 1192 - 908: the spreads of two runs add up


def test_prompt_chunks_ride_along_or_stand_alone(written):
    mixed = entry("mixed", requests=[request(1, 500)] * 3 + [request(256, 256)])
    chunk = entry("chunk", requests=[request(256, 1024, chunked=True)])
    shapes = [row.shape for row in read(written(mixed, chunk)).rows]
    assert shapes == [(3, 1, 500, 0, 256), (1, 256, 1024, 0, 0)]


def test_a_jittered_batch_keeps_its_mean_length(written):
    jittered = entry(requests=[request(4, 700, 3), request(4, 1100, 3), request(4, 1200, 3)])
    (row,) = read(written(jittered)).rows
    assert row.shape == (3, 4, 1000, 3, 0)


def test_a_batch_of_several_query_lengths_is_left_out_by_name(written):
    results = read(written(entry("odd", requests=[request(4, 1000, 3), request(2, 1000, 1)])))
    assert (results.rows, results.left_out) == ([], ["odd"])


def test_unknown_keys_are_kept_with_one_warning(written):
    path = written(entry("a", energy_joules=3.5), entry("b", energy_joules=4.5))
    with pytest.warns(UserWarning, match="energy_joules") as caught:
        results = read(path)
    assert len(caught) == 1
    assert results.unknown == {"a": {"energy_joules": 3.5}, "b": {"energy_joules": 4.5}}
    assert len(results.rows) == 2


@pytest.mark.parametrize(
    "path",
    [["median_us"], ["ranks"], ["requests"], ["ranks", 0, "latency_us"], ["requests", 0, "kv_len"]],
)
def test_a_missing_key_is_named_with_its_case(written, path):
    document = entry("decode=1")
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    del owner[path[-1]]
    with pytest.raises(InvalidInput, match=rf"decode=1.*{path[-1]}") as caught:
        read(written(document))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("{}", "not a list"), ("[1]", "not a list")])
def test_another_file_is_refused(tmp_path, text, said):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read(path)
    with pytest.raises(InvalidInput, match="there is no file"):
        read(tmp_path / "absent.json")


# -- the case file ----------------------------------------------------------------------------------------------


def valid_for_vllm(request):
    """The rules of ``vllm bench forward``: a verify step is one token longer than its drafts and has a prefix."""
    prefix = request["kv_len"] - request["query_len"]
    decode = prefix > 0 and request["query_len"] == 1 + request["num_draft_tokens"]
    return (
        request["query_len"] >= 1
        and prefix >= 0
        and request["count"] >= 1
        and (not request["num_draft_tokens"] or decode)
        and (not request["chunked"] or (prefix > 0 and not decode))
    )


@pytest.mark.parametrize("grid", [CPU_GRID, CUDA_GRID, QUICK_GRID])
def test_every_case_of_a_grid_is_valid_and_named_once(tmp_path, grid):
    path = tmp_path / "plan" / "cases.json"
    shapes = grid.shapes()
    assert write_cases(path, shapes) == len(shapes)
    cases = json.loads(path.read_text())["cases"]
    assert len({case["name"] for case in cases}) == len(shapes) == len(set(shapes))
    assert all(valid_for_vllm(request) for case in cases for request in case["requests"])


@given(
    sequences=st.integers(1, 64), drafts=st.integers(0, 8), prefix=st.integers(1, 9000), prompt=st.integers(0, 4096)
)
def test_a_case_comes_back_as_the_shape_it_was_made_from(tmp_path_factory, sequences, drafts, prefix, prompt):
    # A prompt of one token in a batch without drafts is a decode of its own to any reader.
    shape = StepShape(sequences, drafts + 1, drafts + 1 + prefix, drafts, prompt)
    folder = tmp_path_factory.mktemp("cases")
    write_cases(folder / "cases.json", [shape])
    (case,) = json.loads((folder / "cases.json").read_text())["cases"]
    requests = [{k: v for k, v in r.items() if k != "count"} for r in case["requests"] for _ in range(r["count"])]
    result = folder / "forward.json"
    result.write_text(json.dumps([entry(case_name(shape), requests=requests)]))
    (row,) = read(result).rows
    assert row.shape == shape.columns()
    assert np.isclose(row.median_s, 900e-6)
