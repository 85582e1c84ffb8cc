"""The scripts that train, inflate and score models: on networks tiny enough to check by hand or by brute force."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")

from torch import Tensor, nn  # noqa: E402

from specsim.reference.network.checkpoint import Checkpoint  # noqa: E402
from specsim.reference.network.inflate import embedding_of  # noqa: E402
from specsim.specs.catalog import load_model  # noqa: E402

pytestmark = pytest.mark.torch

FOLDER = Path(__file__).parents[2] / "validation" / "models"


def script(name: str) -> ModuleType:
    """A module of the folder, whose files import each other by plain names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


network, checkpoint, corpus, text = (script(name) for name in ("network", "checkpoint", "corpus", "text"))
acceptance, train, inflate, score = (script(name) for name in ("acceptance", "train", "inflate", "score"))

TINY = network.Shape(3, hidden_size=16, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=24, head_dim=4)
TINY_DRAFT = network.Shape(
    3, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=8, head_dim=4
)


def random_networks(seed: int = 0) -> object:
    """Networks whose every weight matters; with three tokens, guesses are often right by chance."""
    torch.manual_seed(seed)
    trained = checkpoint.build(TINY, TINY_DRAFT, heads=3, exit_layer=2)
    for net in trained.networks().values():
        for weight in net.parameters():
            nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.3)
        net.requires_grad_(requires_grad=False)
    return trained


def random_text(rows: int, length: int) -> Tensor:
    return torch.randint(0, 3, (rows, length), generator=torch.Generator().manual_seed(1))


# -- text -------------------------------------------------------------------------------------------------------------


def test_documents_are_in_a_fixed_order_and_none_is_on_both_sides() -> None:
    learnt, held_out = corpus.split()
    assert not {d.name for d in learnt} & {d.name for d in held_out}
    assert {d.domain for d in held_out} == {"code", "prose"}
    again, _ = corpus.split()
    assert corpus.digest(learnt) == corpus.digest(again) != corpus.digest(learnt[::-1])
    assert not any("test" in Path(d.name).parts for d in learnt)


def test_tokenizer_gives_back_any_text_and_depends_on_the_text_alone() -> None:
    learnt, held_out = corpus.split()
    first, second = (text.train_tokenizer(learnt[:4], vocabulary=300) for _ in range(2))
    assert first.to_str() == second.to_str()
    for sample in (held_out[0].text, "\ttabs, ünïcode 😀 and \x00 bytes\n    indented"):
        assert first.decode(first.encode(sample).ids, skip_special_tokens=False) == sample
    assert text.encode(first, learnt[:2])[1][0] == 0


def test_batches_are_cuts_of_the_stream_chosen_by_seed_and_step() -> None:
    stream = torch.arange(1000)
    first = text.batch(stream, seed=1, step=2, rows=5, length=9)
    assert torch.equal(first - first[:, :1], torch.arange(9).expand(5, 9))
    assert torch.equal(first, text.batch(stream, seed=1, step=2, rows=5, length=9))
    assert not torch.equal(first, text.batch(stream, seed=1, step=3, rows=5, length=9))


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH_TOKENS": 64, "SHORT": 16, "LONG": 32, "WARM_UP_STEPS": 2}.items():
        monkeypatch.setattr(train, name, value)


def fresh(shape: object = TINY, draft: object = TINY_DRAFT) -> object:
    torch.manual_seed(5)
    return checkpoint.build(shape, draft, heads=2, exit_layer=1)


@pytest.mark.usefixtures("small_steps")
def test_a_run_in_pieces_trains_what_one_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, steps = random_text(1, 400)[0], (6, 3, 4)
    whole = fresh()
    assert train.train(whole, train.stages(whole, steps), stream, tmp_path / "whole.pt", seed=0, minutes=10)

    ticks = itertools.count()
    monkeypatch.setattr(train.time, "monotonic", lambda: float(next(ticks)))
    done, calls = False, 0
    while not done:
        pieces = fresh()
        plan = train.stages(pieces, steps)
        train.resume(plan, tmp_path / "pieces.pt")
        done = train.train(pieces, plan, stream, tmp_path / "pieces.pt", seed=0, minutes=9 / 60)
        calls += 1
    assert calls > 2
    for name, net in whole.networks().items():
        for key, weight in net.state_dict().items():
            assert torch.equal(weight, pieces.networks()[name].state_dict()[key]), (name, key)


