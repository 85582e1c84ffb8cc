"""Served with trained weights: every request continues its prompt as the target would alone, and luck is no law's."""

from __future__ import annotations

import importlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytest.importorskip("safetensors")
tokenizers = pytest.importorskip("tokenizers")

from specsim.assembly import assemble  # noqa: E402
from specsim.errors import InvalidInput  # noqa: E402
from specsim.profiling.acceptance.record import record, stored_candidates  # noqa: E402
from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import Outcome, generate, run_step  # noqa: E402
from specsim.reference.decoding.models import load_transformer  # noqa: E402
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.reference.timing import run  # noqa: E402
from specsim.reference.timing.grid import measure_grid  # noqa: E402
from specsim.results import RunResult  # noqa: E402
from specsim.scenario import Scenario, load_scenario  # noqa: E402
from specsim.scenario.prompts import encoded, read_prompts  # noqa: E402
from specsim.serving.simulate import simulate  # noqa: E402
from specsim.speculation.acceptance import TraceAcceptance  # noqa: E402
from specsim.speculation.program import load_program  # noqa: E402

pytestmark = pytest.mark.torch

MODELS = Path(__file__).parents[2] / "validation" / "models"
PROMPT, OUTPUT, PROMPTS, HEADS, EXIT = 6, 25, 3, 4, 2
SIZES = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4, "vocab_size": 3, "tied_embeddings": True}
TARGET = {"name": "target", "source": "test", "num_layers": 3, "hidden_size": 16, "intermediate_size": 24, **SIZES}
DRAFT = TARGET | {
    "name": "draft",
    "num_layers": 1,
    "hidden_size": 8,
    "num_heads": 2,
    "num_kv_heads": 1,
    "intermediate_size": 8,
}
LARGE = TARGET | {
    "name": "large",
    "num_layers": 6,
    "hidden_size": 40,
    "num_heads": 9,
    "num_kv_heads": 3,
    "intermediate_size": 48,
    "head_dim": 8,
}
LARGE_DRAFT = LARGE | {"name": "large draft", "num_layers": 2}
CPU = {
    "name": "a-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 8e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 32_000_000,
}


def exiting(**changes: Any) -> dict[str, Any]:
    """An early exit behind layer EXIT with an adapter of the target's KV heads, always drafting to the end."""
    program = load_program("kangaroo").model_dump(mode="json", exclude_none=True, exclude={"stop"})
    program["phases"][0]["weights"][1] |= {"kv_heads": "target"} | changes
    return program


