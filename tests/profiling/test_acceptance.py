"""Recorded acceptance traces: against brute force, against the engine's own verification, and as files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the profile extra")
pytest.importorskip("safetensors")
tokenizers = pytest.importorskip("tokenizers")

import typer  # noqa: E402

from specsim.cli.profile_acceptance import acceptance  # noqa: E402
from specsim.errors import InvalidInput  # noqa: E402
from specsim.profiling.acceptance.record import (  # noqa: E402
    CappedDrafter,
    longest_runs,
    record,
    record_folder,
    stored_candidates,
)
from specsim.profiling.acceptance.record_file import RecordedRequest, RecordedTraces, read_traces  # noqa: E402
from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import generate  # noqa: E402
from specsim.reference.decoding.models import load_transformer  # noqa: E402
from specsim.reference.decoding.sampling import Sampler  # noqa: E402
from specsim.reference.drafters import NGram  # noqa: E402
from specsim.reference.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.scenario.prompts import Prompt, read_prompts  # noqa: E402
from specsim.speculation.acceptance import TraceAcceptance  # noqa: E402

pytestmark = pytest.mark.torch

MODELS = Path(__file__).parents[2] / "validation" / "models"
PROMPT, POSITIONS, CAP, HEADS, REQUESTS = 6, 20, 5, 3, 3
STORED = ("draft", "eagle", "exit", "medusa")
WORDS = ("a", "b", "c")


def script(name: str) -> Any:
    sys.path.insert(0, str(MODELS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(MODELS))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Random networks of three tokens, whose guesses are often right by chance, and their folders."""
    checkpoint, network = script("checkpoint"), script("network")
    shape = network.Shape(3, 16, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=24, head_dim=4)
    draft = network.Shape(3, 8, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=8, head_dim=4)
    torch.manual_seed(0)
    trained = checkpoint.build(shape, draft, heads=HEADS, exit_layer=2)
    folder = tmp_path_factory.mktemp("models")
    for name, net in trained.networks().items():
        for weight in net.parameters():
            torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.4)
        net.double().requires_grad_(requires_grad=False)
        write_checkpoint(Checkpoint(checkpoint.configs(trained)[name], net.state_dict()), folder / name)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(folder / "target" / "tokenizer.json"))
    return trained, folder


def target_of(folder: Path) -> Transformer:
    return load_transformer(
        read_checkpoint(folder / "target"), device="cpu", dtype=torch.float64, max_sequences=REQUESTS, max_length=64
    )


def prompts(lengths: tuple[int, ...] = (PROMPT,) * REQUESTS) -> list[Any]:
    generator = np.random.default_rng(1)
    return [generator.integers(0, 3, length) for length in lengths]


def test_every_stored_drafter_is_recognised_with_its_longest_draft(stored: tuple[Any, Path]) -> None:
    found = stored_candidates(stored[1], target_of(stored[1]), CAP)
    names = {name: (type(one.drafter).__name__, one.cap) for name, one in found.items()}
    assert names == {
        "ngram": ("NGram", CAP),
        "draft": ("DraftModel", CAP),
        "eagle": ("Eagle", CAP),
        "exit": ("EarlyExit", CAP),
        "medusa": ("Medusa", HEADS),
    }


@pytest.mark.parametrize("name", STORED)
def test_runs_are_those_of_the_networks_on_the_finished_text(name: str, stored: tuple[Any, Path]) -> None:
    """The networks read the whole text in one pass and know nothing of the engine, of caches or of rounds."""
    trained, folder = stored
    target = target_of(folder)
    found = record(target, stored_candidates(folder, target, CAP), prompts(), POSITIONS)
    text = torch.from_numpy(np.concatenate((np.stack(prompts()), found.outputs), axis=1))
    cap = HEADS if name == "medusa" else CAP
    expected = script("acceptance").all_runs(trained, text, PROMPT, cap)[name].numpy()[:, 1 : POSITIONS + 1]
    assert found.runs[name].tolist() == expected.tolist()
    assert len(np.unique(expected)) > 2


