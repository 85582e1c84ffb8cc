"""Every bundled technique: what it says of itself, what it weighs, and that it can be priced anywhere."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.cost.forward import Precision
from specsim.cost.roofline import REACHED, Roofline
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import build
from specsim.speculation.acceptance import RecallAcceptance
from specsim.speculation.explain import facts, weight_share
from specsim.speculation.footprint import program_budget, request_blocks
from specsim.speculation.program import PRESETS, DraftProgram, load_program, program_names
from specsim.speculation.program.proposal import StaticTree
from specsim.speculation.round import RoundCost

NAMES = program_names()
PROGRAMS = {name: load_program(name) for name in NAMES}
DRAFTING = [name for name in NAMES if PROGRAMS[name].drafts]
LLAMA, SMALL, H200 = load_model("llama-3.1-8b"), load_model("llama-3.2-1b"), load_hardware("h200")
BATCHES = np.array([1.0, 2.0, 16.0, 100.0, 256.0])
# Llama-2-13B, which published sublayer sets are for.
LLAMA_13B = load_model("vicuna-13b")


def draft_of(program: DraftProgram) -> ModelSpec | None:
    return SMALL if program.needs_draft_model else None


@cache
def cost(name: str | None, ranks: int = 1, k: int = 0) -> RoundCost:
    program = None if name is None else PROGRAMS[name]
    return RoundCost(
        LLAMA,
        Roofline(H200, "bfloat16"),
        hardware=H200,
        engine=EngineLimits(),
        ranks=ranks,
        precision=Precision(16, 16, "bfloat16"),
        program=program,
        draft=None if program is None else draft_of(program),
        max_draft_tokens=k,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_tells_what_it_is_and_where_it_is_from(name: str) -> None:
    program = PROGRAMS[name]
    assert program.name == name
    assert program.mechanism
    assert program.taxonomy is not None
    assert re.search(r"arXiv \d{4}\.\d{5}|plain autoregressive|prompt-lookup-decoding", program.source)
    if program.drafts:
        assert program.acceptance is not None
        assert program.draft_tokens in program.choices(256)
        assert program.figures
    for text in (program.mechanism, *program.figures.values(), *program.unknown):
        assert "\n" not in text.strip()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_lossless_verifies_exactly(name: str) -> None:
    program = PROGRAMS[name]
    if program.lossless:
        assert program.verify.rule in ("exact", "rejection")
    else:
        assert program.verify.rule in ("typical", "none")


@pytest.mark.parametrize("name", [n for n in NAMES if PROGRAMS[n].modifier is None])
def test_no_drafts_cost_a_round_without_speculation(name: str) -> None:
    """To the last digit, on arrays, on one number and over two ranks."""
    for ranks in (1, 2):
        one, plain = (cost(which, ranks).decode_round(BATCHES, 0, 800.0) for which in (name, None))
        assert np.array_equal(np.asarray(one.seconds), np.asarray(plain.seconds))
    assert cost(name).decode_round(3, 0, 100.0).seconds == cost(None).decode_round(3, 0, 100.0).seconds


@pytest.mark.parametrize("name", DRAFTING)
def test_a_longer_draft_takes_longer_and_every_batch_has_a_price(name: str) -> None:
    program = PROGRAMS[name]
    before = np.zeros(len(BATCHES))
    for k in sorted({*program.choices(program.draft_tokens or 0)[:2], program.draft_tokens or 0}):
        seconds = np.asarray(cost(name).decode_round(BATCHES, k, 800.0).seconds)
        assert np.all(np.isfinite(seconds))
        assert np.all(seconds >= before)
        before = seconds
    plain = np.asarray(cost(None).decode_round(BATCHES, 0, 800.0).seconds)
    assert np.all(before > plain)


@pytest.mark.parametrize("name", DRAFTING)
def test_ranks_share_the_work_of_drafting(name: str) -> None:
    """Four GPUs compute a large round faster than one, communication aside."""
    k = PROGRAMS[name].draft_tokens or 0
    one, four = (cost(name, ranks).decode_round(64, k, 800.0).parts for ranks in (1, 4))
    assert np.isfinite(sum(float(value) for value in four.values()))
    assert four["gemm"] < one["gemm"]
    hidden = any(phase.placement == "overlapped" for phase in PROGRAMS[name].phases)  # behind the target's pass
    if PROGRAMS[name].own_parts(LLAMA, draft_of(PROGRAMS[name])) and not hidden:
        assert four["draft"] <= one["draft"] * 1.05


def scenario(name: str, **speculation: Any) -> Scenario:
    program = PROGRAMS[name]
    more = {"draft_model": "llama-3.2-1b"} if program.needs_draft_model else {}
    return Scenario.model_validate(
        {
            "name": "map",
            "model": "llama-3.1-8b",
            "gpu": "h200",
            "cost": {"source": "roofline"},
            "speculation": {"program": name} | more | speculation,
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
                "requests": 1,
                "lengths": {"kind": "fixed", "prompt_tokens": 600, "output_tokens": 200},
            },
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_alone_answers_the_question(name: str) -> None:
    """Default length, acceptance and policy; batch 1 to 256 on Llama-3.1-8B and an H200."""
    program, asked = PROGRAMS[name], scenario(name)
    found = speedup_map(assemble(asked), batches=[1, 16, 256])
    assert asked.speculation is not None
    k = asked.speculation.max_draft_tokens
    assert k == (program.draft_tokens or 0)
    for batch in (1, 16, 256):
        cell = found.cell(batch, k)
        assert 0 < cell.low <= cell.speedup <= cell.high < 20
        assert cell.tokens_per_round >= 1
    if program.modifier is None:
        assert found.cell(16, 0).speedup == 1.0
    longest = k if not program.proposal.tree else len(program.proposal.pass_widths(k)) or k
    assert found.cell(1, k).tokens_per_round <= 1 + longest


# Weights of one draft pass over those of one target pass, published shapes; computed by others from the same layers.
SHARES = [
    ("kangaroo", "vicuna-7b", 0.091), ("layerskip", "vicuna-7b", 0.265), ("medusa-1", "vicuna-7b", 4 * 0.0224),
    ("eagle", "vicuna-7b", 0.056), ("eagle2", "llama-3.1-8b", 0.104), ("eagle3", "llama-3.1-8b", 0.050),
    ("dflash", "qwen3-8b", 0.221), ("swift", "vicuna-13b", 0.606), ("self-speculative", "vicuna-13b", 0.639),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "share"), SHARES)
def test_a_draft_pass_reads_the_published_share_of_the_weights(name: str, model: str, share: float) -> None:
    """Shapes from arXiv 2404.18911, 2404.16710, 2401.10774, 2401.15077, 2503.01840, 2602.06036 and official code."""
    program, target = PROGRAMS[name], load_model(model)
    found = sum(weight_share(program, phase, target, None) for phase in program.phases)
    if name == "eagle3":  # the fusion, 50 M, runs once a round
        found = weight_share(program, program.phases[-1], target, None)
    assert found == pytest.approx(share, abs=0.0006)


@pytest.mark.parametrize(
    ("name", "model", "millions"),
    [
        ("kangaroo", "vicuna-7b", 67.1),
        ("medusa-1", "vicuna-7b", 591.0),
        ("eagle", "vicuna-7b", 236.0),
        ("eagle", "llama-3.3-70b", 990.0),
    ],
)
def test_own_weights_are_those_the_papers_print(name: str, model: str, millions: float) -> None:
    """arXiv 2404.18911 (67 M; Medusa 591 M); arXiv 2401.15077 (0.24 B, 0.99 B: Llama-2-70B has the same layers)."""
    parts = PROGRAMS[name].own_parts(load_model(model), None)
    assert sum(part.active_parameters() for part in parts) / 1e6 == pytest.approx(millions, rel=0.005)


def test_a_kangaroo_round_reads_what_its_drafts_and_the_closing_pass_read() -> None:
    """6 drafts at 0.091 and two of 32 layers once more: 0.61 of a target pass (arXiv 2404.18911, 7B)."""
    found = facts(PROGRAMS["kangaroo"], load_model("vicuna-7b"), None, 6)
    assert found.round_weight_share == pytest.approx(0.61, abs=0.005)
    assert found.verify_width == 7


@pytest.mark.parametrize("name", NAMES)
def test_memory_falls_with_what_is_loaded(name: str) -> None:
    program, draft = PROGRAMS[name], draft_of(PROGRAMS[name])

    def blocks(k: int, ranks: int = 1) -> int:
        deployment = Deployment(tensor_parallel=ranks)
        return request_blocks(program, program_budget(program, LLAMA, draft, H200, deployment, EngineLimits(), k))

    plain = program_budget(load_program("none"), LLAMA, None, H200, Deployment(), EngineLimits(), 0).blocks
    k = program.draft_tokens or 0
    assert blocks(2 * k) <= blocks(k) <= blocks(0)
    if program.modifier is None:
        assert blocks(0) <= plain
        budget = program_budget(program, LLAMA, draft, H200, Deployment(), EngineLimits(), k)
        assert (budget.draft_weights > 0) == bool(
            program.own_parts(LLAMA, draft) or program.footprint.hidden_per_draft
        )
    assert blocks(k, ranks=4) > blocks(k)


def test_modifiers_give_and_take_memory() -> None:
    def blocks(name: str, target: ModelSpec, ranks: int = 1) -> int:
        deployment = Deployment(tensor_parallel=ranks)
        program = PROGRAMS[name]
        return request_blocks(program, program_budget(program, target, None, H200, deployment, EngineLimits(), 0))

    assert blocks("beam-search", LLAMA) == blocks("none", LLAMA) // 4
    assert blocks("qigen", LLAMA) > blocks("none", LLAMA)
    mixtral = load_model("mixtral-8x7b")
    freed = 0.75 * 8 * 3 * 4096 * 14336 * 32 * 2
    gained = (blocks("m2r2-experts", mixtral) - blocks("none", mixtral)) * 16 * mixtral.kv_bytes_per_token()
    assert gained == pytest.approx(freed, rel=0.001)


@pytest.mark.parametrize("name", [n for n in DRAFTING if PROGRAMS[n].proposal.tree])
def test_trees_have_acceptance_by_rank_and_know_their_depth(name: str) -> None:
    program = PROGRAMS[name]
    assert program.acceptance is not None
    law = program.acceptance.law
    assert isinstance(law, RecallAcceptance)
    depth = len(program.proposal.pass_widths(program.draft_tokens or 0))
    assert depth == 0 or law.table.depth >= depth or name == "gsd"


def test_dspark_fills_a_block_at_once_and_goes_over_it_with_a_head_of_low_rank() -> None:
    """One pass of 7 positions, then 7 of one each through 256 x 128,256 weights: 0.4 % of Llama-3.1-8B's."""
    program = PROGRAMS["dspark"]
    widths = [phase.pass_widths(program.proposal, 7) for phase in program.phases]
    assert widths == [(1,), (7,), (1,) * 7]
    assert weight_share(program, program.phases[2], LLAMA, None) == pytest.approx(256 * 128256 / 7.5e9, rel=0.01)
    shares = [weight_share(PROGRAMS[name], PROGRAMS[name].phases[1], LLAMA, None) for name in ("dspark", "dflash")]
    assert shares[0] == shares[1]


