"""Plans against every deployment tried out, and the rules that say when a fleet meets its SLO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from specsim.assembly import Assembly
from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.plan.bounds import Bounds
from specsim.planning.plan.capacity import capacity
from specsim.planning.plan.choose import Plan, choose
from specsim.planning.plan.fleet import RUNS, Fleets, judged, seeds
from specsim.planning.plan.growth import Growth, GrowthCurve, grown_fleet
from specsim.planning.plan.load import Load, own_load, request_count, requests
from specsim.planning.plan.named import Named
from specsim.planning.plan.sensitivity import Asides, interval, what_ifs
from specsim.planning.plan.size import largest_rate
from specsim.planning.plan.space import DrafterChoice, OptionKind, ServingOption, Space, candidates
from specsim.planning.plan.start import replica_command
from specsim.report.plan import (
    excluded_table,
    growth_sentences,
    growth_table,
    options_table,
    plan_sentences,
    what_if_table,
)
from specsim.results import Slo, slo_met
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.catalog import load_hardware

RATE = 120.0
SLO = {"ttft_s": {"p95": 0.5}, "tpot_s": {"p95": 0.028}}
MOST = 40  # replicas that are tried out
DRAFTER = DrafterChoice("eagle3", {"program": "eagle3", "acceptance": {"kind": "constant", "rate": 0.75}}, (1, 3))
GPUS = tuple(load_hardware(name) for name in ("l40s", "a100-80gb"))
CHEAP, EVEN, DEAR = ({"L40S": 1.0, "A100-80GB": usd} for usd in (0.8, 1.5, 4.0))


def scenario(rate: float = RATE, slo: Mapping[str, Any] | None = SLO, **fields: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "planned", "model": "llama-3.1-8b", "gpu": "a100-80gb", "cost": {"source": "roofline"}, "slo": slo,
            "engine": {"kind": "vllm", "max_num_seqs": 48, "max_num_batched_tokens": 1024},
            "workload": {
                "kind": "synthetic", "arrivals": {"kind": "poisson", "rate_per_s": rate}, "requests": 100,
                "lengths": {"kind": "lognormal", "prompt_mean": 300, "prompt_cv": 0.5, "output_mean": 60,
                            "output_cv": 0.5},
            },
        } | fields
    )  # fmt: skip


SPACE = Space(gpus=GPUS, tensor_parallel=(1, 2), drafters=(None, DRAFTER))


@pytest.fixture(scope="module")
def smallest() -> list[tuple[ServingOption, int]]:
    """The fewest replicas of every candidate that meet the SLO, found by trying them all.

    From one fewer than formulas allow on: those that are more overloaded take long to serve everything.
    """
    found, excluded = candidates(scenario(), SPACE)
    assert len(found) == 12
    assert not excluded
    tried = []
    for candidate in found:
        bounds = Bounds(candidate, Slo.model_validate(SLO), Load(RATE))
        fleets = Fleets(candidate, bounds.slo, bounds.residence_s)
        first = max(1, bounds.least_replicas() - 1)
        least = next(n for n in range(first, MOST) if fleets.verdict(candidate.sized(n), Load(RATE)).met)
        tried.append((candidate, least))
        assert least >= bounds.least_replicas(), "the formula's rate is the most"
    return tried


@pytest.mark.parametrize("prices", [None, CHEAP, EVEN, DEAR], ids=["gpus", "cheap", "even", "dear"])
def test_the_plan_is_the_best_of_all_deployments(
    smallest: list[tuple[ServingOption, int]], prices: dict[str, float]
) -> None:
    found = choose(scenario(), replace(SPACE, usd_per_gpu_hour=prices), Load(RATE))
    costs: dict[OptionKind, float] = {}
    for candidate, replicas in smallest:
        usd = (prices or {}).get(candidate.kind.gpu, 1.0) * candidate.deployment.tensor_parallel * replicas
        costs[candidate.kind] = min(costs.get(candidate.kind, math.inf), usd)
    assert {one.candidate.kind: one.candidate.usd(one.replicas) for one in found.options} == pytest.approx(costs)
    assert [one.candidate.usd(one.replicas) for one in found.options] == sorted(costs.values())
    assert all(one.size.verdict.met and one.size.verdict.runs == RUNS for one in found.options)
    assert all(one.size.smaller is None or not one.size.smaller.met for one in found.options)
    if prices in (CHEAP, DEAR):
        assert found.best.candidate.kind.gpu == ("A100-80GB" if prices is CHEAP else "L40S")


@pytest.mark.parametrize("drafter", [None, DRAFTER], ids=["off", "on"])
def test_pools_are_divided_as_trying_all_divisions_does(drafter: DrafterChoice | None) -> None:
    asked, load = scenario(slo={"ttft_s": {"p95": 0.2}, "tpot_s": {"p95": 0.012}}), Load(RATE)
    lengths = None if drafter is None else replace(drafter, draft_tokens=(3,))
    space = Space(gpus=GPUS[1:], tensor_parallel=(1,), drafters=(lengths,), disaggregated=(True,))
    (option,) = choose(asked, space, load).options
    (candidate,), _ = candidates(asked, space)
    fleets = Fleets(candidate, option.slo, option.fleets.residence_s)
    total = next(
        total
        for total in range(Bounds(candidate, option.slo, load).least_replicas() - 1, MOST)
        if any(fleets.verdict(candidate.sized(total, prefill), load).met for prefill in range(1, total))
    )
    assert option.replicas == total > 2
    pools = option.size.deployment.disaggregation
    assert pools is not None
    assert pools.prefill_replicas + pools.decode_replicas == total


@pytest.fixture(scope="module")
def planned() -> Plan:
    space = Space(gpus=GPUS[1:], tensor_parallel=(1,), drafters=(None, DRAFTER), usd_per_gpu_hour={"A100-80GB": 3.0})
    return choose(scenario(), space, Load(RATE))


def test_a_confirmed_plan_meets_the_slo_under_seeds_of_its_own_scenario(planned: Plan) -> None:
    best = planned.best
    asked = best.candidate.scenario.model_copy(update={"deployment": best.size.deployment, "slo": best.slo})
    count = best.size.verdict.requests
    longer = asked.model_copy(update={"workload": asked.workload.model_copy(update={"requests": count})})
    met = [slo_met(simulate(Assembly(longer).seeded(seed)).summary(asked.slo), best.slo) for seed in range(6)]
    assert sum(met) >= 5


def test_what_costs_are(planned: Plan) -> None:
    best = planned.best
    assert best.usd_per_hour == pytest.approx(3.0 * best.gpus)
    assert best.usd_per_month == pytest.approx(730 * 3.0 * best.gpus)
    tokens_an_hour = RATE * 60 * 3600
    assert best.usd_per_million_output_tokens == pytest.approx(3.0 * best.gpus / tokens_an_hour * 1e6)


def test_the_largest_rate_is_met_and_a_hundredth_more_is_not(planned: Plan) -> None:
    best = planned.best
    found = largest_rate(best.fleets, best.size.deployment, planned.load)
    assert found is not None
    assert found.rate_per_s >= planned.load.rate_per_s
    assert found.verdict.met
    assert found.beyond is not None
    assert not found.beyond.met
    above = best.fleets.verdict(best.size.deployment, Load(found.rate_per_s * 1.02))
    assert not above.met
    sized = scenario(deployment=best.size.deployment, speculation=best.candidate.scenario.speculation)
    assert capacity(sized).largest.rate_per_s == pytest.approx(found.rate_per_s, rel=0.02)


def test_more_work_takes_more_gpus(planned: Plan) -> None:
    best = planned.best
    rows = {row.what: row for row in what_ifs(best)}
    assert set(rows) == {"load", "prompt tokens", "output tokens", "accepted drafts"}
    for what, row in rows.items():
        few, many = (row.higher, row.lower) if what == "accepted drafts" else (row.lower, row.higher)
        assert few is not None, what
        assert many is not None, what
        assert few <= best.gpus <= many, what
    assert rows["load"].lower != rows["load"].higher
    around = interval(best)
    assert around.low <= best.gpus
    assert around.high is None or best.gpus <= around.high


def test_a_growing_load_has_the_fewest_gpus_of_each_month(planned: Plan) -> None:
    """Every month as a plan of its own, at that load, would have it."""
    growth, best = Growth(25.0, months=4), planned.best
    rates = growth.loads(RATE)
    assert rates == pytest.approx([RATE * 1.25**month for month in range(1, 5)])
    assert growth.months_until(1.25**3) == pytest.approx(3.0)
    fleet = grown_fleet(best, rates)
    gpus = [one.gpus for one in fleet.months]
    assert gpus == sorted(gpus)
    assert gpus[0] >= best.gpus
    for rate, month in zip(rates, fleet.months, strict=True):
        one_less = best.candidate.sized(month.replicas - 1)
        assert month.size.verdict.met
        assert not best.fleets.verdict(one_less, Load(rate)).met
    assert fleet.usd == pytest.approx(sum(730 * 3.0 * one for one in gpus))
    curve = GrowthCurve(growth, fleet, None, 0.4)
    assert f"{best.gpus} GPUs last 0.4 months" in growth_sentences(curve)[0]
    assert growth_table(curve).row_count == 5


@pytest.mark.parametrize(("percent", "months"), [(0.0, 12), (-5.0, 12), (math.nan, 1), (8.0, 0), (100.0, 12)])
def test_growth_that_cannot_be_followed_is_refused(percent: float, months: int) -> None:
    with pytest.raises(InvalidInput, match="growth of"):
        Growth(percent, months)


def test_a_schedule_by_batch_size_is_a_choice_and_wins_where_every_single_length_is_too_slow() -> None:
    """Rush and quiet by turns: no one length is best in both. The limit lies between the schedule and all others."""
    waves = {"arrivals": {"kind": "piecewise", "pieces": [[20.0, 2.0], [20.0, 33.0]]}, "requests": 3000}
    workload = scenario().workload.model_dump(mode="json") | waves

    def asked(limit_s: float) -> Scenario:
        return scenario(
            workload=workload, slo={"e2e_s": {"p50": limit_s}}, engine={"kind": "vllm", "max_num_seqs": 128}
        )

    def surely_s(candidate: ServingOption) -> float:
        bounds = Bounds(candidate, Slo.model_validate({"e2e_s": {"p50": 20.0}}), own_load(asked(20.0)))
        return Fleets.of(bounds).verdict(candidate.deployment, bounds.load).levels[0].surely

    drafter = replace(DRAFTER, draft_tokens=(1, 2, 3, 4, 5))
    single = Space(gpus=GPUS[1:], tensor_parallel=(1,), drafters=(drafter,))
    space = replace(single, schedules=True)
    *others, schedule = candidates(asked(20.0), space)[0]
    assert len(others) == 5
    assert schedule.describe() == "A100-80GB TP 1 eagle3 k up to 5"
    fastest = min(map(surely_s, others))
    limit_s = (surely_s(schedule) + fastest) / 2
    assert limit_s < fastest
    question = asked(limit_s)
    found = choose(question, space, own_load(question)).best
    assert found.candidate.draft_tokens == 5
    assert found.candidate.scenario.speculation == schedule.scenario.speculation
    assert found.replicas == 1 < choose(question, single, own_load(question)).best.replicas
    command = replica_command(found)
    assert command is not None
    assert '"num_speculative_tokens_per_batch_size": [[1, ' in command.text


def test_tables_fit_a_terminal_of_80_columns(planned: Plan) -> None:
    screen = Console(width=80, file=StringIO())
    for table in (options_table(planned), excluded_table(planned.excluded), what_if_table(planned.best, [])):
        screen.print(table)
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    sentence = plan_sentences(planned, Asides(None))[0]
    assert f"{planned.best.gpus} A100-80GB" in sentence
    assert "120 requests/s" in sentence


@pytest.mark.parametrize(
    ("slo", "limit"),
    [
        ({"tpot_s": {"p95": 1e-4}}, "tpot p95"),
        ({"ttft_s": {"p50": 1e-3}, "tpot_s": {"p95": 1.0}}, "ttft p50"),
        ({"goodput": {"e2e_s": 0.05, "share": 0.9}}, "goodput"),
    ],
)
def test_an_impossible_slo_names_the_limit_and_by_how_much(slo: dict[str, Any], limit: str) -> None:
    space = Space(gpus=GPUS[1:], tensor_parallel=(1,))
    with pytest.raises(NoAnswer, match=rf"misses (the )?{limit}.*(% over|asked)"):
        choose(scenario(slo=slo), space, Load(RATE))


def test_what_does_not_fit_is_told_and_is_no_option() -> None:
    space = Space(gpus=GPUS, tensor_parallel=(1, 3, 16))
    asked = scenario(model="llama-3.3-70b")
    found, excluded = candidates(asked, space)
    assert not found
    why = {one.what: one.why for one in excluded}
    assert why["L40S TP 1 off"].startswith("does not fit: 141")
    assert "does not divide" in why["L40S TP 3 off"]
    assert why["A100-80GB TP 16"] == "16 GPUs are more than a node's 8"
    with pytest.raises(NoAnswer, match="nothing fits"):
        choose(asked, space, Load(RATE))


def test_the_question_must_have_a_rate_and_an_slo() -> None:
    space = Space(gpus=GPUS[1:], tensor_parallel=(1,))
    with pytest.raises(InvalidInput, match="no SLO"):
        choose(scenario(slo=None), space, Load(RATE))
    closed = {"kind": "closed_loop", "concurrency": 4}
    workload = scenario().workload.model_dump(mode="json") | {"arrivals": closed}
    with pytest.raises(InvalidInput, match="closed-loop"):
        own_load(scenario(workload=workload))


def test_a_verdict_covers_the_next_run() -> None:
    """Where runs are lognormal about a limit, 95 % of those that follow a fleet's runs are below what it says."""
    generator, slo = np.random.default_rng(0), Slo.model_validate({"ttft_s": {"p95": 1.0}})
    drawn = np.exp(generator.normal(-0.5, 0.1, (4000, RUNS + 1)))

    def summary(seconds: float) -> dict[str, Any]:
        return {"p95_ttft_ms": 1e3 * seconds, "saturated": False, "failed": 0}

    below = [judged([summary(x) for x in row[:-1]], slo, 1).levels[0].surely >= row[-1] for row in drawn.tolist()]
    assert np.mean(below) == pytest.approx(0.95, abs=0.012)
    assert not judged([summary(0.5), summary(1.01)], slo, 1).met
    assert not judged([summary(0.5), summary(0.5) | {"saturated": True}], slo, 1).met
    assert not judged([summary(0.5), summary(0.5) | {"failed": 1}], slo, 1).met