PROGRAMS: dict[str, Any] = {
    "draft": "draft-model",
    "medusa": "medusa",
    "eagle": "eagle",
    "exit": exiting(),
    "ngram": "ngram",
}
TREE = {"kind": "recall", "tree": "optimal", "table": {"recall": [[0.5, 0.3], [0.4, 0.2], [0.4, 0.2]]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks of three tokens, whose guesses are often right by chance, with a tokenizer and prompts."""
    made = tmp_path_factory.mktemp("models")
    sys.path.insert(0, str(MODELS))
    try:
        checkpoint, network = (importlib.import_module(name) for name in ("checkpoint", "network"))
    finally:
        sys.path.remove(str(MODELS))
    shape = network.Shape(3, 16, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=24, head_dim=4)
    draft = network.Shape(3, 8, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=8, head_dim=4)
    torch.manual_seed(4)
    trained = checkpoint.build(shape, draft, heads=HEADS, exit_layer=EXIT)
    for name, net in trained.networks().items():
        for weight in net.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.4)
        write_checkpoint(Checkpoint(checkpoint.configs(trained)[name], net.state_dict()), made / name)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(made / "target" / "tokenizer.json"))
    letters = np.random.default_rng(1).choice(list("abc"), (PROMPTS, PROMPT + 4))
    (made / "prompts.jsonl").write_text("".join(json.dumps({"prompt": " ".join(row)}) + "\n" for row in letters))
    return made


def question(folder: Path, drafter: str | None, *, k: int = HEADS, **changes: Any) -> Scenario:
    """Twice as many requests as prompts, some waiting for others."""
    speculation = None
    if drafter is not None:
        speculation = {
            "program": PROGRAMS[drafter],
            "draft_model": DRAFT if drafter == "draft" else None,
            "max_draft_tokens": k,
            "acceptance": {"kind": "constant", "rate": 0.9},
            "policy": {"kind": "fixed", "k": k},
        }
    own = {} if drafter in (None, "ngram") else {"drafter": folder / str(drafter)}
    data: dict[str, Any] = {
        "schema": 1,
        "name": "real",
        "model": TARGET,
        "gpu": CPU,
        "deployment": {"weight_bits": 32, "kv_bits": 32},
        "engine": {"max_num_seqs": 4, "max_num_batched_tokens": 256, "num_kv_blocks": 60, "block_size": 16},
        "speculation": speculation,
        "seed": 3,
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": 4},
            "requests": 2 * PROMPTS,
            "lengths": {"kind": "fixed", "prompt_tokens": PROMPT, "output_tokens": OUTPUT},
        },
        "weights": {"target": folder / "target", "prompts": folder / "prompts.jsonl", **own},
    }
    for key, value in changes.items():
        data[key] = data[key] | value if isinstance(value, dict) and isinstance(data[key], dict) else value
    return Scenario.model_validate(data)


def served(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> tuple[RunResult, dict[int, list[int]]]:
    """The run, and each request's output tokens."""
    outputs: dict[int, list[int]] = {}

    def noted(*given: Any) -> Outcome:
        outcome = run_step(*given)
        outputs.update({number: tokens.tolist() for number, tokens in outcome.finished.items()})
        return outcome

    monkeypatch.setattr(run, "run_step", noted)
    return run.serve(assemble(scenario)), outputs


def target_of(folder: Path) -> Transformer:
    return load_transformer(
        read_checkpoint(folder / "target"), device="cpu", dtype=torch.float32, max_sequences=PROMPTS, max_length=64
    )


def prompts_of(folder: Path) -> list[Any]:
    return [ids[:PROMPT] for ids in encoded(folder / "target", read_prompts(folder / "prompts.jsonl"))]


@cache
def alone(folder: Path) -> list[list[int]]:
    """What the target says to each prompt without any drafter."""
    found, _ = generate(Engine(target_of(folder)), prompts_of(folder), [OUTPUT] * PROMPTS)
    return [output.tolist() for output in found]


@pytest.mark.parametrize("drafter", [None, *PROGRAMS])
def test_every_request_gets_what_the_target_alone_says_to_its_prompt(
    drafter: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, outputs = served(question(folder, drafter), monkeypatch)
    expected = alone(folder)
    assert outputs == {number: expected[number % PROMPTS] for number in range(2 * PROMPTS)}
    assert len({tuple(output) for output in expected}) > 1
    assert result.versions.get("acceptance") == (None if drafter is None else "real")


@pytest.mark.parametrize("k", [1, HEADS])
@pytest.mark.parametrize("drafter", PROGRAMS)
def test_its_rounds_accept_what_k_free_runs_say(drafter: str, k: int, folder: Path) -> None:
    """Exactly, request by request: a round that starts at an output position accepts min(k, its run)."""
    target = target_of(folder)
    candidates = stored_candidates(folder, target, HEADS)
    runs = record(target, {drafter: candidates[drafter]}, prompts_of(folder), OUTPUT - 1).runs[drafter]
    result = run.serve(assemble(question(folder, drafter, k=k)))
    law = TraceAcceptance(runs=tuple(tuple(row.tolist()) for row in runs), cap=HEADS, order="listed")
    rounds = [(len(one), int(one.sum())) for one in law.replay(k)]
    assert [(one.rounds, one.accepted) for one in result.requests] == rounds * 2
    assert 0.05 < sum(accepted for _, accepted in rounds) / sum(count for count, _ in rounds) < k


@pytest.mark.parametrize("drafter", [None, *PROGRAMS])
def test_inflated_models_accept_what_the_small_ones_do(
    drafter: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = question(folder, drafter, model=LARGE)
    if drafter == "draft":
        grown = scenario.speculation.model_dump() | {"draft_model": LARGE_DRAFT}  # type: ignore[union-attr]
        scenario = question(folder, drafter, model=LARGE, speculation=grown)
    small, _ = served(question(folder, drafter), monkeypatch)
    large, outputs = served(scenario, monkeypatch)
    # Rounding and noise may decide between near-equal tokens, and from there on a text is another one.
    same = [number for number, output in outputs.items() if output == alone(folder)[number % PROMPTS]]
    assert len(same) >= 2 * PROMPTS - 2
    for number in same:
        here, there = small.requests[number], large.requests[number]
        assert abs(here.rounds - there.rounds) <= 1


def test_an_adapter_takes_the_kv_heads_that_its_program_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated KV heads compute what the stored ones do, at the cost that the program states."""
    few = question(folder, "exit")
    all_heads = few.speculation.model_dump() | {"program": exiting(kv_heads="all")}  # type: ignore[union-attr]
    many = question(folder, "exit", speculation=all_heads)
    results = []
    for scenario, kv_heads in ((few, 2), (many, 4)):
        models = run.build_models(scenario, device="cpu", max_sequences=1, max_length=8)
        drafter = run.drafter(models, scenario)
        assert drafter.adapter.layers.spec.num_kv_heads == kv_heads  # type: ignore[union-attr]
        results.append(served(scenario, monkeypatch))
    assert results[0][1] == results[1][1]
    assert results[0][0].acceptance == results[1][0].acceptance


@pytest.mark.parametrize("drafter", ["draft", "medusa", "eagle"])
def test_fixed_trees_are_verified_for_real(drafter: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = {"draft": "specinfer", "medusa": "medusa-1", "eagle": "eagle-tree"}[drafter]
    data = load_program(program).model_dump(mode="json", exclude_none=True)
    data["proposal"] |= {"nodes_per_depth": [2, 2, 2], "budgets": [6]}
    tree = {"program": data, "max_draft_tokens": 6, "acceptance": TREE, "policy": {"kind": "fixed", "k": 6}}
    result, outputs = served(question(folder, drafter, speculation=tree), monkeypatch)
    chain, _ = served(question(folder, drafter), monkeypatch)
    assert outputs == {number: alone(folder)[number % PROMPTS] for number in range(2 * PROMPTS)}
    lengths = [one.acceptance.acceptance_length() for one in (chain, result)]
    assert lengths[1] > lengths[0] > 1  # type: ignore[operator]  # two candidates a depth against one


def test_predictions_and_the_hash_do_not_look_at_weights(folder: Path) -> None:
    scenario = question(folder, "medusa", weights={"target": Path("nowhere"), "prompts": Path("nowhere.jsonl")})
    plain = scenario.model_copy(update={"weights": None})
    assert scenario.sha256() == question(folder, "medusa").sha256() == plain.sha256()
    assert simulate(assemble(scenario)).summary() == simulate(assemble(plain)).summary()


def test_files_are_found_beside_the_scenario_even_if_they_are_missing(folder: Path, tmp_path: Path) -> None:
    data = question(folder, "medusa").model_dump(mode="json", by_alias=True)
    data["weights"] = {"target": "models/target", "drafter": str(folder / "medusa"), "prompts": "p.jsonl"}
    (tmp_path / "scenario.yaml").write_text(json.dumps(data))
    weights = load_scenario(str(tmp_path / "scenario.yaml")).weights
    assert weights is not None
    assert (weights.target, weights.prompts) == (tmp_path / "models" / "target", tmp_path / "p.jsonl")
    assert weights.drafter == folder / "medusa"


# -- refusals -----------------------------------------------------------------------------------------------------


def refusal(scenario: Scenario) -> str:
    with pytest.raises(InvalidInput) as caught:
        run.serve(assemble(scenario))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_drafters_folder_is_asked_for_where_the_program_has_weights(folder: Path) -> None:
    weights = {"target": folder / "target", "prompts": folder / "prompts.jsonl", "drafter": None}
    with pytest.raises(ValueError, match=r"weights\.drafter is missing and program 'medusa'"):
        question(folder, "medusa", weights=weights)
    with pytest.raises(ValueError, match=r"program 'ngram' has no weights of its own; remove it"):
        question(folder, "ngram", weights=weights | {"drafter": folder / "medusa"})
    assert question(folder, None, weights=weights | {"drafter": folder / "medusa"}).weights is not None


def test_missing_and_foreign_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "validation/models/prompts/make.py" in refusal(
        question(folder, None, weights={"prompts": tmp_path / "no.jsonl"})
    )
    assert "there is no folder" in refusal(question(folder, None, weights={"target": tmp_path / "no"}))
    assert "config.json" in refusal(question(folder, "medusa", weights={"drafter": tmp_path}))
    assert "blocks.0" in refusal(question(folder, "medusa", weights={"drafter": folder / "draft"}))
    assert "medusa has no weight" in refusal(question(folder, "eagle", weights={"drafter": folder / "medusa"}))
    assert "behind layer None" in refusal(question(folder, "exit", weights={"drafter": folder / "eagle"}))


def test_more_heads_than_were_trained_and_another_exit_are_refused(folder: Path) -> None:
    data = load_program("medusa").model_dump(mode="json", exclude_none=True)
    for weights in data["phases"][0]["weights"]:
        weights["count"] = HEADS + 1
    more = question(folder, "medusa").speculation.model_dump() | {"program": data}  # type: ignore[union-attr]
    assert f"blocks.{HEADS}" in refusal(question(folder, "medusa", speculation=more))
    program = exiting()
    program["phases"][0]["weights"][0]["last"] = 1
    program["verify"] = {"rule": "exact"}
    other = question(folder, "exit").speculation.model_dump() | {"program": program}  # type: ignore[union-attr]
    assert "trained behind layer 2" in refusal(question(folder, "exit", speculation=other))


def test_shapes_that_do_not_hold_the_checkpoint_are_refused(folder: Path) -> None:
    assert "hidden_size 8 of target is below the 16" in refusal(question(folder, None, model={"hidden_size": 8}))
    assert "vocab_size 5" in refusal(question(folder, None, model={"vocab_size": 5}))
    assert "qk_norm" in refusal(question(folder, None, model={"qk_norm": "head"}))


def test_skipping_layers_that_do_nothing_is_refused(folder: Path) -> None:
    speculation = {
        "program": "swift",
        "max_draft_tokens": 2,
        "acceptance": {"kind": "constant", "rate": 0.5},
        "policy": {"kind": "fixed", "k": 2},
    }
    assert "do nothing" in refusal(question(folder, None, model=LARGE, speculation=speculation))
    assert run.serve(assemble(question(folder, None, speculation=speculation))).acceptance.drafted() > 0


def test_short_prompts_and_long_contexts_are_refused(folder: Path) -> None:
    def lengths(prompt: int, output: int) -> dict[str, Any]:
        return {"lengths": {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output}}

    long = refusal(question(folder, None, workload=lengths(PROMPT + 5, OUTPUT)))
    assert f"has {PROMPT + 4} tokens and request 0 continues {PROMPT + 5}" in long
    assert "2048 positions" in refusal(question(folder, None, workload=lengths(PROMPT, 2048)))


def test_a_map_of_a_scenario_with_weights_is_refused(folder: Path) -> None:
    cells = measure_grid(
        assemble(question(folder, "draft")), batches=[1], draft_lengths=[0], repeats=2, seconds_per_cell=0.0
    )
    with pytest.raises(InvalidInput, match="serve the workload instead"):
        next(cells)