@pytest.mark.parametrize("name", ["dflash", "dspark"])
def test_a_drafters_window_bounds_what_it_reads_and_keeps(name: str) -> None:
    """Beyond 2,048 tokens its five layers read no more, however long the context."""
    windowed = PROGRAMS[name]
    fields = windowed.model_dump(mode="json", exclude_none=True, by_alias=True)
    for weights in (w for phase in fields["phases"] for w in phase["weights"]):
        weights.pop("window", None)
    full = DraftProgram.model_validate(fields)

    def draft_s(program: DraftProgram, context: float) -> float:
        cost = RoundCost(
            LLAMA,
            Roofline(H200, "bfloat16"),
            hardware=H200,
            engine=EngineLimits(),
            precision=Precision(16, 16, "bfloat16"),
            program=program,
            max_draft_tokens=7,
        )
        return float(np.asarray(cost.decode_round(32, 7, context).parts["draft"]))

    assert draft_s(windowed, 512) == pytest.approx(draft_s(full, 512))
    assert draft_s(windowed, 32768) == pytest.approx(draft_s(windowed, 4096))
    read = 5 * 32 * (32768 - 2048) * 2 * 8 * 128 * 2  # layers, sequences, tokens, keys and values in 16 bits
    expected = read / (H200.bandwidth_bytes_per_s * REACHED["attention"].memory)
    assert draft_s(full, 32768) - draft_s(windowed, 32768) == pytest.approx(expected, rel=0.02)


