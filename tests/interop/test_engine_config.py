"""The neutral config: schedules as steps, a scenario's fields and back, one schedule in every engine's text."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import (
    EagleTree,
    EngineConfig,
    config_from_fields,
    mean_length_rates,
    policy_steps,
    speculation_fields,
    steps_policy,
    steps_ranges,
)
from specsim.interop.sglang import read_sglang, write_sglang
from specsim.interop.tensorrt_llm import read_tensorrt_llm, write_tensorrt_llm
from specsim.interop.vllm import read_vllm, write_vllm
from specsim.scenario import Speculation
from specsim.specs.engine import EngineLimits
from specsim.specs.yaml_file import build
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy, Policy, TablePolicy


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Fixed, off above a batch, or a table with gaps and repeated lengths."""
    kind = draw(st.sampled_from(["fixed", "off_above", "table"]))
    if kind == "fixed":
        return FixedPolicy(k=draw(st.integers(0, 6)))
    if kind == "off_above":
        return OffAbovePolicy(k=draw(st.integers(1, 6)), max_batch=draw(st.integers(1, 100)))
    edges = [1, *sorted(draw(st.sets(st.integers(2, 120), min_size=1, max_size=7)))]
    pairs = zip(edges[::2], [*edges[1::2], 120], strict=False)
    return TablePolicy(ranges=tuple((first, last, draw(st.integers(0, 6))) for first, last in pairs))


@given(policies())
def test_steps_ranges_and_policies_say_the_same_at_every_batch(policy: Policy) -> None:
    steps = policy_steps(policy)
    ranges = steps_ranges(steps, 150)
    again = steps_policy(steps)
    assert steps[0][0] == 1
    assert all(before[1] != after[1] for before, after in pairwise(steps))
    for batch in range(1, 150):
        expected = policy.draft_tokens(batch)
        assert again.draft_tokens(batch) == expected
        assert [k for first, last, k in ranges if first <= batch <= last] == [expected]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=4))
def test_one_falling_schedule_goes_through_all_three_engines(drops: list[tuple[int, int]]) -> None:
    steps = [(1, 5)]
    for width, drop in drops:
        k = max(0, steps[-1][1] - drop)
        if k != steps[-1][1]:
            steps.append((steps[-1][0] + width, k))
    limits = {"max_num_seqs": 200}
    config = EngineConfig(method="eagle3", draft_model="org/head", policy=steps_policy(tuple(steps)), limits=limits)
    passed = read_vllm(write_vllm(config).text)
    passed = read_tensorrt_llm(yaml.safe_load(write_tensorrt_llm(passed).text))
    written = write_sglang(passed)
    file = next((json.loads(content) for content in written.files.values()), None)
    passed = read_sglang(written.text, adaptive=file)
    assert (passed.method, passed.draft_model, passed.limits) == ("eagle3", "org/head", limits)
    for batch in range(1, 201):
        assert passed.draft_tokens(batch) == [k for first, k in steps if first <= batch][-1]


def scenario_speculation(fields: dict[str, Any]) -> Speculation:
    acceptance = {"kind": "constant", "rate": 0.7}
    return build(Speculation, {"acceptance": acceptance, **fields}, where="the fields")


def test_the_fields_of_a_scenario_are_those_that_it_accepts() -> None:
    text = "--spec-method ngram --spec-tokens 4 --max-num-seqs 32 --speculative-config.prompt_lookup_max 3"
    config = read_vllm(text)
    fields = speculation_fields(config)
    fixed = {"kind": "fixed", "k": 4}
    assert fields == {"program": "ngram", "max_draft_tokens": 4, "policy": fixed, "prompt_lookup": [3, 3]}
    assert scenario_speculation(fields).policy.draft_tokens(9) == 4
    assert build(EngineLimits, config.limits, where="the fields").max_num_seqs == 32


