"""Intervals of simulated metrics: closed forms at light load, independence of widths, luck, and coverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from specsim.arrays import Reals
from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Group, Source
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.serving.price_draws import DOUBLINGS, PriceDraw, price_draws
from specsim.serving.simulate import simulate
from specsim.serving.uncertainty import (
    OffCost,
    PricedReplicas,
    predicted_metrics,
)
from specsim.speculation.acceptance.origin import SPREAD
from specsim.surfaces.estimates import Z90

RUNS = 24
SHRINK = math.sqrt(RUNS / (RUNS - 1))  # a column's mean square is 1, an estimate divides by RUNS - 1
METRICS = ("output_throughput", "median_tpot_ms", "median_ttft_ms", "p99_ttft_ms")


@dataclass
class Straight:
    """Seconds that are affine in tokens and drafts; errors are shares of them by class."""

    errors: Mapping[str, float] = field(default_factory=dict)
    source: Source = "measured"
    base_s: float = 0.02
    token_s: float = 2e-4

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        tokens: Reals = sum((group.tokens for group in groups), 0)
        seconds = self.base_s + self.token_s * tokens + 1e-4 * drafting * draft_tokens
        errors = {kind: share * seconds for kind, share in self.errors.items()}
        return StepTime(seconds, {"attention": 0.0 * seconds}, self.source, seconds, seconds, errors)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


Priced = Callable[[Straight], None]


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Priced:
    """Makes every scenario take the given prices."""

    def take(cost: Straight) -> None:
        monkeypatch.setattr(Assembly, "cost", property(lambda self: self.given_cost or cost))

    return take


def scenario(k: int = 0, rate_per_s: float = 0.1, requests: int = 30, **more: Any) -> Scenario:
    """Outputs of 25 tokens on up to 16 sequences; at the default rate mostly alone."""
    fields: dict[str, Any] = {
        "schema": 1, "name": "made", "model": "llama-3.1-8b", "gpu": "h100-sxm", "cost": {"source": "roofline"},
        "engine": {
            "max_num_seqs": 16, "max_num_batched_tokens": 256, "num_kv_blocks": 4000, "graph_sizes": [],
            "frontend_error": 0.0,
        },
        "workload": {
            "kind": "synthetic", "arrivals": {"kind": "poisson", "rate_per_s": rate_per_s}, "requests": requests,
            "lengths": {"kind": "fixed", "prompt_tokens": 40, "output_tokens": 25},
        },
    }  # fmt: skip
    if k:
        fields["speculation"] = {
            "program": "ngram", "max_draft_tokens": k, "policy": {"kind": "fixed", "k": k},
            "acceptance": {"kind": "constant", "rate": 0.6},
        }  # fmt: skip
    return Scenario.model_validate(fields | more)


def log_width(scenario: Scenario, name: str, **options: Any) -> float:
    found = predicted_metrics(assemble(scenario), [name], **({"vary_acceptance": False} | options))[name]
    return math.log(found.high / found.low)


def off_by_one(kind: str) -> PriceDraw:
    """One standard deviation in one class."""
    return PriceDraw({name: float(name == kind) for name in ("machine", "host")}, 0.0, 0.0, np.zeros(DOUBLINGS))


# -- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [8, 24, 64])
def test_draws_are_as_exact_as_their_number_allows(runs: int) -> None:
    """Opposite pairs, every column of mean square 1, and the first columns orthogonal: one for each pair."""
    draws = price_draws(runs, 3)
    matrix = np.array([
        [*draw.shared.values(), draw.acceptance, draw.stand_ins, *draw.by_doubling, draw.frontend] for draw in draws
    ])  # fmt: skip
    assert matrix[: runs // 2] == pytest.approx(-matrix[runs // 2 :])
    first = matrix[:, : runs // 2]
    assert first.T @ first / runs == pytest.approx(np.eye(first.shape[1]), abs=1e-12)
    assert (matrix**2).mean(axis=0) == pytest.approx(np.ones(matrix.shape[1]))


def test_kernel_draws_have_one_variance_and_forget_within_two_doublings() -> None:
    """Two widths share what lies between their doublings: 4 and 4·√2 correlate by 1/√2, 2 and 16 by nothing."""
    drawn = np.array([draw.kernels(np.array([1.0, 2.0, 4.0, 4 * 2**0.5, 7.0, 16.0])) for draw in price_draws(24, 0)])
    correlations = drawn.T @ drawn / len(drawn)
    assert np.diag(correlations) == pytest.approx(np.ones(6))
    assert correlations[2, 3] == pytest.approx(0.5**0.5)
    assert correlations[[0, 1, 2], [5, 5, 5]] == pytest.approx(np.zeros(3), abs=1e-12)


def test_the_same_seed_draws_the_same() -> None:
    made = scenario(2, 20.0)
    one = predicted_metrics(assemble(made), METRICS, runs=8, vary_acceptance=True)
    assert one == predicted_metrics(assemble(made), METRICS, runs=8, vary_acceptance=True)
    other = predicted_metrics(assemble(made.model_copy(update={"seed": 1})), METRICS, runs=8, vary_acceptance=True)
    assert other["median_tpot_ms"] != one["median_tpot_ms"]


# -- closed forms -----------------------------------------------------------------------------------------------------


def test_without_errors_there_is_no_width(priced: Priced) -> None:
    priced(Straight())
    for made in (scenario(), scenario(3, 30.0)):
        value = simulate(assemble(made)).summary()
        for name, found in predicted_metrics(assemble(made), METRICS, vary_acceptance=False).items():
            assert found.value == found.low == found.high == value[name]


@pytest.mark.parametrize("kind", ["machine", "host"])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_prices_off_by_a_share_move_tpot_by_that_share(priced: Priced, kind: str, share: float) -> None:
    """A request alone decodes one token a step, so its TPOT is the price of a step."""
    priced(Straight({kind: share}))
    made = scenario(rate_per_s=1e-3)
    machine = assemble(made)
    off = simulate(machine, replicas=PricedReplicas(machine).off_by(off_by_one(kind), 0)).summary()["mean_tpot_ms"]
    assert off == pytest.approx(math.exp(share) * simulate(machine).summary()["mean_tpot_ms"], rel=1e-9)


@pytest.mark.parametrize("kind", ["machine", "host", "gemm"])
def test_a_request_alone_has_the_interval_of_its_steps(priced: Priced, kind: str) -> None:
    """ln TPOT = ln price + share · draw, so that the ends are exp(±1.645 share) off the value."""
    priced(Straight({kind: 0.1}))
    found = predicted_metrics(assemble(scenario(rate_per_s=1e-3)), ["mean_tpot_ms"], vary_acceptance=False)[
        "mean_tpot_ms"
    ]
    assert math.log(found.high / found.value) == pytest.approx(1.645 * 0.1 * SHRINK, rel=1e-6)
    assert math.log(found.value / found.low) == pytest.approx(1.645 * 0.1 * SHRINK, rel=1e-6)


def test_classes_are_independent(priced: Priced) -> None:
    """Widths of 0.06 by the machine, 0.08 by two kernel classes of 0.064 and 0.048: together 0.1."""
    priced(Straight({"machine": 0.06, "gemm": 0.064, "attention": 0.048}))
    width = log_width(scenario(rate_per_s=1e-3), "mean_tpot_ms")
    assert width == pytest.approx(2 * 1.645 * 0.1 * SHRINK, rel=0.02)  # the two sides of the mean split the runs


def test_kernel_errors_average_over_widths_and_stand_ins_do_not(priced: Priced) -> None:
    """The last of many requests at once finish on fewer and fewer sequences: 16 to 1 tokens a step."""
    lengths = {"kind": "lognormal", "prompt_mean": 20, "prompt_cv": 0.2, "output_mean": 60, "output_cv": 1.5}
    workload = {"arrivals": {"kind": "poisson", "rate_per_s": 1000}, "lengths": lengths, "requests": 16}
    made = scenario(workload={"kind": "synthetic", **workload})
    widths = {}
    for source in ("measured", "roofline"):
        priced(Straight({"gemm": 0.1}, source))  # type: ignore[arg-type]
        widths[source] = log_width(made, "duration")
    assert widths["roofline"] == pytest.approx(2 * 1.645 * 0.1 * SHRINK, rel=0.02)
    assert widths["measured"] < 0.8 * widths["roofline"]


def test_wrong_prices_leave_wider_intervals(priced: Priced) -> None:
    widths: dict[str, list[float]] = {name: [] for name in METRICS}
    for share in (0.03, 0.06, 0.12):
        priced(Straight({"machine": share, "gemm": share}))
        for name, found in predicted_metrics(assemble(scenario(2, 12.0, 60)), METRICS, vary_acceptance=False).items():
            widths[name].append(found.high / found.low)
    for name in METRICS:
        assert widths[name] == sorted(widths[name]), name
        assert widths[name][-1] > 1.0


def test_latency_is_less_sure_under_load(priced: Priced) -> None:
    priced(Straight({"machine": 0.1}))
    light, heavy = (log_width(scenario(0, rate, 80), "mean_ttft_ms") for rate in (1.0, 19.0))
    assert light == pytest.approx(2 * 1.645 * 0.1, rel=0.15)
    assert heavy > 2 * light


# -- luck -------------------------------------------------------------------------------------------------------------


def test_luck_in_acceptance_shrinks_with_the_root_of_the_requests(priced: Priced) -> None:
    """AL of R rounds has standard deviation sd(X) / √R, X = 1 + the leading right ones of 3 drafts; the law is
    off by 2 % of what is accepted, which does not shrink."""
    priced(Straight())
    chances = np.array([0.4, 0.24, 0.144, 0.216])  # of 0 to 3 accepted at a rate of 0.6
    mean = float(chances @ np.arange(4))
    spread = math.sqrt(float(chances @ np.arange(4) ** 2) - mean**2)
    for requests in (30, 480):
        made = scenario(3, 5.0, requests)
        rounds = simulate(assemble(made)).summary()["spec_decode_num_drafts"]
        found = predicted_metrics(assemble(made), ["spec_decode_acceptance_length"], runs=64, vary_acceptance=True)
        length = found["spec_decode_acceptance_length"]
        expected = math.hypot(spread / math.sqrt(rounds), SPREAD["measured"] * mean)
        assert length.high - length.low == pytest.approx(2 * Z90 * expected, rel=0.35)
        assert length.low < 1 + mean < length.high


def test_imposed_draws_stay_the_scenarios_own(priced: Priced) -> None:
    priced(Straight({"machine": 0.1}))
    name = "spec_decode_acceptance_length"
    found = predicted_metrics(assemble(scenario(3)), [name], runs=8, vary_acceptance=False)[name]
    assert found.low == found.value == found.high


def test_the_front_end_widens_the_first_token_alone(priced: Priced) -> None:
    """Steps of a microsecond: TTFT is the request's way, whose logarithm is known to 0.3."""
    priced(Straight(base_s=1e-6, token_s=1e-9))
    front_end = {"frontend_request_s": 0.1, "frontend_response_s": 0.0, "frontend_error": 0.3}
    unsure = scenario(requests=10, engine={"num_kv_blocks": 4000, "graph_sizes": [], **front_end})
    assert log_width(unsure, "median_ttft_ms", runs=24) == pytest.approx(2 * Z90 * 0.3, rel=0.25)
    assert log_width(unsure, "median_tpot_ms", runs=24) < 0.01