def test_the_shape_of_sequoia_is_the_best_tree_of_its_recall() -> None:
    program = PROGRAMS["sequoia"]
    assert program.acceptance is not None
    assert isinstance(program.acceptance.law, RecallAcceptance)
    assert isinstance(program.proposal, StaticTree)
    depths = program.acceptance.law.shape(program.proposal.largest).depths()
    assert tuple(np.bincount(depths).tolist()) == program.proposal.nodes_per_depth


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("draft-model", (4, 1)), ("eagle3", (4, 0)), ("mtp", (4, 0)), ("ngram", (0, 0)), ("p-eagle", (4, 3)),
        ("pard", (4, 4)), ("dflash", (5, 4)), ("dspark", (5, 4)),
    ],
)  # fmt: skip
def test_slots_are_those_of_the_engine(name: str, counts: tuple[int, int]) -> None:
    """KV slots ahead and extra budget slots at k = 4, as vLLM V1 reserves them; none without drafts."""
    program = PROGRAMS[name]
    assert (program.lookahead_tokens(4), program.budget_tokens(4)) == counts
    assert (program.lookahead_tokens(0), program.budget_tokens(0)) == (0, 0)


def test_every_technique_takes_any_deep_enough_target() -> None:
    """Shapes are relative to the target: from 16 layers to a mixture of 256 experts."""
    for target in (load_model("llama-3.2-1b"), load_model("deepseek-v3"), load_model("opt-6.7b")):
        for name in NAMES:
            program = PROGRAMS[name]
            if not program.needs_draft_model:
                found = facts(program, target, None, program.draft_tokens or 0)
                assert 0 <= found.round_weight_share < 2 + (program.draft_tokens or 0)  # a pass a draft at most
                assert found.extra_weight_bytes >= target.weight_bits / 8 * found.extra_parameters