@given(policies().filter(lambda policy: any(k for _, k in policy_steps(policy))))
def test_fields_back_to_a_config_keep_the_schedule(policy: Policy) -> None:
    config = EngineConfig(method="ngram", num_speculative_tokens=6, policy=policy, limits={"max_num_seqs": 64})
    speculation = speculation_fields(config)
    again = config_from_fields(speculation, config.limits)
    dumped = config_from_fields(scenario_speculation(speculation).model_dump(mode="json"), EngineLimits().model_dump())
    for batch in range(1, 150):
        assert again.draft_tokens(batch) == dumped.draft_tokens(batch) == policy.draft_tokens(batch)
    assert again.limits == {"max_num_seqs": 64}
    assert again.acceptance_rates is None  # a prediction of acceptance is nothing that an engine may be told


def test_the_draft_model_of_a_scenario_is_a_config_file_or_a_preset(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for reference, expected in (
        (str(tmp_path), str(tmp_path / "config.json")),
        ("Qwen/Qwen3-0.6B", "qwen3-0.6b"),
        ("org/unheard-of", "org/unheard-of"),
    ):
        config = EngineConfig(method="draft_model", draft_model=reference, num_speculative_tokens=3)
        assert speculation_fields(config)["draft_model"] == expected
    back = config_from_fields({"program": "draft-model", "draft_model": "qwen3-0.6b", "max_draft_tokens": 3}, {})
    assert (back.method, back.draft_model, back.draft_tokens(5)) == ("draft_model", "qwen3-0.6b", 3)
    named = config_from_fields(
        {"program": {"name": "draft-model"}, "draft_model": {"name": "x"}, "max_draft_tokens": 3},
        {},
        draft_model="org/x",
    )
    assert named.draft_model == "org/x"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_imposed_rates_become_the_acceptance_that_gives_them(conditional: list[float]) -> None:
    rates = tuple(float(rate) for rate in np.cumprod(conditional))
    config = EngineConfig(method="ngram", num_speculative_tokens=len(rates), acceptance_rates=rates)
    acceptance = scenario_speculation(speculation_fields(config)).acceptance
    product, found = 1.0, acceptance.conditional_rates(len(rates))
    for rate, conditional_rate in zip(rates, found, strict=True):
        product *= conditional_rate
        assert product == pytest.approx(rate)


def test_rates_of_a_mean_length() -> None:
    assert mean_length_rates(2.5, 3) == (1.0, 0.5, 0.0)
    assert mean_length_rates(1.0, 2) == (0.0, 0.0)
    assert mean_length_rates(4.0, 3) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (
            EngineConfig(
                method="ngram", num_speculative_tokens=3, tree=EagleTree(topk=2, num_steps=2, num_draft_tokens=4)
            ),
            "no bundled tree program",
        ),
        (EngineConfig(method="ngram"), "leaves the draft length"),
    ],
)
def test_what_a_scenario_cannot_hold_is_one_line(config: EngineConfig, rule: str) -> None:
    with pytest.raises(NoAnswer, match=rule) as caught:
        speculation_fields(config)
    assert "\n" not in str(caught.value)


def test_a_method_without_a_bundled_program_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specsim.interop.engine_config.program_names", lambda: ["none", "p-eagle"])
    with pytest.raises(NoAnswer, match=r"method 'eagle3' has no bundled draft program \(there are none, p-eagle\)"):
        speculation_fields(EngineConfig(method="eagle3", num_speculative_tokens=3))


def test_a_program_that_no_engine_has_is_refused() -> None:
    with pytest.raises(NoAnswer, match="'mine' is none of the engines' methods"):
        config_from_fields({"program": "folder/mine.yaml", "max_draft_tokens": 3}, {})


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"policy": {"kind": "fixed", "k": 4}, "num_speculative_tokens": 3}, "drafts up to 4 tokens"),
        ({"acceptance_rates": (0.4, 0.5), "num_speculative_tokens": 2}, "rise"),
        ({"acceptance_rates": (0.4,), "num_speculative_tokens": 2}, "1 acceptance rates for 2 drafts"),
        ({"limits": {"max_num_sqs": 3}}, "did you mean max_num_seqs"),
    ],
)
def test_inconsistent_configs_are_one_line(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        build(EngineConfig, {"method": "ngram", **fields}, where="here")
    assert "\n" not in str(caught.value)
