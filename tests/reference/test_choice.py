"""A program's data chooses the drafter, which then lives through the luck that the simulator gives the program."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from specsim.assembly import assemble  # noqa: E402
from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.choice import drafter_of, spread  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    DraftModel,
    DynamicExit,
    Eagle,
    EarlyExit,
    Grown,
    Lookahead,
    Medusa,
    Merged,
    NGram,
    SkippedLayers,
)
from specsim.reference.drafters.own_weights import RandomWeights  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.reference.timing.grid import measure_grid  # noqa: E402
from specsim.reference.timing.run import serve  # noqa: E402
from specsim.scenario import Scenario, Speculation  # noqa: E402
from specsim.serving.simulate import simulate  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.program import load_program, program_names  # noqa: E402
from specsim.speculation.program.draft_weights import TargetSublayers  # noqa: E402

pytestmark = pytest.mark.torch

TARGET: dict[str, Any] = {
    "name": "target", "source": "test", "num_layers": 10, "hidden_size": 32, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "vocab_size": 101, "weight_bits": 32,
}  # fmt: skip
DRAFT = TARGET | {"name": "draft", "num_layers": 1}
CPU = {
    "name": "a-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 8e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 32_000_000,
}
PROGRAMS = {
    "draft-model": DraftModel, "specinfer": DraftModel, "ngram": NGram, "llma": NGram, "medusa": Medusa,
    "medusa-1": Medusa, "swift": SkippedLayers, "self-speculative": SkippedLayers, "layerskip": EarlyExit,
    "kangaroo": EarlyExit, "del": DynamicExit, "eagle": Eagle, "eagle-tree": Eagle, "eagle2": Grown,
    "lookahead": Lookahead, "gsd": Merged,
}  # fmt: skip


def speculation(program: str) -> dict[str, Any]:
    needs_model = load_program(program).needs_draft_model
    return {"program": program, "draft_model": DRAFT if needs_model else None}


def question(program: str) -> Scenario:
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": "chosen",
            "model": TARGET,
            "gpu": CPU,
            "deployment": {"kv_bits": 32},
            "engine": {"max_num_seqs": 2, "max_num_batched_tokens": 256, "num_kv_blocks": 60, "block_size": 16},
            "speculation": speculation(program),
            "seed": 3,
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "closed_loop", "concurrency": 2},
                "requests": 4,
                "lengths": {"kind": "fixed", "prompt_tokens": 12, "output_tokens": 16},
            },
        }
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_with_the_drafter_it_describes(program: str) -> None:
    """And accepts, request by request, what the simulator has it accept."""
    scenario = question(program)
    assert scenario.speculation is not None
    make = drafter_of(scenario.speculation)
    target, draft = (
        Transformer(ModelSpec.model_validate(spec), device="cpu", dtype=torch.float32, max_sequences=1, max_length=4)
        for spec in (TARGET, DRAFT)
    )
    assert make is not None
    assert type(make(target, draft, RandomWeights(0))) is PROGRAMS[program]
    served, simulated = serve(assemble(scenario), device="cpu"), simulate(assemble(scenario))
    assert served.acceptance == simulated.acceptance
    assert served.acceptance.drafted() > 0
    for ours, theirs in zip(served.requests, simulated.requests, strict=True):
        assert (ours.rounds, ours.drafted, ours.accepted) == (theirs.rounds, theirs.drafted, theirs.accepted)


@pytest.mark.parametrize("program", ["specinfer", "medusa-1", "swift", "kangaroo", "eagle-tree"])
def test_its_rounds_are_measured_with_real_passes(program: str) -> None:
    """Every cell of the map runs, its contexts stay in their window, and only drafting takes draft time."""
    scenario = question(program)
    assert scenario.speculation is not None
    sizes = scenario.speculation.program.choices(scenario.speculation.max_draft_tokens)
    lengths = [0, *sizes[-2:]]
    rows = list(measure_grid(assemble(scenario), batches=[2], draft_lengths=lengths, repeats=1, seconds_per_cell=0.0))
    assert sorted({row.draft_tokens for row in rows}) == sorted(set(lengths))
    for row in rows:
        assert (row.draft_s > 0) == (row.draft_tokens > 0)
        assert row.rounds <= row.output_tokens / 2 <= row.rounds * (1 + row.draft_tokens)
        assert abs(row.context_tokens - scenario.mean_context_tokens()) < 48


def test_every_other_program_is_refused_by_what_it_is_not() -> None:
    """Every preset either runs or is refused in one line that says what there is."""
    refused = {}
    for program in program_names():
        try:
            drafter_of(Speculation.model_validate(speculation(program)))
        except InvalidInput as error:
            refused[program] = str(error)
    assert not [text for text in refused.values() if "\n" in text or "early exit" not in text]
    assert {"medusa-2", "eagle3-tree", "eagle3", "pearl", "skipdecode", "dflash"} <= set(refused)
    assert not set(PROGRAMS) & set(refused)


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({"name": "another name"}, True),
        ({"verify": {"rule": "typical"}}, False),
        ({"phases": [{"weights": "draft_model", "passes": "per_token", "placement": "overlapped"}]}, False),
        ({"phases": [{"weights": "draft_model", "passes": 1, "width": "per_token"}]}, False),
    ],
)
def test_data_decide_and_not_names(change: dict[str, Any], runs: bool) -> None:
    program = load_program("draft-model").model_dump(exclude_none=True) | change
    asked = Speculation.model_validate(speculation("draft-model") | {"program": program})
    if runs:
        assert drafter_of(asked) is not None
    else:
        with pytest.raises(InvalidInput, match="cannot run"):
            drafter_of(asked)


def test_an_exit_keeps_the_programs_layer_and_whether_states_are_reused() -> None:
    target = Transformer(
        ModelSpec.model_validate(TARGET), device="cpu", dtype=torch.float32, max_sequences=1, max_length=4
    )
    found = []
    for from_layer in (8, 0):
        program = load_program("layerskip").model_dump(exclude_none=True)
        program["verify"] = {"rule": "exact", "from_layer": from_layer}
        make = drafter_of(Speculation.model_validate({"program": program}))
        assert make is not None
        drafter = make(target, None, RandomWeights(0))
        assert isinstance(drafter, EarlyExit)
        found.append((drafter.last, drafter.from_layer))
    assert found == [(8, 8), (8, 0)]


def test_more_drafts_than_heads_are_refused() -> None:
    scenario = question("medusa")
    asked = scenario.model_dump(by_alias=True, exclude_none=True)
    asked["speculation"] |= {"max_draft_tokens": 5, "acceptance": {"kind": "constant", "rate": 0.5}}
    asked["speculation"]["policy"] = {"kind": "fixed", "k": 5}
    with pytest.raises(InvalidInput, match="there are 4 heads"):
        serve(assemble(Scenario.model_validate(asked)), device="cpu")


def test_skipped_sublayers_are_spread_and_keep_both_ends() -> None:
    kept = spread(TargetSublayers(attention_share=0.5, mlp_share=0.3), ModelSpec.model_validate(TARGET))
    assert (sum(kept.attention), sum(kept.mlp)) == (5, 3)
    assert kept.mlp[0]
    assert kept.mlp[-1]
    assert kept.attention[0]
    assert kept.attention[-1]