# -- ways to the same result ------------------------------------------------------------------------------------------


def test_tables_are_off_as_the_steps_themselves_are(priced: Priced) -> None:
    """The same draw applied step by step and put into tables, which hold it at knots over the tokens."""
    cost = Straight({"machine": 0.05, "host": 0.03, "gemm": 0.1})
    priced(cost)
    made = scenario(3, 15.0, 60)
    servers = PricedReplicas(assemble(made))
    for draw in price_draws(8, 5)[:4]:
        (server,) = servers.off_by(draw, 9)
        stepwise = OffCost(cost, draw)
        for n in range(1, 17):
            decodes, chunk = Group(n, 4, 100, 4), Group(1, 10 * n, 10 * n, 1)
            for groups in ([decodes], [Group(n, 1, 100, 1)], [chunk], [decodes, chunk]):
                asked = {"drafting": n, "draft_tokens": 3, "drafting_kv_tokens": 100.0}
                table, exact = (float(price.step(groups, **asked).seconds) for price in (server.cost, stepwise))  # type: ignore[arg-type]
                assert table == pytest.approx(exact, rel=2.5e-3)
        ran = [
            simulate(assemble(made), replicas=[replace(server, given_cost=price)]).summary()
            for price in (server.cost, stepwise)
        ]
        for name in ("median_tpot_ms", "mean_e2el_ms", "output_throughput"):
            assert ran[0][name] == pytest.approx(ran[1][name], rel=0.02), name


