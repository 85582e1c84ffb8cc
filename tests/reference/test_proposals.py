"""What drafters propose in a running batch, against each one's equations on whole texts, with no cache kept.

A drafter that lost track of its cache would still be lossless, only wrong more often than it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import Tensor  # noqa: E402

from specsim.errors import InvalidInput  # noqa: E402
from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import run_step  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    Drafter,
    DraftModel,
    DynamicExit,
    Eagle,
    EarlyExit,
    Grown,
    History,
    Lookahead,
    Medusa,
    Merged,
    Prefills,
    SkippedLayers,
    Stepwise,
    Stopwatch,
)
from specsim.reference.drafters.drafter_weights import random_adapter, random_feature_head, random_heads  # noqa: E402
from specsim.reference.network.layers import Layers, Sublayers  # noqa: E402
from specsim.reference.network.passes import PassPlan, TokenGroup  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.scheduling.scheduler import Scheduler, SequenceState  # noqa: E402
from specsim.specs.engine import EngineLimits  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import ConstantAcceptance  # noqa: E402
from specsim.speculation.policy import ConfidencePolicy, Setting  # noqa: E402
from specsim.speculation.policy.deciders import ByBatch  # noqa: E402
from specsim.speculation.tree import DraftTree, chain  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=4, hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8,
    intermediate_size=48, vocab_size=29,
)  # fmt: skip
TREE = DraftTree((-1, -1, 0, 0, 1, 2, 4, 5))
ONLY = Sublayers((True, False, True, True), (True, True, False, True))
EXIT = 2
Text = list[int]


def build(seed: int = 5) -> Transformer:
    return Transformer(SPEC, device="cpu", dtype=torch.float64, max_sequences=3, max_length=64, seed=seed)


def shape(draft_tokens: int) -> DraftTree:
    return DraftTree(TREE.parents[:draft_tokens])


def whole(layers: Layers, tokens: Text, start: int = 0) -> PassPlan:
    text = torch.tensor([tokens])
    return layers.plan([TokenGroup(np.array([0]), text, np.array([start]), text.shape[1])])


# -- next-token logits after a known text and some drafts, from the equations ---------------------------------------


def of_draft_model(known: Text, drafts: Text) -> Tensor:
    model = build(6)
    return model.run(whole(model, known + drafts))[-1]


def of_skipped_layers(known: Text, drafts: Text) -> Tensor:
    """On the whole target's cache of what it has computed."""
    target = build()
    target.run(whole(target, known[:-1]))
    plan = whole(target, [known[-1], *drafts], len(known) - 1)
    return target.finish(target.advance(target.embed(plan.tokens), plan, only=ONLY), plan)[-1]


def of_early_exit(known: Text, drafts: Text) -> Tensor:
    target = build()
    plan = whole(target, known + drafts)
    return target.finish(target.advance(target.embed(plan.tokens), plan, 0, EXIT), plan)[-1]


def of_adapter(known: Text, drafts: Text) -> Tensor:
    target = build()
    plan = whole(target, known + drafts)
    early = target.advance(target.embed(plan.tokens), plan, 0, EXIT)
    adapter = random_adapter(target, 2, num_kv_heads=4)
    x = adapter.layers.advance(early, whole(adapter.layers, known + drafts))
    return target.head(F.rms_norm(x, (32,), adapter.norm, 1e-5))[-1]


def of_features(known: Text, drafts: Text) -> Tensor:
    """One state after another: true ones of the known text but its last token, then its own."""
    target = build()
    states = target.keep_states(4)
    target.run(whole(target, known[:-1]))
    known_states = states[0, : len(known) - 1].clone()
    head, text = random_feature_head(target, 3), torch.tensor(known + drafts)
    for place in range(len(known) - 1, len(text)):
        pairs = torch.cat((target.embed(text[1 : place + 1]), known_states), dim=-1)
        x = head.layers.advance(F.linear(pairs, head.fusion), whole(head.layers, text[1 : place + 1].tolist()))
        known_states = torch.cat((known_states, x[-1:]))
    return target.head(known_states[-1:])[0]


