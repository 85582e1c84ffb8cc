"""Every drafter changes when tokens come and never which: greedy outputs with and without it, token for token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.reference.decoding.engine import Engine  # noqa: E402
from specsim.reference.decoding.generate import generate  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    Drafter,
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
from specsim.reference.drafters.drafter_weights import random_adapter, random_feature_head, random_heads  # noqa: E402
from specsim.reference.network.layers import Sublayers  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.results import AcceptanceCounts  # noqa: E402
from specsim.scheduling.scheduler import Scheduler  # noqa: E402
from specsim.specs.engine import EngineLimits  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import AcceptanceDraws, ConstantAcceptance, RecallAcceptance  # noqa: E402
from specsim.speculation.policy import ConfidencePolicy, Setting  # noqa: E402
from specsim.speculation.tree import DraftTree, RecallTable  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=4, hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8,
    intermediate_size=48, vocab_size=11,
)  # fmt: skip
PROMPT_TOKENS, OUTPUT_TOKENS = (1, 4, 9, 17), (14, 3, 22, 18)
TREE = (-1, -1, -1, 0, 0, 1, 3, 3, 6)  # three candidates, then two, two and one more below the first
LIMITS = EngineLimits(max_num_seqs=4, max_num_batched_tokens=12, block_size=4)  # chunks prompts and trims drafts


def tree(draft_tokens: int) -> DraftTree:
    return DraftTree(TREE[:draft_tokens])


def build(noise: float = 0.0) -> Transformer:
    return Transformer(SPEC, device="cpu", dtype=torch.float64, max_sequences=4, max_length=64, seed=5, noise=noise)


def kept(*without: int) -> Sublayers:
    """All sublayers but these; attention sublayers are numbered from 0, feed-forward ones from 4."""
    runs = [index not in without for index in range(2 * SPEC.num_layers)]
    return Sublayers(tuple(runs[: SPEC.num_layers]), tuple(runs[SPEC.num_layers :]))


STOP = ConfidencePolicy(threshold=0.15)
DRAFTERS: dict[str, Callable[[Transformer], Drafter]] = {
    "draft model": lambda target: DraftModel(build(0.1)),
    "draft model, tree": lambda target: DraftModel(build(0.3), tree),
    "draft model, stop": lambda target: DraftModel(build(0.4)),
    "n-gram": lambda target: NGram(),
    "heads": lambda target: Medusa(target, random_heads(target, 4, seed=1)),
    "heads, tree": lambda target: Medusa(target, random_heads(target, 4, seed=1), tree),
    "skipped layers": lambda target: SkippedLayers(target, kept(2, 5)),
    "skipped layers, tree": lambda target: SkippedLayers(target, kept(1, 2, 6), tree),
    "skipped layers, stop": lambda target: SkippedLayers(target, kept(2, 5)),
    "early exit": lambda target: EarlyExit(target, 3),
    "early exit, whole verification": lambda target: EarlyExit(target, 3, reuse=False),
    "early exit, stop": lambda target: EarlyExit(target, 2),
    "dynamic exit": lambda target: DynamicExit(target, (1, 2, 3)),
    "adapter": lambda target: EarlyExit(target, 3, random_adapter(target, 2)),
    "adapter, stop": lambda target: EarlyExit(target, 3, random_adapter(target, 2, num_kv_heads=4)),
    "features": lambda target: Eagle(target, random_feature_head(target, 3)),
    "features, tree": lambda target: Eagle(target, random_feature_head(target, 3), tree),
    "lookahead, tree": lambda target: Lookahead(target.max_sequences, 5, 4, 3),
    "draft model, grown tree": lambda target: Grown(DraftModel(build(0.3)), 4, 3, tree),
    "draft model, merged tree": lambda target: Merged(DraftModel(build(0.3)), 4, 3, tree, 0.2),
    "features, grown tree": lambda target: Grown(Eagle(target, random_feature_head(target, 3)), 3, 4, tree),
}


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    generator = np.random.default_rng(11)
    return [generator.integers(0, SPEC.vocab_size, length) for length in PROMPT_TOKENS]


@pytest.fixture(scope="module")
def plain(prompts: list[np.ndarray]) -> list[list[int]]:
    return [output.tolist() for output in generate(Engine(build()), prompts, OUTPUT_TOKENS)[0]]


class Counting(Engine):
    """Counts preemptions of sequences that held a slot."""

    preempted = 0

    def preempt(self, request_id: int) -> None:
        self.preempted += request_id in self._slots
        super().preempt(request_id)


def decode(
    name: str, prompts: list[np.ndarray], k: int, scheduler: Scheduler | None = None
) -> tuple[list[list[int]], AcceptanceCounts, Counting]:
    target = build()
    engine = Counting(target, DRAFTERS[name](target))
    decider = None
    if "stop" in name:
        law = ConstantAcceptance(rate=0.5)  # which a stop does not look at
        decider = STOP.start(Setting(None, law, tuple(range(k + 1)), 4, 20.0))  # type: ignore[arg-type]
    outputs, counts = generate(engine, prompts, OUTPUT_TOKENS, draft_tokens=k, scheduler=scheduler, decider=decider)
    return [output.tolist() for output in outputs], counts, engine


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_drafter_does_not_change_the_text(name: str, prompts: list[np.ndarray], plain: list[list[int]]) -> None:
    """And is right at times and wrong at times, or the test would show nothing."""
    accepted = drafted = 0
    for k in (9,) if "tree" in name else (1, 4):
        outputs, counts, _ = decode(name, prompts, k)
        assert outputs == plain
        accepted, drafted = accepted + counts.accepted(), drafted + counts.drafted()
    assert 0 < accepted < drafted


@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize(("blocks", "seats"), [(60, 4), (15, 4), (15, 2), (60, 1)])
def test_nor_under_pressure(
    name: str, blocks: int, seats: int, prompts: list[np.ndarray], plain: list[list[int]]
) -> None:
    """Prompts in chunks, drafts trimmed by the budget, sequences preempted and resumed, slots reused."""
    k = 6 if "tree" in name else 3
    limits = LIMITS.model_copy(update={"max_num_seqs": seats})
    scheduler = Scheduler(limits, blocks, max_draft_tokens=k, lookahead_tokens=k)
    outputs, _, engine = decode(name, prompts, k, scheduler)
    assert outputs == plain
    assert engine.preempted or (blocks, seats) != (15, 4)
    assert scheduler.free_blocks == scheduler.num_blocks


@pytest.mark.parametrize("name", DRAFTERS)
def test_imposed_acceptance_is_what_was_drawn_on_any_tree(name: str, prompts: list[np.ndarray]) -> None:
    """A tree of k nodes accepts no more than it is deep; the record is that of the law alone."""
    if name in ("n-gram", "dynamic exit") or "stop" in name:
        pytest.skip("proposes fewer tokens than asked")
    recall = RecallTable(recall=((0.5, 0.2, 0.1), (0.6, 0.2), (0.6, 0.2), (0.5,)))
    size, shape = (9, TREE) if "tree" in name else (4, "chain")
    law = RecallAcceptance(table=recall, tree=shape)
    draws, target = AcceptanceDraws(law, 7), build()
    outputs, counts = generate(
        Engine(target, DRAFTERS[name](target), draws), prompts, OUTPUT_TOKENS, draft_tokens=size
    )
    assert [len(output) for output in outputs] == list(OUTPUT_TOKENS)
    alone = draws.replay(np.arange(4), np.array(OUTPUT_TOKENS), size).counts()
    assert counts.as_table() == alone.as_table()