@pytest.mark.parametrize("name", ["ngram", *STORED])
def test_a_run_is_what_the_engine_accepts_in_a_round_started_there(name: str, stored: tuple[Any, Path]) -> None:
    """Brute force: from every position a new engine, prompted with all that is known, verifies one full draft."""
    folder = stored[1]
    target = target_of(folder)
    given = prompts((4, 7, 9))
    found = record(target, stored_candidates(folder, target, CAP), given, POSITIONS)
    for position in range(0, POSITIONS, 3):
        known = [np.concatenate((p, out[:position])) for p, out in zip(given, found.outputs, strict=True)]
        fresh = target_of(folder)
        one = stored_candidates(folder, fresh, CAP)[name]
        for number in range(REQUESTS):
            # The prefill emits the token at this position, one round of drafts follows.
            engine = Engine(fresh, one.drafter)
            output, counts = generate(engine, [known[number]], [2], draft_tokens=one.cap)
            assert output[0][0] == found.outputs[number, position]
            assert counts.accepted() == found.runs[name][number, position]


@pytest.mark.parametrize("name", ["ngram", *STORED])
@pytest.mark.parametrize("draft_tokens", [1, 2, 3])
def test_replay_gives_the_acceptance_that_the_engine_counts(
    name: str, draft_tokens: int, stored: tuple[Any, Path]
) -> None:
    folder = stored[1]
    target = target_of(folder)
    found = record(target, stored_candidates(folder, target, CAP), prompts(), POSITIONS)
    law = TraceAcceptance(runs=tuple(tuple(row.tolist()) for row in found.runs[name]), cap=CAP)
    fresh = target_of(folder)
    engine = Engine(fresh, stored_candidates(folder, fresh, CAP)[name].drafter)
    _, counts = generate(engine, prompts(), [POSITIONS + 1] * REQUESTS, draft_tokens=draft_tokens)
    rounds = sum(sum(row.values()) for row in counts.rounds.values())
    assert law.expected_tokens(draft_tokens) == pytest.approx(1 + counts.accepted() / rounds, rel=1e-12)


def test_sampled_runs_are_drafts_that_equal_what_was_drawn(stored: tuple[Any, Path]) -> None:
    """Every draft made anew on the sampled text; the drafter must not be the one that recorded."""
    folder = stored[1]
    target = target_of(folder)
    found = record(target, {"ngram": CappedDrafter(NGram(), CAP)}, prompts(), POSITIONS, Sampler(1.0, seed=3))
    greedy = record(target, {"ngram": CappedDrafter(NGram(), CAP)}, prompts(), POSITIONS)
    assert (found.outputs != greedy.outputs).any()
    for number, prompt in enumerate(prompts()):
        text = np.concatenate((prompt, found.outputs[number]))
        for position in range(POSITIONS):
            start = PROMPT + position + 1
            drafts = NGram().look_up(text[:start], CAP)
            right = 0
            while right < len(drafts) and drafts[right] == text[start + right]:
                right += 1
            assert found.runs["ngram"][number, position] == right


def test_sampled_acceptance_is_the_engines_in_the_mean(stored: tuple[Any, Path]) -> None:
    """Over many sampled texts of one prompt, a first draft is kept as often as rejection sampling keeps it."""
    folder, requests = stored[1], 400
    target = load_transformer(
        read_checkpoint(folder / "target"), device="cpu", dtype=torch.float64, max_sequences=requests, max_length=24
    )
    given = [prompts()[0]] * requests
    candidates = {"draft": stored_candidates(folder, target, 2)["draft"]}
    recorded = record(target, candidates, given, 1, Sampler(1.0, seed=5)).runs["draft"][:, 0]
    engine = Engine(target, candidates["draft"].drafter, sampler=Sampler(1.0, seed=6))
    _, counts = generate(engine, given, [2] * requests, draft_tokens=2)
    for reached in (1, 2):
        kept = sum(n for row in counts.rounds.values() for j, n in row.items() if j >= reached) / requests
        share = (recorded >= reached).mean()
        spread = np.sqrt((kept * (1 - kept) + share * (1 - share)) / requests)
        assert abs(kept - share) < 3.5 * spread
    assert 0.02 < recorded.astype(bool).mean() < 0.98