def of_heads(known: Text, drafts: Text) -> Tensor:
    """The guess at a depth does not depend on the drafts before it."""
    target = build()
    states = target.keep_states(4)
    target.run(whole(target, known[:-1]))
    x, weights = states[0, len(known) - 2], random_heads(target, 4, seed=1)
    return weights.lm_heads[len(drafts)] @ (x + F.silu(weights.blocks[len(drafts)] @ x))


Equations = Callable[[Text, Text], Tensor]
CASES: dict[str, tuple[Callable[[Transformer], Drafter], Equations, Callable[[int], DraftTree]]] = {
    "draft model": (lambda target: DraftModel(build(6)), of_draft_model, chain),
    "draft model, tree": (lambda target: DraftModel(build(6), shape), of_draft_model, shape),
    "skipped layers": (lambda target: SkippedLayers(target, ONLY), of_skipped_layers, chain),
    "skipped layers, tree": (lambda target: SkippedLayers(target, ONLY, shape), of_skipped_layers, shape),
    "early exit": (lambda target: EarlyExit(target, EXIT), of_early_exit, chain),
    "adapter": (lambda target: EarlyExit(target, EXIT, random_adapter(target, 2, num_kv_heads=4)), of_adapter, chain),
    "features": (lambda target: Eagle(target, random_feature_head(target, 3)), of_features, chain),
    "features, tree": (lambda target: Eagle(target, random_feature_head(target, 3), shape), of_features, shape),
    "heads": (lambda target: Medusa(target, random_heads(target, 4, seed=1)), of_heads, chain),
    "heads, tree": (lambda target: Medusa(target, random_heads(target, 4, seed=1), shape), of_heads, shape),
}


def expected(equations: Equations, tree: DraftTree, known: Text) -> Text:
    """Node by node: the token of the node's rank after its path."""
    found: Text = []
    for node, rank in enumerate(tree.ranks()):
        path: Text = []
        parent = tree.parents[node]
        while parent >= 0:
            path.insert(0, found[parent])
            parent = tree.parents[parent]
        found.append(int(equations(known, path).topk(rank + 1).indices[rank]))
    return found


@pytest.mark.parametrize("name", CASES)
def test_drafts_are_those_of_the_equations(name: str) -> None:
    """Chunked prompts beside decoding sequences, rounds without drafts, slots that move when a sequence ends."""
    make, equations, tree = CASES[name]
    target = build()
    engine = Engine(target, make(target))
    scheduler = Scheduler(EngineLimits(max_num_seqs=3, max_num_batched_tokens=22), 100, max_draft_tokens=8)
    generator = np.random.default_rng(3)
    sequences = [SequenceState(number, *sizes) for number, sizes in enumerate([(3, 4), (30, 9), (9, 12)])]
    for sequence in sequences:
        engine.add(sequence.request_id, generator.integers(0, SPEC.vocab_size, sequence.prompt_tokens))
        scheduler.add(sequence)
    lengths = iter([4, 3, 0, 2, 4, 4, 0, 1] if tree is chain else [8, 8, 0, 3, 8, 8, 0, 6])
    checked = 0
    while scheduler.has_work:
        run_step(engine, scheduler, ByBatch([next(lengths, 4)]))
        for sequence in sequences:
            if sequence.draft_tokens and not sequence.finished:
                slot = engine.slot(sequence.request_id)
                history = engine.history
                drafted = int(history.drafted[slot])
                known = history.tokens[slot, : history.lengths[slot]].tolist()
                assert history.drafts(np.array([slot]), drafted)[0].tolist() == expected(
                    equations, tree(drafted), known
                )
                checked += 1
    assert checked > 8


def paths(trees: Sequence[int], drafts: Text) -> list[Text]:
    found: list[Text] = []
    for parent, token in zip(trees, drafts, strict=True):
        found.append([*(found[parent] if parent >= 0 else []), token])
    return found


