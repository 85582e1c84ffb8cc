"""vLLM's own scheduler, recorded over seeded scenarios, and ours: identical step by step.

And every rule is needed for that: without it, some recording goes another way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from typing import Any

import pytest

from specsim.scheduling.scheduler import Scheduler
from specsim.specs.engine import EngineLimits
from specsim.speculation.policy import TablePolicy
from specsim.speculation.program import load_program
from tests.scheduling.replay import RECORDINGS as RECORDINGS_FOLDER
from tests.scheduling.replay import Factory, Recording, recordings, replay

RECORDINGS = recordings()


@pytest.mark.parametrize("recording", RECORDINGS, ids=[recording["name"] for recording in RECORDINGS])
def test_every_step_is_vllms(recording: Recording) -> None:
    assert list(islice(replay(recording), 1)) == []


def differs(factory: Factory) -> bool:
    """Whether some recording goes another way."""
    return any(True for recording in RECORDINGS for _ in replay(recording, factory))


def without_limit(**changes: Any) -> Factory:
    """Ours with other limits than the recording's."""

    def build(limits: EngineLimits, num_kv_blocks: int, **drafting: Any) -> Scheduler:
        return Scheduler(limits.model_copy(update=changes), num_kv_blocks, **drafting)

    return build


def without_drafting(**changes: Any) -> Factory:
    """Ours with other needs of the drafter than the recording's."""

    def build(limits: EngineLimits, num_kv_blocks: int, **drafting: Any) -> Scheduler:
        return Scheduler(limits, num_kv_blocks, **(drafting | changes))

    return build


def with_every_block(limits: EngineLimits, num_kv_blocks: int, **drafting: Any) -> Scheduler:
    return Scheduler(limits, num_kv_blocks + 1, **drafting)


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(with_every_block, id="null block"),
        pytest.param(without_limit(chunked_prefill=True), id="whole prompts"),
        pytest.param(without_limit(prefix_caching=False), id="prefix cache"),
        pytest.param(without_limit(scheduling_policy="fcfs"), id="priority"),
        pytest.param(without_limit(scheduler_reserve_full_isl=True), id="admission by the first chunk"),
        pytest.param(without_limit(scheduler_reserve_full_isl=False), id="admission by the whole prompt"),
        pytest.param(without_limit(watermark=0.0), id="watermark"),
        pytest.param(without_limit(long_prefill_token_threshold=0), id="long prefill threshold"),
        pytest.param(without_limit(long_prefill_token_threshold_adaptive=False), id="its adaptive floor"),
        pytest.param(without_limit(max_model_len=None), id="model's length limit"),
        pytest.param(without_limit(async_scheduling=False), id="blocks named when a step completes"),
        pytest.param(without_drafting(lookahead_tokens=0), id="lookahead"),
        pytest.param(without_drafting(draft_slots=0), id="draft slots"),
        pytest.param(without_drafting(recompute_last_hit=False), id="last hit recomputed"),
        pytest.param(without_drafting(pads_new_decodes=False), id="padding"),
    ],
)
def test_each_limit_and_need_shows_in_a_recording(factory: Factory) -> None:
    assert differs(factory)


def test_each_choice_shows_in_a_recording() -> None:
    """The rules as plain Python, one of them broken at a time."""
    broken = subprocess.run(
        [sys.executable, "-m", "tests.scheduling.broken_rules"], cwd=RECORDINGS_FOLDER.parents[2],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    noticed = json.loads(broken.stdout)
    assert noticed.pop("nothing") is False
    assert len(noticed) == 4
    assert all(noticed.values())


def test_k_of_the_table_is_the_policys() -> None:
    """k comes from the number of requests scheduled, prefills included."""
    seen = set()
    for recording in RECORDINGS:
        if recording["table"] is None:
            continue
        policy = TablePolicy(ranges=tuple(map(tuple, recording["table"])))
        for event in recording["events"]:
            if event[0] == "s" and event[2]:
                assert event[6] == policy.draft_tokens(len(event[2]))
                seen.add((len(event[2]), event[6]))
    assert len(seen) > 20


def test_the_recordings_hold_what_they_are_for() -> None:
    steps = [(r, e) for r in RECORDINGS for e in r["events"] if e[0] == "s"]
    assert len(RECORDINGS) >= 50
    assert len(steps) > 5000
    assert {r["method"] for r in RECORDINGS} == {
        None, "ngram", "draft_model", "eagle", "p_eagle", "pard", "dflash"
    }  # fmt: skip
    assert sum(len(e[3]) for _, e in steps) > 200  # preemptions
    assert sum(share[2] > 0 for _, e in steps for share in e[2]) > 10_000  # verifications
    drafted = [share[2] for r, e in steps if r["method"] == "eagle" and not r["table"] for share in e[2]]
    assert len(set(drafted)) > 3  # drafts trimmed by the budget, where k is fixed
    preempted = sum(len(e[3]) for _, e in steps)
    told = (RECORDINGS_FOLDER / "README.md").read_text()
    assert f"in {len(RECORDINGS)} seeded scenarios, {len(steps):,} steps, {preempted}" in told


PROGRAMS = {
    "ngram": "ngram", "draft_model": "draft-model", "eagle": "eagle3", "p_eagle": "p-eagle", "pard": "pard",
    "dflash": "dflash",
}  # fmt: skip


@pytest.mark.parametrize(("method", "program"), PROGRAMS.items())
def test_a_programs_needs_are_vllms(method: str, program: str) -> None:
    """vLLM's configuration derives them from the method and k; ours are data."""
    ours = load_program(program)
    mine = [recording for recording in RECORDINGS if recording["method"] == method]
    assert len({recording["scheduler"]["max_draft_tokens"] for recording in mine}) > 2
    for recording in mine:
        needs = recording["scheduler"]
        k = needs["max_draft_tokens"]
        assert ours.lookahead_tokens(k) == needs["lookahead_tokens"]
        assert ours.budget_tokens(k) == needs["draft_slots"]
        assert ours.recompute_last_hit is needs["recompute_last_hit"]