def test_longest_runs_end_at_the_first_wrong_guess() -> None:
    text = np.array([[1, 2, 3, 4]])
    guesses = np.array([[[1, 2, 9], [2, 3, 4], [-1, 4, 0]]])
    assert longest_runs(guesses[:, :2], text).tolist() == [[2, 3]]
    assert longest_runs(guesses[:, 2:], text[:, 2:][:, [0, 1, 1]]).tolist() == [[0]]


# -- files --------------------------------------------------------------------------------------------------------


def traces() -> RecordedTraces:
    requests = (
        RecordedRequest(name="x", domain="code", runs=(0, 3, 2)),
        RecordedRequest(name="y", runs=(1, 0, 0, 4)),
    )
    return RecordedTraces(
        drafter="draft", target="target", temperature=0.5, seed=7, prompt_tokens=9, cap=4, requests=requests
    )


def test_a_file_reads_back_and_a_scenario_replays_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "draft.jsonl"
    traces().write(path)
    assert read_traces(path) == traces()
    law = TraceAcceptance.model_validate({"kind": "trace", "path": str(path), "order": "listed"})
    assert law == traces().trace()
    assert law.cap == 4
    assert traces().trace(lambda one: one.domain == "code").runs == ((0, 3, 2),)
    with pytest.raises(InvalidInput, match="no request of draft is wanted"):
        traces().trace(lambda one: one.domain == "prose")


@pytest.mark.parametrize(
    "text",
    ["", "[1]\n", "not json\n", '{"cap": 4}\n', '{"cap": 4}\n{"runs": [5]}\n'],
)
def test_another_file_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        read_traces(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_prompts_come_from_a_folder_or_from_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in" / "code").mkdir(parents=True)
    (tmp_path / "in" / "code" / "one.txt").write_text("a b")
    (tmp_path / "in" / "two.txt").write_text("c d")
    assert read_prompts(tmp_path / "in") == [Prompt("code/one", "a b", "code"), Prompt("two", "c d", None)]
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "a b", "domain": "code", "name": "n"}\n{"prompt": "c d"}\n')
    assert read_prompts(lines) == [Prompt("n", "a b", "code"), Prompt("1", "c d", None)]
    for text in ("", '{"prompt": 3}\n'):
        lines.write_text(text)
        with pytest.raises(InvalidInput, match="prompt"):
            read_prompts(lines)


def test_the_command_writes_a_file_a_drafter(stored: tuple[Any, Path], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a b c a b", "domain": "code"}\n{"prompt": "c a b b a c"}\n')
    app = typer.Typer()
    app.command()(acceptance)
    result = CliRunner().invoke(
        app, ["--models", str(stored[1]), "--prompts", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "out"),
              "--cap", "4", "--positions", "10", "--prompt-tokens", "5", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer) == {"ngram", *STORED}
    for name, said in answer.items():
        read = read_traces(Path(said["path"]))
        assert read.drafter == name
        assert read.cap == said["cap"]
        assert [one.domain for one in read.requests] == ["code", None]
        assert all(len(one.runs) == 10 for one in read.requests)
        assert said["acceptance_length"]["2"] == read.trace().expected_tokens(2)


def test_what_cannot_be_recorded_is_refused(stored: tuple[Any, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        record_folder(tmp_path, [Prompt("p", "a b")])
    with pytest.raises(InvalidInput, match="1 tokens long"):
        record_folder(stored[1], [Prompt("p", "a")])
    with pytest.raises(InvalidInput, match="2048 positions"):
        record_folder(stored[1], [Prompt("p", "a b")], positions=4000)