def most_probable(equations: Equations, known: Text, depth: int, top_k: int, count: int) -> list[Text]:
    """The best paths among those found when each depth's best ``top_k`` are continued by as many tokens each."""
    frontier: list[tuple[float, Text]] = [(0.0, [])]
    found = []
    for _ in range(depth):
        newest = []
        for score, path in frontier:
            best = equations(known, path).log_softmax(-1).topk(top_k)
            newest += [
                (score + p, [*path, t]) for p, t in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
        frontier = sorted(newest, key=lambda one: -one[0])[:top_k]
        found += newest
    return [path for _, path in sorted(found, key=lambda one: -one[0])[:count]]


@pytest.mark.parametrize(
    ("make", "equations"),
    [
        (lambda target: DraftModel(build(6)), of_draft_model),
        (lambda target: Eagle(target, random_feature_head(target, 3)), of_features),
    ],
    ids=["draft model", "features"],
)
def test_a_grown_tree_holds_the_most_probable_paths(
    make: Callable[[Transformer], Stepwise], equations: Equations
) -> None:
    """Against a search on whole texts, for sequences that differ, in a running batch."""
    target = build()
    engine = Engine(target, Grown(make(target), depth=3, top_k=3, imposed=chain))
    scheduler = Scheduler(EngineLimits(max_num_seqs=3, max_num_batched_tokens=64), 100, max_draft_tokens=8)
    generator = np.random.default_rng(4)
    sequences = [SequenceState(number, *sizes) for number, sizes in enumerate([(3, 4), (14, 9), (9, 12)])]
    for sequence in sequences:
        engine.add(sequence.request_id, generator.integers(0, SPEC.vocab_size, sequence.prompt_tokens))
        scheduler.add(sequence)
    shapes = set()
    while scheduler.has_work:
        run_step(engine, scheduler, ByBatch([8]))
        for sequence in sequences:
            if sequence.draft_tokens and not sequence.finished:
                slot = engine.slot(sequence.request_id)
                known = engine.history.tokens[slot, : engine.history.lengths[slot]].tolist()
                drafts = engine.history.drafts(np.array([slot]), 8)[0].tolist()
                tree = engine._grown[sequence.request_id]
                shapes.add(tree)
                assert paths(tree, drafts) == most_probable(equations, known, 3, 3, 8)
    assert len(shapes) > 3


class LastToken(Stepwise):
    """Next-token logits that the last token alone decides; counts the tokens it is run on."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table, self.run = table, 0

    def begin(self, history: History, slots: Any, depth: int, watch: Stopwatch, prefilling: Prefills) -> Tensor:
        return self.table[torch.from_numpy(history.tokens[slots, history.lengths[slots] - 1])]

    def extend(self, groups: list[TokenGroup], parents: Any, watch: Stopwatch) -> Tensor:
        tokens = torch.cat([group.tokens.ravel() for group in groups])
        self.run += len(tokens)
        return self.table[tokens]


@pytest.mark.parametrize("known", [[[3, 1, 2]], [[3, 1, 2], [0, 4], [1]]], ids=["one", "three"])
def test_equal_ends_are_drafted_once_at_no_loss(known: list[Text]) -> None:
    """Where the last token decides everything, a graph finds what a tree finds and runs fewer tokens."""
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slots, watch, history = np.arange(len(known)), Stopwatch(torch.device("cpu")), History(3, 40)
    nobody = Prefills(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    for slot, text in enumerate(known):
        history.begin(slot, np.array(text))
    grown, merged = (LastToken(table) for _ in range(2))
    expected = Grown(grown, 8, 4, chain).propose(history, slots, 30, watch, nobody)
    found = Merged(merged, 8, 4, chain, 0.0).propose(history, slots, 30, watch, nobody)
    steps = table.log_softmax(-1)
    for row, text in enumerate(known):
        scores = []
        for one in (found, expected):
            assert one.trees is not None
            ours = paths(one.trees[row], one.drafts[row].tolist())
            assert len({tuple(path) for path in ours}) == 30
            scores.append([sum(float(steps[a, b]) for a, b in pairwise([text[-1], *path])) for path in ours])
        assert np.allclose(*scores, atol=1e-12)  # paths of the same steps in another order are as likely
    assert found.counts.tolist() == [30] * len(known)
    assert merged.run < 0.8 * grown.run


class Checked(Lookahead):
    """Compares what each column of the window gets with the target's choice after the text it stands for."""

    checked = 0
    history: History

    def riders(self, groups: Sequence[TokenGroup], max_length: int) -> list[TokenGroup]:
        found = super().riders(groups, max_length)
        self.before = {
            slot: (self.history.tokens[slot, : self.history.lengths[slot]].tolist(), self._window[slot].copy())
            for group in found
            for slot in group.slots.tolist()
        }
        return found

    def learn(self, choices: Any) -> None:
        super().learn(choices)
        alone = build()
        for (slot, (known, window)), newest in zip(self.before.items(), choices.reshape(-1, self.window), strict=True):
            for column, token in enumerate(newest.tolist()):
                text = known + window[0, 1 : column + 1].tolist() + window[1:, column].tolist()
                assert int(alone.run(whole(alone, text))[-1].argmax()) == token
                grams = self._pools[slot][int(window[0, column])]
                assert (*window[1:, column].tolist(), token) in grams
                self.checked += 1


def test_a_lookahead_window_takes_jacobi_steps() -> None:
    """Beside chunked prompts, and for sequences that verify different numbers of n-grams."""
    target = build()
    drafter = Checked(3, ngram=4, window=3, guesses=40)
    engine = Engine(target, drafter)
    drafter.history = engine.history
    scheduler = Scheduler(EngineLimits(max_num_seqs=3, max_num_batched_tokens=22), 100, max_draft_tokens=6)
    generator = np.random.default_rng(3)
    for number, sizes in enumerate([(3, 6), (30, 9), (9, 18)]):
        engine.add(number, generator.integers(0, SPEC.vocab_size, sizes[0]))
        scheduler.add(SequenceState(number, *sizes))
    while scheduler.has_work:
        run_step(engine, scheduler, ByBatch([6]))
    assert drafter.checked > 30


def test_a_window_moves_on_with_what_was_accepted() -> None:
    """Guesses at places stay at these places: two columns further after two accepted drafts, one generation older."""
    drafter = Lookahead(1, ngram=3, window=4, guesses=2)
    history = History(1, 20)
    history.begin(0, np.array([5, 6, 7]))
    slots, watch = np.array([0]), Stopwatch(torch.device("cpu"))
    nobody = Prefills(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    drafter.propose(history, slots, 4, watch, nobody)
    assert drafter._window[0].tolist() == [[7, 6, 7, 5], [6, 7, 5, 6]]
    drafter.riders([TokenGroup(slots, torch.zeros(1, 1), np.array([2]), 1)], 20)
    drafter.learn(np.array([1, 2, 3, 4]))
    history.begin(0, np.array([5, 6, 7, 8, 9, 7]))
    found = drafter.propose(history, slots, 4, watch, nobody)
    assert drafter._window[0, :, :2].tolist() == [[7, 6], [3, 4]]
    assert found.drafts.tolist() == [[5, 3, 6, 1]]  # 7 5 3 is newer than 7 6 1
    assert found.counts.tolist() == [4]


def test_a_stop_ends_a_draft_at_its_first_unsure_token() -> None:
    """Against confidences of the equations; the unsure token is proposed only where the rule keeps it."""
    known = [[4, 9, 1], [7, 7, 2, 20], [11, 3]]
    chances = []
    for text in known:
        drafts: Text = []
        for _ in range(5):
            logits = of_draft_model(text, drafts)
            chances.append(float(logits.softmax(-1).max()))
            drafts.append(int(logits.argmax()))
    threshold = float(np.median(chances))
    sure = np.array(chances).reshape(3, 5) >= threshold
    runs = np.cumprod(sure, axis=1).sum(axis=1)
    for keep_last in (False, True):
        engine = Engine(build(), DraftModel(build(6)))
        for number, text in enumerate(known):
            engine.add(number, np.array(text))
        running = [SequenceState(number, len(text), 9) for number, text in enumerate(known)]
        policy = ConfidencePolicy(threshold=threshold, keep_last=keep_last)
        setting = Setting(None, ConstantAcceptance(rate=0.5), tuple(range(6)), 3, 9.0)  # type: ignore[arg-type]
        decider = policy.start(setting)
        passes = count_passes(engine.drafter.model)  # type: ignore[union-attr]
        counts = engine.draft(running, engine.lengths(decider, running, 5), decider=decider)
        assert counts == np.minimum(runs + keep_last, 5).tolist()
        assert len(set(counts)) > 1
        assert len(passes) == min(5, runs.max() + 1)  # until all have stopped


def count_passes(model: Transformer) -> list[PassPlan]:
    """Filled with the passes that a model runs from now on."""
    passes: list[PassPlan] = []
    run = model.run

    def noted(plan: PassPlan, first: int = 0) -> Tensor:
        passes.append(plan)
        return run(plan, first)

    model.run = noted  # type: ignore[method-assign]
    return passes


def test_heads_guess_no_deeper_than_they_are_many() -> None:
    target = build()
    with pytest.raises(InvalidInput, match="5 drafts are 5 deep and there are 4 heads"):
        Medusa(target, random_heads(target, 4, seed=1)).tree(5)


def test_an_early_exit_leaves_layers_to_verify_with() -> None:
    with pytest.raises(InvalidInput, match="early exit after layer 4 of 4"):
        EarlyExit(build(), 4)


def test_verification_goes_on_from_the_exit_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers below run on the one draft that drafting has not fed; those above on all, and prompts on both."""
    target = build()
    engine = Engine(target, EarlyExit(target, EXIT))
    scheduler = Scheduler(EngineLimits(max_num_batched_tokens=64), 60, max_draft_tokens=3)
    for number in range(2):
        scheduler.add(SequenceState(number, 5, 20))
        engine.add(number, np.array([1, 2, 3, 4, 5 + number]))
    run_step(engine, scheduler, ByBatch([3]))
    passes: list[tuple[int, int, int]] = []
    advance = Transformer.advance

    def noted(
        self: Transformer, x: Tensor, plan: PassPlan, first: int = 0, last: int | None = None, *rest: object
    ) -> Tensor:
        passes.append((first, last or SPEC.num_layers, len(x)))
        return advance(self, x, plan, first, last, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "advance", noted)
    run_step(engine, scheduler, ByBatch([3]))
    assert passes == [(0, EXIT, 2), (EXIT, 4, 8), *[(0, EXIT, 2)] * 3]


def test_a_dynamic_exit_finds_the_layer_that_is_right_and_cheap() -> None:
    """Layers 2 and 3 change nothing, so that an exit after layer 1 says what the target says: two drafts a round
    cost 2·1 + 4 layers, and every further one pays too."""
    target = build()
    for layer in target._layers[1:]:
        layer.attention_output, layer.down = (torch.zeros_like(m) for m in (layer.attention_output, layer.down))
    drafter = DynamicExit(target, (1, 2, 3))
    assert drafter.rates.tolist() == [0.5] * 3
    engine = Engine(target, drafter)
    scheduler = Scheduler(EngineLimits(max_num_batched_tokens=64), 60, max_draft_tokens=4)
    scheduler.add(SequenceState(0, 5, 50))
    engine.add(0, np.array([1, 2, 3, 4, 5]))
    lengths = []
    while scheduler.has_work:
        lengths += [share.drafts for share in run_step(engine, scheduler, ByBatch([4])).step.scheduled]
    assert drafter.choose(4) == (1, 4)
    assert lengths[-3:] == [4, 4, 4]
    assert drafter.rates.min() > 0.8


@pytest.mark.parametrize("right", [0.05, 0.3, 0.8, 0.97])
def test_a_dynamic_exit_maximises_tokens_per_layer(right: float) -> None:
    """Against every choice, with rates set by hand: deeper exits right more often."""
    drafter = DynamicExit(build(), (1, 2, 3))
    asked = 1e9
    rates = right ** np.array([1.6, 1.0, 0.7])
    drafter._right, drafter._asked = rates * asked, asked
    best, choice = 0.0, (0, 0)
    for layer, rate in zip((1, 2, 3), rates, strict=True):
        for d in range(7):
            promise = (1 - rate ** (d + 1)) / (1 - rate) / (d * layer + 4)
            if promise > best + 1e-9:
                best, choice = promise, (layer, d)
    found = drafter.choose(6)
    assert found[1] == choice[1]
    assert not choice[1] or found == choice