def test_a_layer_beyond_the_model_is_named() -> None:
    shallow = LLAMA.model_copy(update={"name": "shallow", "num_layers": 6})
    with pytest.raises(InvalidInput, match=r"program 'layerskip' is 8 and shallow has 6 layers; lower it"):
        PROGRAMS["layerskip"].check(shallow)
    fields = scenario("layerskip").model_dump(mode="json", by_alias=True)
    fields["model"]["num_layers"] = 6
    with pytest.raises(InvalidInput, match="has 6 layers"):
        Scenario.model_validate(fields)


def test_a_tree_takes_no_law_of_drafts_in_a_row() -> None:
    with pytest.raises(InvalidInput, match=r"'eagle2' drafts a tree.*give acceptance of kind recall"):
        scenario("eagle2", acceptance={"kind": "constant", "rate": 0.7})


def test_a_scenario_overrides_every_default() -> None:
    asked = scenario("specbatch", max_draft_tokens=2, acceptance={"kind": "constant", "rate": 0.5})
    assert asked.speculation is not None
    assert asked.speculation.max_draft_tokens == 2
    assert asked.speculation.acceptance.expected_tokens(2) == 1.75
    assert asked.speculation.policy.kind == "profiled"
    fixed = scenario("specbatch", policy={"kind": "fixed", "k": 1})
    assert fixed.speculation is not None
    assert fixed.speculation.policy.kind == "fixed"


def test_presets_are_all_there() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(NAMES)
    assert len(NAMES) >= 36


def test_a_malformed_program_inside_a_scenario_is_told_by_its_own_field() -> None:
    fields = scenario("kangaroo").model_dump(mode="json", by_alias=True)
    program = {"name": "x", "source": "x", "lossless": True, "proposal": "chain", "phase": 1}
    fields["speculation"] = {"program": program}
    with pytest.raises(InvalidInput, match=r"^here: unknown field speculation\.program\.phase; did you mean phases"):
        build(Scenario, fields, "here")


def test_what_a_program_says_of_itself_is_not_what_is_asked() -> None:
    fields = scenario("kangaroo").model_dump(mode="json", by_alias=True)
    retold, changed = (build(Scenario, fields, "here").model_dump(mode="json", by_alias=True) for _ in range(2))
    retold["speculation"]["program"] |= {"mechanism": "other words", "figures": {}, "draft_tokens": 2}
    changed["speculation"]["program"] |= {"lookahead": {"per_token": 2}}
    assert build(Scenario, retold, "here").sha256() == build(Scenario, fields, "here").sha256()
    assert build(Scenario, changed, "here").sha256() != build(Scenario, fields, "here").sha256()


def test_own_weights_have_the_targets_bits_unless_a_file_says_otherwise() -> None:
    """DeepSeek-V3 is published in 8 bits, its extra block with it."""
    deepseek = load_model("deepseek-v3")
    for program, bits in ((PROGRAMS["mtp"], 8), (PROGRAMS["eagle"], 8)):
        assert {part.model.weight_bits for part in program.own_parts(deepseek, None)} == {bits}
        assert {part.model.weight_bits for part in program.own_parts(LLAMA, None)} == {16}
    fields = PROGRAMS["eagle"].model_dump(mode="json")
    for weights in fields["phases"][0]["weights"]:
        weights.update({} if weights["kind"] == "head" else {"bits": 4})
    narrow = DraftProgram.model_validate(fields)
    assert {part.model.weight_bits for part in narrow.own_parts(LLAMA, None)} == {4}