@pytest.mark.usefixtures("small_steps")
def test_every_drafter_learns_a_text_that_repeats(tmp_path: Path) -> None:
    cycle = torch.tensor([5, 1, 4, 4, 0, 3, 5, 2])  # what follows 4 or 5 depends on what came before
    shape = network.Shape(6, 32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48, head_dim=8)
    trained = fresh(shape, shape)
    stream = cycle.repeat(60)
    train.train(trained, train.stages(trained, (60, 120, 120)), stream, tmp_path / "c.pt", seed=0, minutes=10)
    runs = acceptance.all_runs(trained, cycle.repeat(3)[None], start=8, cap=4)  # a row as it learned from
    expected = {"draft": 4, "medusa": 2, "exit": 4, "eagle": 4}  # two heads guess two tokens
    for name, most in expected.items():
        assert runs[name].max() == most
        assert runs[name].double().mean() > 0.8 * most, name


def test_the_large_pair_embeds_in_the_shapes_it_is_meant_for() -> None:
    for shape, name in zip(checkpoint.PAIRS["large"], ("llama-3.1-8b", "llama-3.2-1b"), strict=True):
        small = Checkpoint(checkpoint.llama_config(shape), {}, name).spec
        large = load_model(name)
        assert small.num_heads // small.num_kv_heads == large.num_heads // large.num_kv_heads
        assert small.head_dim == large.head_dim
        assert embedding_of(small, large).large.hidden_size == large.hidden_size


# -- acceptance -------------------------------------------------------------------------------------------------------


def drafted_run(guess: object, tokens: list[int], place: int, cap: int) -> int:
    """Draft token by token from ``tokens[:place]`` until a guess is not the text's own token."""
    known, run = tokens[:place], 0
    while run < cap and (token := guess(known)) == tokens[place + run]:  # type: ignore[operator]
        known, run = [*known, token], run + 1
    return run


@pytest.mark.parametrize("drafter", ["draft", "exit", "medusa", "eagle"])
def test_runs_are_those_of_drafting_one_token_at_a_time(drafter: str) -> None:
    trained, tokens, start, cap = random_networks(), random_text(3, 30), 9, 5
    target, embed = trained.target, trained.target.model.embed_tokens

    def one_ahead(known: list[int]) -> int:
        tokens = torch.tensor([known])
        if drafter == "draft":
            return int(trained.draft(tokens)[0, -1].argmax())
        return int(target.head(trained.exit(target.states(tokens, 2)[0]))[0, -1].argmax())

    def by_round(known: list[int], place: int, row: list[int]) -> int:
        """A guess of a drafter that reads states of tokens before ``place - 1`` alone."""
        drafted = len(known) - place
        states = target.states(torch.tensor([row[: place - 1]]), 2)[1]
        if drafter == "medusa":
            heads = trained.medusa(states)
            return int(heads[drafted][0, -1].argmax()) if drafted < len(heads) else -1
        for count in range(drafted + 1):
            inputs = embed(torch.tensor([known[1 : place + count]]))
            guessed = trained.eagle(inputs, states)[:, -1:]
            states = torch.cat((states, guessed), dim=1)
        return int(target.head(guessed)[0, -1].argmax())

    found = acceptance.all_runs(trained, tokens, start, cap)[drafter]
    assert found.shape == (3, 30 - start - cap + 1)
    assert len(found.unique()) > 2
    for row, runs in zip(tokens.tolist(), found.tolist(), strict=True):
        for place, run in enumerate(runs, start=start):
            if drafter in ("draft", "exit"):
                assert run == drafted_run(one_ahead, row, place, cap)
            else:
                assert run == drafted_run(lambda known, p=place, r=row: by_round(known, p, r), row, place, cap)