def test_policies_believe_the_central_price(priced: Priced) -> None:
    """An engine was set up before anyone knew how far the prices are off."""
    cost = Straight({"machine": 0.5})
    priced(cost)
    made = scenario(3)
    (server,) = PricedReplicas(assemble(made)).off_by(off_by_one("machine"), 4)
    assert server.believed_cost is cost
    assert server.seed == 4


@pytest.mark.parametrize(("program", "basis", "spread"), [
    ("eagle3", "measured", 0.02), ("eagle3", "cited", 0.2), ("eagle3", "assumed", 0.3), ("ngram", "cited", 0.75),
])  # fmt: skip
def test_where_acceptance_is_from_widens_the_interval(priced: Priced, program: str, basis: str, spread: float) -> None:
    """Exact prices, one request at a time: TPOT is the round over the tokens it commits, which are off by the spread.

    Rounds end with the 25 tokens of a request, so that the last one wastes some of what it accepts.
    """
    priced(Straight())
    speculation = {
        "program": program, "max_draft_tokens": 2, "acceptance": {"kind": "constant", "rate": 0.6},
        "acceptance_origin": {"basis": basis, "source": "a test"},
    }  # fmt: skip
    made = scenario(requests=200, speculation=speculation)
    length = 1.0 + 0.6 + 0.36
    width = log_width(made, "mean_tpot_ms", vary_acceptance=True)
    luck = log_width(scenario(requests=200, speculation=speculation | {"acceptance_origin": {}}), "mean_tpot_ms")
    assert width == pytest.approx(2 * Z90 * spread * (length - 1) / length, rel=0.25, abs=0.02 + luck)


