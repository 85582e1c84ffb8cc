"""What a scenario is made of is made once, of what it depends on and of nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Kernel
from specsim.errors import InvalidInput
from specsim.profiles import store
from specsim.profiles.rows import read_rows, replace_rows
from specsim.profiles.store import load_profile, profiles_folder
from specsim.scenario import Scenario, load_scenario
from specsim.speculation.policy import FixedPolicy
from specsim.speculation.round import StepCost

PROFILE = "cpu-amd-epyc-family-25-model-17-2-threads"
GEMM = Kernel("gemm", "attention", (1.0, 960.0, 960.0), "", "bfloat16", 1, 2.0 * 960**2, 2.0 * 960**2)  # as measured


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A copy of a shipped profile."""
    return Path(shutil.copytree(profiles_folder() / PROFILE, tmp_path / "profile"))


def asked(*settings: str, **changes: Any) -> Scenario:
    scenario: Scenario = load_scenario("cpu-144m", settings).model_copy(update=changes)
    return scenario


def slower(folder: Path) -> None:
    """Every matrix product takes twice as long."""
    rows = read_rows(folder / "gemm.csv", "gemm")
    assert len(rows) > 100
    replace_rows(
        folder,
        "gemm",
        [replace(row, **{name: 2 * getattr(row, name) for name in ("median_s", "p10_s", "p90_s")}) for row in rows],
    )


def test_a_scenario_is_valid_by_its_profiles_header_alone(profile: Path) -> None:
    """A broken table is told when prices are asked for, not when the question is read."""
    (profile / "gemm.csv").write_text("nothing\n")
    scenario = asked(f"gpu={profile}")
    assert scenario.gpu == load_scenario("cpu-144m").gpu.model_copy(update={"source": scenario.gpu.source})
    with pytest.raises(InvalidInput, match=r"gemm.csv: column 'm' is missing"):
        assert assemble(scenario).profile


def test_files_are_parsed_once_for_each_content(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = store.parsed_rows
    monkeypatch.setattr(store, "parsed_rows", lambda text, path, kind: parsed.append(kind) or parse(text, path, kind))
    first = load_profile(f"{profile}/")
    assert len(parsed) == len(set(parsed)) > 4
    assert load_profile(f"{profile}/") is first
    assert all(assemble(asked(f"gpu={profile}", f"seed={seed}")).profile is first for seed in range(3))
    once = list(parsed)
    slower(profile)
    parsed.clear()
    other = load_profile(f"{profile}/")
    assert parsed == once
    assert other.rows["gemm"][0].median_s == pytest.approx(2 * first.rows["gemm"][0].median_s)


def test_prices_follow_the_profiles_content(profile: Path) -> None:
    before = assemble(asked(f"gpu={profile}"))
    before_s, content = before.prices.price(GEMM, warm=False).seconds, before.cost_content
    slower(profile)
    after = assemble(asked(f"gpu={profile}"))
    assert after.cost_content != content
    expected = pytest.approx(2 * before_s, rel=0.02)  # but for the floor's share in what is interpolated
    assert after.prices.price(GEMM, warm=False).seconds == expected


COST = (
    "deployment.weight_format=gptq",
    "deployment.weight_bits=8",
    "deployment.kv_bits=8",
    "engine.max_num_seqs=8",
    "speculation.max_draft_tokens=3",
    "conditions={host: 2}",
    "cost.source=roofline",
)
LOAD = (
    "seed=4",
    "workload.requests=7",
    "workload.arrivals.concurrency=2",
    "speculation.acceptance.rate=0.9",
    "speculation.policy={kind: fixed, k: 1}",
    "deployment.replicas=3",
    "deployment.router=least_outstanding",
)


@pytest.mark.parametrize("setting", COST)
def test_what_prices_depend_on_makes_others(setting: str) -> None:
    one, other = assemble(asked(setting)), assemble(asked())
    assert one.cost is not other.cost
    assert one.cost_content != other.cost_content


@pytest.mark.parametrize("setting", LOAD)
def test_what_prices_do_not_depend_on_makes_none(setting: str) -> None:
    one, other = assemble(asked(setting)), assemble(asked())
    assert one.cost is other.cost
    assert one.plain.cost is other.plain.cost
    assert one.cost_content == other.cost_content != other.plain.cost_content


def test_the_plain_machine_has_no_drafter_and_room_for_more() -> None:
    machine = assemble(asked("engine.num_kv_blocks=null"))
    assert machine.plain.speculation is None
    assert machine.plain.decider() is None
    assert machine.plain.num_kv_blocks > machine.num_kv_blocks
    assert machine.plain is machine.plain
    assert machine.plain.choices() == (0,)
    assert machine.choices() == tuple(range(7))


def test_replicas_alike_share_what_they_are_made_of() -> None:
    replicas = assemble(asked("deployment={replicas: 3, replicas_without_speculation: 1}")).replicas
    assert [one.speculation is None for one in replicas] == [False, False, True]
    assert replicas[0] is replicas[1]


def test_prices_that_are_objects_have_no_content() -> None:
    machine = assemble(asked())
    assert machine.priced_by(machine.cost).cost_content is None
    assert Assembly(machine.scenario, given_prices=machine.prices).cost_content is None


class Nothing:
    def step(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks")

    decode_round = step


def test_a_policy_believes_what_it_was_set_up_with() -> None:
    """At other prices, twice removed; a fixed length does not ask for prices at all."""
    machine = assemble(asked("speculation.policy={kind: profiled}"))
    own = machine.decider()
    assert own is not None
    other: StepCost = Nothing()
    moved = machine.priced_by(other).priced_by(Nothing()).seeded(5)
    believing = moved.decider()
    assert believing is not None
    assert believing.table() == own.table()
    assert (moved.seed, machine.seed) == (5, 0)
    fixed = Assembly(machine.scenario, given_cost=other).decider(FixedPolicy(k=2))
    assert fixed is not None
    assert fixed.draft_tokens(4, 100.0) == 2


def test_tables_are_another_way_to_the_same_question() -> None:
    assert asked("cost.tables=false").sha256() == asked().sha256() != asked("cost.source=roofline").sha256()