@pytest.mark.parametrize(
    ("runs", "draft_tokens", "expected"),
    [
        ([[0, 0, 0, 0]], 4, 1.0),
        ([[4, 3, 2, 1, 0]], 4, 5.0),
        ([[4, 3, 2, 1, 0, 0]], 1, 1.5),
        ([[0, 1, 0], [0, 0, 0]], 3, 1.2),
    ],
)
def test_acceptance_length_walks_rounds(runs: list[list[int]], draft_tokens: int, expected: float) -> None:
    assert acceptance.acceptance_length(torch.tensor(runs), draft_tokens) == pytest.approx(expected)


# -- files ------------------------------------------------------------------------------------------------------------


def tokenizer() -> object:
    return text.train_tokenizer(corpus.split()[0][:1], vocabulary=260)


def test_stored_networks_come_back_in_bfloat16(tmp_path: Path) -> None:
    trained = random_networks()
    checkpoint.save_all(tmp_path, trained, tokenizer())
    back = checkpoint.load_all(tmp_path)
    assert back.exit_layer == 2
    for name, net in trained.networks().items():
        for key, weight in net.state_dict().items():
            assert torch.equal(back.networks()[name].state_dict()[key], weight.to(torch.bfloat16).float())


def test_heads_and_adapters_go_with_the_inflated_target(tmp_path: Path) -> None:
    checkpoint.save_all(tmp_path / "small", random_networks(), tokenizer())
    large = (
        "name: large\nsource: test\nnum_layers: 7\nhidden_size: 40\nnum_heads: 12\nnum_kv_heads: 3\nhead_dim: 8\n"
        "intermediate_size: 60\nvocab_size: 999\n"
    )
    (tmp_path / "large.yaml").write_text(large)
    inflate.main([
        "--models", str(tmp_path / "small"), "--out", str(tmp_path / "large"), "--dtype", "float32", "--noise", "1e-5",
        "--target", str(tmp_path / "large.yaml"), "--draft", str(tmp_path / "large.yaml"),
    ])  # fmt: skip
    small, grown = (checkpoint.load_all(tmp_path / name) for name in ("small", "large"))
    assert (grown.target.shape.hidden_size, grown.exit_layer) == (40, 2)
    tokens = random_text(4, 40)
    outputs = []
    for trained in (small, grown):
        early, states = trained.target.states(tokens, trained.exit_layer)
        eagle = trained.eagle(trained.target.model.embed_tokens(tokens)[:, 1:], states[:, :-1])
        outputs.append(
            [
                trained.target.head(states),
                trained.draft(tokens),
                *trained.medusa(states),
                trained.target.head(trained.exit(early)),
                trained.target.head(eagle),
                eagle[..., :16],
            ]
        )
    for here, there in zip(*outputs, strict=True):
        assert (here - there).abs().max() < 1e-3 * here.std()
    runs = [acceptance.all_runs(trained, tokens, 9, 5) for trained in (small, grown)]
    for name, found in runs[0].items():
        assert (found == runs[1][name]).double().mean() > 0.99


needs_weights = pytest.mark.skipif(not (FOLDER / "target").is_dir(), reason="the trained models are not here")


@needs_weights
def test_the_trained_models_are_small_and_know_the_text() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 40e6
    trained, words = checkpoint.load_all(FOLDER), text.load_tokenizer(FOLDER / "target")
    document = next(d for d in corpus.split()[1] if d.domain == "code" and len(d.text) > 4000)
    tokens = text.encode(words, [document])[0][:1000]
    target, draft = (score.loss_sum(net, tokens) / (len(tokens) - 1) for net in (trained.target, trained.draft))
    shuffled = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    assert target < draft < score.loss_sum(trained.draft, shuffled) / (len(tokens) - 1)


@needs_weights
def test_the_engine_says_what_the_plain_network_says() -> None:
    trained, words = checkpoint.load_all(FOLDER), text.load_tokenizer(FOLDER / "target")
    prompts = score.cuts(words, corpus.split()[1][:6], 3, 40)
    tokens = score.greedy(FOLDER / "target", prompts, 24)
    with torch.inference_mode():
        logits = trained.target(tokens)[:, 39:-1]
    chosen = logits.gather(-1, tokens[:, 40:, None])[..., 0]
    assert (logits.max(-1).values - chosen).max() < 1e-3  # rounding may decide between near-equal tokens
