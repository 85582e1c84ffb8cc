"""The batch × k map: its reduction to the founding model, its definitions, and what it must never do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.analytic.rounds import _ratio_interval, default_batches, speedup_map
from specsim.arrays import Reals
from specsim.assembly import assemble
from specsim.cost.forward import Group, Kernel, Precision, Price
from specsim.errors import InvalidInput, NoAnswer
from specsim.scenario import Scenario
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance import PowerLawAcceptance
from specsim.speculation.program import load_program
from specsim.speculation.round import RoundCost
from tests.validation.studies import study_module

TARGET = ModelSpec(
    name="toy", source="test", num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=256,
)  # fmt: skip
DRAFT = TARGET.model_copy(update={"name": "toy-draft", "num_layers": 1, "hidden_size": 32})
HARDWARE = Hardware(
    name="toy-gpu",
    source="test",
    memory_bytes=1e9,
    bandwidth_bytes_per_s=1e9,
    flops_per_s={"bfloat16": 1e12},
    last_level_cache_bytes=1,
)


class FoundingPrices:
    """The founding paper's assumptions as kernel prices: verification linear in its width, a draft pass constant."""

    name = "founding"
    machine_error = 0.0

    def __init__(self, per_token_s: float, base_s: float, draft_pass_s: float) -> None:
        self._verify = (per_token_s, base_s)
        self._draft_pass_s = draft_pass_s

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        seconds = 0.0
        if kernel.part == "lm_head" and kernel.shape[2] == TARGET.hidden_size:
            seconds = self._verify[0] * kernel.shape[0] + self._verify[1]
        elif kernel.part == "lm_head":
            seconds = self._draft_pass_s
        return Price(seconds, 0.0, 0.0, 0.0)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return 0.0


@given(
    st.floats(1e-4, 1e-1),
    st.floats(1e-3, 1.0),
    st.floats(0.0, 1e-1),
    st.floats(0.1, 1.0),
    st.floats(0.1, 0.9),
)
def test_the_general_machine_reduces_to_the_founding_model(
    per_token_s: float, base_s: float, draft_s: float, c: float, gamma: float
) -> None:
    """One sequence, verification a·(s+1) + b, draft pass t: the founding model with A = a + t and β = a + b."""
    prices = FoundingPrices(per_token_s, base_s, draft_s)
    cost = RoundCost(
        TARGET,
        prices,
        hardware=HARDWARE,
        engine=EngineLimits(),
        precision=Precision(16, 16, "bfloat16"),
        program=load_program("draft-model"),
        draft=DRAFT,
    )
    founding = study_module("founding-study", "founding_model").FoundingModel(
        slope_s=per_token_s + draft_s, base_s=per_token_s + base_s, c=c, gamma=gamma
    )
    acceptance = PowerLawAcceptance(c=c, gamma=gamma)

    def seconds_per_token(k: int) -> float:
        return cost.decode_round(1, k, 100.0).seconds / acceptance.expected_tokens(k)

    for k in range(9):
        assert seconds_per_token(k) == pytest.approx(founding.seconds_per_token(k), rel=1e-9)
    best = min(range(9), key=seconds_per_token)
    assert founding.seconds_per_token(best) == pytest.approx(
        founding.seconds_per_token(founding.best_draft_tokens(8)), rel=1e-9
    )


def scenario(**changes: object) -> Scenario:
    fields: dict[str, object] = {
        "name": "toy",
        "model": TARGET,
        "gpu": HARDWARE,
        "engine": EngineLimits(max_num_seqs=64),
        "speculation": {
            "program": "draft-model",
            "draft_model": DRAFT,
            "max_draft_tokens": 3,
            "acceptance": {"kind": "constant", "rate": 0.8},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": 4},
            "requests": 8,
            "lengths": {"kind": "fixed", "prompt_tokens": 50, "output_tokens": 40},
        },
    }
    return Scenario.model_validate(fields | changes)


@pytest.mark.parametrize("decode_only", [False, True])
def test_definitions_hold_in_every_cell(decode_only: bool) -> None:
    speedups = speedup_map(assemble(scenario()), decode_only=decode_only)
    assert {c.context_tokens for c in speedups.cells} == {70.0}
    for cell in speedups.cells:
        base = speedups.cell(cell.batch, 0)
        if decode_only:
            assert cell.step_s == cell.round_s
            assert cell.output_tokens_per_s == pytest.approx(cell.batch * cell.tokens_per_round / cell.round_s)
        assert cell.speedup == pytest.approx(cell.output_tokens_per_s / base.output_tokens_per_s)
        assert cell.low <= cell.speedup <= cell.high
        assert sum(cell.parts.values()) == pytest.approx(cell.step_s)
    assert all(cell.speedup == 1.0 for cell in speedups.cells if cell.draft_tokens == 0)


def test_no_drafts_cost_exactly_what_no_drafter_costs() -> None:
    with_drafter = assemble(scenario()).cost.decode_round(8, 0, 100.0)
    without = assemble(scenario(speculation=None)).cost.decode_round(8, 0, 100.0)
    assert with_drafter == without


def test_without_a_drafter_the_map_is_the_column_of_no_drafts() -> None:
    plain = speedup_map(assemble(scenario(speculation=None)))
    assert plain.acceptance is None
    assert plain.cells == tuple(cell for cell in speedup_map(assemble(scenario())).cells if not cell.draft_tokens)