def test_policies_believe_the_acceptance_that_the_scenario_states(priced: Priced) -> None:
    priced(Straight())
    made = scenario(3)
    draw = replace(off_by_one("machine"), acceptance=-2.0)
    (server,) = PricedReplicas(assemble(made)).off_by(draw, 4)
    assert made.speculation is not None
    assert server.believed_acceptance == made.speculation.acceptance
    assert server.law("default") != made.speculation.acceptance


def test_only_what_counts_is_counted(priced: Priced) -> None:
    priced(Straight())

    def first_half(result: RunResult) -> RunResult:
        return result.trimmed(0.0, result.requests[14].arrival_s)

    found = predicted_metrics(assemble(scenario()), ["completed"], runs=8, vary_acceptance=False, counted=first_half)
    assert found["completed"].value == 15


def test_keys_without_a_number_are_left_out(priced: Priced) -> None:
    priced(Straight())
    names = ["spec_decode_acceptance_length", "preemptions", "price_source", "completed"]
    assert list(predicted_metrics(assemble(scenario()), names, runs=8, vary_acceptance=False)) == [
        "preemptions",
        "completed",
    ]


@pytest.mark.parametrize("runs", [2, 9])
def test_runs_come_in_pairs(runs: int) -> None:
    with pytest.raises(InvalidInput, match=f"^{runs} runs make no interval: .* choose an even number, such as 24$"):
        predicted_metrics(assemble(scenario()), ["duration"], runs=runs, vary_acceptance=False)


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="a summary has no mean_luck; choose from duration, completed"):
        predicted_metrics(assemble(scenario()), ["mean_luck"], runs=8, vary_acceptance=False)


# -- coverage ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_intervals_cover_truths_drawn_from_the_same_errors(priced: Priced, load: float, vary: bool) -> None:
    """90 % of 200 truths with independent draws, over four intervals of other draws each; truths' noise is 2 %."""
    priced(Straight({"machine": 0.06, "host": 0.03, "gemm": 0.08, "attention": 0.05}))
    at_once = {"kind": "poisson", "rate_per_s": 1e6}
    workload = scenario(2, 1.0, 100).workload.model_dump() | {"arrivals": at_once}
    saturation = simulate(assemble(scenario(2, workload=workload))).summary()["request_throughput"]
    made = scenario(2, load * saturation, 100)
    servers = PricedReplicas(assemble(made))
    generator = np.random.default_rng(11)
    truths = []
    for _ in range(200):
        z = generator.standard_normal(4 + DOUBLINGS)
        draw = PriceDraw({"machine": z[0], "host": z[1]}, z[3] if vary else 0.0, z[2], z[4:])
        seed = int(generator.integers(2**31)) if vary else made.seed
        truths.append(simulate(assemble(made), replicas=servers.off_by(draw, seed)).summary())
    several = [
        predicted_metrics(assemble(made), METRICS, runs=runs, vary_acceptance=vary) for runs in (24, 26, 28, 30)
    ]
    for name in METRICS:
        inside = [found[name].low <= truth[name] <= found[name].high for found in several for truth in truths]
        assert 0.84 <= np.mean(inside) <= 0.96, name