def test_loads_share_their_draws_and_stretch_lengths() -> None:
    asked = scenario()
    one, other = (requests(asked, Load(rate), 3, 50) for rate in (10.0, 20.0))
    assert one.arrival_s is not None
    assert other.arrival_s is not None
    assert one.arrival_s == pytest.approx(2 * other.arrival_s)
    assert (one.prompt_tokens == other.prompt_tokens).all()
    longer = requests(asked, Load(10.0, prompts=1.2), 3, 50)
    assert longer.prompt_tokens == pytest.approx(1.2 * one.prompt_tokens, abs=0.5)
    assert (longer.output_tokens == one.output_tokens).all()
    assert len(set(seeds(0, 20)) | {0}) == 21


def test_arrivals_that_change_with_time_are_served_whole() -> None:
    workload = scenario().workload.model_dump(mode="json")
    waves = {"kind": "piecewise", "pieces": [[10.0, 1.0], [10.0, 3.0]]}
    asked, slo = scenario(workload=workload | {"arrivals": waves, "requests": 4000}), Slo.model_validate(SLO)
    assert own_load(asked).rate_per_s == pytest.approx(2.0)
    assert request_count(asked, Load(8.0), slo, 1.0) == 4000
    drawn = requests(asked, Load(8.0), 0, 4000)
    assert drawn.arrival_s is not None
    in_first_half = (drawn.arrival_s % 20.0 < 10.0).mean()
    assert in_first_half == pytest.approx(0.25, abs=0.03)
    assert drawn.arrival_s[-1] == pytest.approx(4000 / 8.0, rel=0.1)


