"""A question in a dozen words."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from specsim.errors import InvalidInput
from specsim.scenario import Asked, ShortOptions, ask, load_scenario
from specsim.speculation.program import load_program

ASKED = ShortOptions(
    model="llama-3.3-70b", gpu="h100", tensor_parallel=4, drafter="eagle-3", rate_per_s=3.0, prompt_tokens=900,
    output_tokens=350, ttft_p95="1", tpot_p95="40ms",
)  # fmt: skip
FILE: dict[str, Any] = {
    "schema": 1, "name": "own", "model": "llama-3.1-8b", "gpu": "h200", "engine": {"max_num_seqs": 48},
    "deployment": {"tensor_parallel_size": 2},
    "speculation": {
        "method": "eagle3", "num_speculative_tokens": 5, "acceptance": {"kind": "constant", "rate": 0.9},
        "policy": {"kind": "off_above", "max_batch": 8, "k": 5},
    },
    "workload": {
        "kind": "synthetic", "arrivals": {"kind": "gamma", "rate": 2.0, "cv": 3.0}, "requests": 10,
        "lengths": {"kind": "fixed", "prompt_tokens": 10, "output_tokens": 20},
        "classes": [{"name": "code", "acceptance": {"kind": "constant", "rate": 0.95}}],
    },
    "slo": {"ttft_s": {"p99": 3.0}},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(FILE))
    return str(path)


def without_file(**options: Any) -> Asked:
    return ask(None, ShortOptions(**({"model": "llama-3.1-8b", "gpu": "h100"} | options)))


def test_everything_said_is_asked() -> None:
    found = ask(None, ASKED)
    scenario = found.scenario
    assert (scenario.model.name, scenario.gpu.name) == ("Llama-3.3-70B", "H100-SXM")
    assert (scenario.deployment.tensor_parallel, scenario.deployment.replicas) == (4, 1)
    assert scenario.speculation is not None
    assert scenario.speculation.program == load_program("eagle3")
    assert scenario.speculation.acceptance_origin.basis == "cited"
    assert scenario.workload.mean_lengths() == (900, 350)
    assert scenario.slo is not None
    assert [tuple(one) for one in scenario.slo.bounds()] == [("ttft", 95, 1.0), ("tpot", 95, 0.04)]
    assert any("acceptance cited" in one for one in found.assumed)


def test_the_fields_make_the_same_scenario_from_a_file(tmp_path: Path) -> None:
    found = ask(None, ASKED)
    path = tmp_path / "written.yaml"
    path.write_text(yaml.safe_dump(found.fields))
    assert load_scenario(str(path)).sha256() == found.scenario.sha256()


@pytest.mark.parametrize(
    ("options", "ranks", "replicas"),
    [({"gpu": "4x H100"}, 4, 1), ({"gpu": "h200 x8", "tensor_parallel": 2}, 2, 4), ({"gpu": "rtx 4090"}, 1, 1)],
)
def test_gpus_may_be_counted(options: dict[str, Any], ranks: int, replicas: int) -> None:
    deployment = without_file(**options).scenario.deployment
    assert (deployment.tensor_parallel, deployment.replicas) == (ranks, replicas)


def test_what_was_left_open_is_named() -> None:
    """141 GB of weights on GPUs of 80 GB: two of them would have 12 % left, four have the half."""
    found = ask(None, ShortOptions(model="meta-llama/Llama-3.3-70B-Instruct", gpu="h100"))
    assert found.scenario.deployment.tensor_parallel == 4
    assert found.scenario.speculation is None
    told = "; ".join(found.assumed)
    for word in ("tensor parallel 4", "8 clients", "1024 prompt tokens", "256 output tokens"):
        assert word in told


@pytest.mark.parametrize(
    ("drafter", "program", "draft_model"),
    [
        ("EAGLE_3", "eagle3", None),
        ("n-gram", "ngram", None),
        ("draft_model", "draft-model", "Llama-3.2-1B"),
        ("Llama-3.2-1B-Instruct", "draft-model", "Llama-3.2-1B"),
    ],
)
def test_drafters_by_natural_names(drafter: str, program: str, draft_model: str | None) -> None:
    speculation = without_file(drafter=drafter).scenario.speculation
    assert speculation is not None
    assert speculation.program.name == program
    assert (speculation.draft_model and speculation.draft_model.name) == draft_model


def test_short_options_go_over_a_file(file: str) -> None:
    scenario = ask(file, ShortOptions(rate_per_s=7.0, output_tokens=99, ttft_p95="2", engine="vllm 0.24")).scenario
    assert scenario.workload.arrivals.model_dump() == {"kind": "gamma", "rate_per_s": 7.0, "cv": 3.0}  # type: ignore[union-attr]
    assert scenario.workload.mean_lengths() == (10, 99)
    assert (scenario.engine.version, scenario.engine.max_num_seqs) == ("0.24", 48)
    assert scenario.deployment.tensor_parallel == 2
    assert scenario.slo is not None
    assert [one.limit_s for one in scenario.slo.bounds()] == [2.0, 3.0]
    assert scenario.speculation == load_scenario(file).speculation


def test_another_drafter_brings_its_own_defaults(file: str) -> None:
    """By a short option and by a setting alike; nothing of the old drafter stays, in classes neither."""
    by_option = ask(file, ShortOptions(drafter="ngram")).scenario
    by_setting = load_scenario(file, ["speculation.program=ngram"])
    by_change = ask(file, ShortOptions(), ["speculation.max_draft_tokens=2"], ["speculation.method=ngram"]).scenario
    assert by_option.sha256() == by_setting.sha256() == by_change.sha256()
    ngram = load_program("ngram")
    assert by_option.speculation is not None
    assert ngram.acceptance is not None
    assert by_option.speculation.acceptance == ngram.acceptance.law
    assert by_option.speculation.max_draft_tokens == ngram.draft_tokens
    assert by_option.speculation.policy.kind == "fixed"
    assert by_option.workload.acceptance_by_class() == {}


def test_settings_beside_the_new_drafter_stay(file: str) -> None:
    changed = load_scenario(file, ["speculation.max_draft_tokens=4", "speculation.program=draft-model"])
    assert changed.speculation is not None
    assert changed.speculation.draft_model is not None
    assert changed.speculation.max_draft_tokens == 4


def test_the_same_drafter_again_changes_nothing(file: str) -> None:
    assert ask(file, ShortOptions(drafter="Eagle-3")).scenario == load_scenario(file)
    assert load_scenario(file, ["speculation.program=EAGLE-3"]) == load_scenario(file)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tpot_p95": "40"}, "40ms"),
        ({"ttft_p95": "soon"}, "milliseconds"),
        ({"gpu": "0x h100"}, "1 or more"),
        ({"gpu": "8x h100", "tensor_parallel": 3}, "divisor"),
        ({"engine": "llama.cpp"}, "sglang"),
        ({"drafter": "eagel3"}, "eagle3"),
        ({"rate_per_s": 1.0, "concurrency": 2}, "one of them"),
        ({"draft_tokens": 3}, "--drafter"),
        ({"model": "qwen3-33b"}, "qwen3-32b"),
    ],
)
def test_what_cannot_be_meant_says_what_to_write(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        without_file(**options)


def test_a_field_under_two_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump(FILE | {"deployment": {"tp": 2, "tensor_parallel": 4}}))
    with pytest.raises(InvalidInput, match="keep deployment"):
        load_scenario(str(path))


def test_neither_file_nor_model() -> None:
    with pytest.raises(InvalidInput, match="--gpu"):
        ask(None, ShortOptions(model="qwen3-8b"))


def test_faults_of_every_kind_are_told_together(file: str) -> None:
    """Of names, of settings that are none, of a setting that names no field, and of one of a wrong kind."""
    with pytest.raises(InvalidInput) as caught:
        ask(file, ShortOptions(drafter="nor it", ttft_p95="soon"), ["seed", "x=[", "bad=1", "workload.requests=-4"])
    for told in ("'nor it'", "'soon'", "--set 'seed'", "--set 'x=['", "unknown field bad", "requests is -4"):
        assert told in str(caught.value)
    with pytest.raises(InvalidInput, match=r"3 faults: .*'seed'.*unknown model 'no'.*unknown hardware 'nor'"):
        ask(file, ShortOptions(model="no", gpu="nor"), ["seed"])
    with pytest.raises(InvalidInput, match=r"3 faults: .*'seed'.*'x=\['.*unknown field bad"):
        load_scenario(file, ["seed", "x=[", "bad=1"])


@pytest.mark.parametrize("load", [load_scenario, lambda path: ask(path, ShortOptions())], ids=["load", "ask"])
def test_unknown_names_in_a_file_hide_no_other_fault(tmp_path: Path, load: Callable[[str], object]) -> None:
    """Nor each other; the line begins as where a name is all that is wrong."""
    path = tmp_path / "wrong.yaml"
    speculation = {"program": "eagel3", "draft_model": "lama-3.2-1b", "acceptance": "none.yaml"}
    wrong = {"model": "lama-3.1-8b", "gpu": "h2000", "seed": -1, "bad": 1, "speculation": speculation}
    path.write_text(yaml.safe_dump(FILE | wrong))
    with pytest.raises(InvalidInput) as caught:
        load(str(path))
    names = ("unknown model 'lama-3.1-8b'", "unknown hardware 'h2000'", "'eagel3'", "unknown model 'lama-3.2-1b'")
    for told in (*names, "none.yaml", "unknown field bad", "seed is -1"):
        assert str(caught.value).count(told) == 1
    path.write_text(yaml.safe_dump(FILE | {"model": "lama-3.1-8b"}))
    with pytest.raises(InvalidInput, match=r"^unknown model 'lama-3.1-8b'; did you mean llama-3.1-8b"):
        load(str(path))


def test_an_unknown_name_hides_no_fault_of_a_question_without_a_file() -> None:
    """What would have been assumed for what is unknown is not missed either."""
    options = ShortOptions(model="lama-3.1-8b", gpu="h2000", drafter="eagle-3")
    with pytest.raises(InvalidInput, match=r"^3 faults: .*'lama-3.1-8b'.*'h2000'.*seed is -1") as caught:
        ask(None, options, ["seed=-1"])
    assert "missing" not in str(caught.value)


def test_a_count_of_one_gpu_assumes_nothing() -> None:
    one = ask(None, ShortOptions(model="qwen3-8b", gpu="1x h100"))
    assert one.scenario.deployment.tensor_parallel == one.scenario.deployment.replicas == 1
    assert not any("parallel" in assumed for assumed in one.assumed)


def test_a_packed_scenario_is_read(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packed.yaml.gz").write_bytes(gzip.compress(Path(file).read_bytes()))
    (tmp_path / "no-suffix").write_bytes(Path(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load_scenario("packed.yaml.gz") == load_scenario("no-suffix") == load_scenario(file)