def test_verification_reads_the_cache_once() -> None:
    """A wider verify pass over a long context must not multiply the KV traffic: less than B·q decode rows."""
    cost = assemble(scenario()).cost
    one = cost.step([Group(1, 1, 1e6, 1)], drafting=0, draft_tokens=0, drafting_kv_tokens=0).parts["attention"]
    four = cost.step([Group(1, 4, 1e6, 4)], drafting=0, draft_tokens=0, drafting_kv_tokens=0).parts["attention"]
    assert one <= four < 1.01 * one


def test_break_even_and_its_absence() -> None:
    certain = speedup_map(assemble(scenario(speculation=_acceptance(1.0))))
    hopeless = speedup_map(assemble(scenario(speculation=_acceptance(0.0))))
    assert hopeless.break_even_batch() is None
    assert not hopeless.never_breaks_even()
    assert all(best.draft_tokens == 0 for best in hopeless.best())
    even = certain.break_even_batch()
    assert even is not None
    assert max(b.batch for b in certain.best() if b.speedup > 1) == even


def _acceptance(rate: float) -> dict[str, object]:
    return {
        "program": "draft-model",
        "draft_model": DRAFT,
        "max_draft_tokens": 3,
        "acceptance": {"kind": "constant", "rate": rate},
    }


def test_default_batches_end_at_the_largest() -> None:
    assert default_batches(1) == [1]
    assert default_batches(32) == [1, 2, 4, 8, 16, 32]
    assert default_batches(48) == [1, 2, 4, 8, 16, 32, 48]


def test_refusals() -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        speedup_map(assemble(scenario()), batches=[0, 1])
    with pytest.raises(NoAnswer, match=r"toy and toy-draft do not fit toy-gpu"):
        speedup_map(assemble(scenario(gpu=HARDWARE.model_copy(update={"memory_bytes": 1e5}))))
    few = EngineLimits(max_num_seqs=64, num_kv_blocks=12)
    with pytest.raises(NoAnswer, match="holds 2 sequences of 70 tokens"):
        speedup_map(assemble(scenario(engine=few)), batches=[1, 4])
    with pytest.raises(NoAnswer, match="a sequence of 400 tokens does not fit"):
        speedup_map(assemble(scenario(engine=few)), context_tokens=400)
    with pytest.raises(ValidationError, match="choose a drafter of the same vocabulary"):
        scenario(model=TARGET.model_copy(update={"vocab_size": 512}))


def test_the_map_stops_at_the_batch_that_fits() -> None:
    """12 blocks of 16 tokens hold two sequences of 70 tokens (5 blocks each)."""
    speedups = speedup_map(assemble(scenario(engine=EngineLimits(max_num_seqs=64, num_kv_blocks=12))))
    assert sorted({cell.batch for cell in speedups.cells}) == [1, 2]


def test_an_error_of_the_machine_cancels_in_a_ratio_and_one_of_a_shape_does_not() -> None:
    class Uncertain(FoundingPrices):
        def __init__(self, machine: float, shape: float) -> None:
            super().__init__(1e-3, 1e-2, 1e-3)
            self.machine_error, self._shape_error = machine, shape

        def price(self, kernel: Kernel, *, warm: bool) -> Price:
            return Price(super().price(kernel, warm=warm).seconds, 0.0, self._shape_error, 0.0)

    def width(machine: float, shape: float) -> tuple[float, float]:
        """Half-widths of the round's and of the speed-up's interval, as shares."""
        cost = RoundCost(
            TARGET,
            Uncertain(machine, shape),
            hardware=HARDWARE,
            engine=EngineLimits(),
            precision=Precision(16, 16, "bfloat16"),
            program=load_program("draft-model"),
            draft=DRAFT,
        )
        price, base = cost.decode_round(1, 3, 100.0), cost.decode_round(1, 0, 100.0)
        _, high = _ratio_interval(price, base)
        return price.high_s / price.seconds - 1, high * price.seconds / base.seconds - 1

    assert width(0.2, 0.0) == pytest.approx((1.645 * 0.2, 0.0))
    assert width(0.0, 0.2) == pytest.approx((1.645 * 0.2, math.expm1(1.645 * 0.2 * 2**0.5)))


@pytest.mark.parametrize(("hit_rate", "like"), [(0.0, 0), (1.0, 4)])
def test_a_copy_drafter_widens_the_pass_only_where_it_proposes(hit_rate: float, like: int) -> None:
    """Never a match: a plain round and the look-up. Always one: every sequence verifies all it may."""
    runs = {"kind": "empirical", "weights": [0] * 999 + [1]} if like else {"kind": "geometric", "continue_rate": 0.5}
    law = {"kind": "hurdle", "hit_rate": hit_rate, "runs": runs}
    asked = scenario(speculation={"program": "ngram", "max_draft_tokens": 4, "acceptance": law})
    cell = speedup_map(assemble(asked), batches=[16]).cell(16, 4)
    cost = assemble(asked).cost
    look_up_s = cost.decode_round(16, 4, 70.0).parts["draft"]
    expected = cost.decode_round(16, like, 70.0).seconds + (0.0 if like else look_up_s)
    assert cell.round_s == pytest.approx(float(expected), rel=0.01)