def test_names_make_the_space() -> None:
    asked = scenario(speculation={"program": "ngram"}, usd_per_gpu_hour=3.0)
    space, assumed = Named().space(asked)
    assert [gpu.name for gpu in space.gpus] == ["A100-80GB"]
    assert space.tensor_parallel == (1, 2, 4, 8)
    assert space.usd_per_gpu_hour == {"A100-80GB": 3.0}
    assert not assumed
    off, own = space.drafters
    assert off is None
    assert own is not None
    assert own.draft_tokens == (1, 2, 3, 4, 5, 10)
    other, assumed = Named(drafters=["EAGLE-3", "llama-3.2-1b", "off"], draft_tokens=[2]).space(asked)
    assert [one and one.name for one in other.drafters] == [None, "eagle3", "Llama-3.2-1B"]
    assert any("eagle3" in one for one in assumed)
    with pytest.raises(InvalidInput, match="L40S has no price"):
        Named(gpus=["a100-80gb", "l40s"]).space(asked)


@pytest.mark.full
def test_plans_of_random_questions_meet_the_slo_under_fresh_seeds() -> None:
    """Models on GPUs under lengths, limits and loads drawn at random: 19 of 20 runs that no plan saw."""
    generator, met, asked = np.random.default_rng(7), 0, 0
    while asked < 20:
        question, space, load = random_question(generator)
        try:
            best = choose(question, space, load).best
        except NoAnswer:
            continue
        asked += 1
        workload = question.workload.model_copy(update={"requests": best.size.verdict.requests})
        changed = {"deployment": best.size.deployment, "workload": workload, "slo": best.slo}
        machine = Assembly(best.candidate.scenario.model_copy(update=changed)).seeded(10_000 + asked)
        met += slo_met(simulate(machine).summary(best.slo), best.slo)
    assert met >= 19


def random_question(generator: np.random.Generator) -> tuple[Scenario, Space, Load]:
    """A model on one GPU, drafting or not, under limits of which some are out of reach."""
    gpu = load_hardware(str(generator.choice(["l40s", "a100-80gb"])))
    prompt, output = (int(np.exp(generator.uniform(*np.log(ends)))) for ends in ((60, 1500), (30, 300)))
    rate, cv = float(np.exp(generator.uniform(*np.log([4, 60])))), float(generator.choice([0.1, 0.5, 1.0]))
    limits = {"ttft_s": float(generator.uniform(0.2, 1.5)), "tpot_s": float(generator.uniform(0.012, 0.05))}
    percentile = str(generator.choice(["p50", "p90", "p95", "p99"]))
    question = scenario(
        rate,
        {name: {percentile: limit} for name, limit in limits.items()},
        gpu=gpu,
        workload={
            "kind": "synthetic",
            "arrivals": {"kind": "poisson", "rate_per_s": rate},
            "requests": 100,
            "lengths": {
                "kind": "lognormal",
                "prompt_mean": prompt,
                "prompt_cv": cv,
                "output_mean": output,
                "output_cv": cv,
            },
        },
    )
    drafter = replace(DRAFTER, draft_tokens=(2,)) if generator.random() < 0.5 else None
    return question, Space(gpus=(gpu,), tensor_parallel=(1, 2), drafters=(drafter,)), Load(rate)
