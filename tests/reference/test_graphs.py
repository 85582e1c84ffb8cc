"""Captured passes against eager ones: the same logits and caches, whatever pads them, and nothing frozen in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.assembly import assemble  # noqa: E402
from specsim.reference.decoding.generate import Engine, Outcome, generate, run_step  # noqa: E402
from specsim.reference.drafters import (  # noqa: E402
    Drafter,
    DraftModel,
    DynamicExit,
    Eagle,
    EarlyExit,
    Medusa,
    NGram,
    SkippedLayers,
)
from specsim.reference.drafters.drafter_weights import random_adapter, random_feature_head, random_heads  # noqa: E402
from specsim.reference.drafters.grown import Grown  # noqa: E402
from specsim.reference.drafters.lookahead import Lookahead  # noqa: E402
from specsim.reference.drafters.merged import Merged  # noqa: E402
from specsim.reference.network import graphs  # noqa: E402
from specsim.reference.network.graphs import Frame, Graphs, bucket, capture_passes  # noqa: E402
from specsim.reference.network.layers import Sublayers  # noqa: E402
from specsim.reference.network.passes import Branches  # noqa: E402
from specsim.reference.network.transformer import TokenGroup, Transformer  # noqa: E402
from specsim.reference.timing import grid, run  # noqa: E402
from specsim.reference.timing.rehearsal import rehearse  # noqa: E402
from specsim.scenario import Scenario  # noqa: E402
from specsim.scheduling.scheduler import Scheduler  # noqa: E402
from specsim.specs.engine import EngineLimits  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.tree import DraftTree  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=3, hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8,
    intermediate_size=48, vocab_size=37,
)  # fmt: skip
SLOTS, LENGTH, WIDEST = 6, 150, 6
SIZES = (1, 2, 4, 8, 16, 24, 32)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TREE = DraftTree((-1, 0, 0, 1, 2))
EXACT = {"rtol": 0.0, "atol": 1e-12}


def build(device: str = "cpu", seed: int = 5, noise: float = 0.0, sizes: tuple[int, ...] = ()) -> Transformer:
    model = Transformer(
        SPEC, device=device, dtype=torch.float64, max_sequences=SLOTS, max_length=LENGTH, seed=seed, noise=noise
    )
    capture_passes([model], sizes, WIDEST)
    return model


def captured(model: Transformer) -> int:
    assert model.graphs is not None
    return model.graphs.capture.captured


def texts(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SPEC.vocab_size, (SLOTS, LENGTH))


def group(
    model: Transformer, slots: list[int], starts: list[int], width: int, rows: int, branches: Branches | None = None
) -> TokenGroup:
    tokens = texts()[np.array(slots)[:, None], np.array(starts)[:, None] + np.arange(width)]
    return TokenGroup(np.array(slots), torch.from_numpy(tokens).to(model.device), np.array(starts), rows, branches)


FILLED = [12, 70, 20, 64, 1, 7]  # tokens of each slot before a pass
Passes = Callable[[Transformer], list[list[TokenGroup]]]


def at(slots: list[int], ahead: int = 0) -> list[int]:
    return [FILLED[slot] + ahead for slot in slots]


def whole_tree(before: int = 0) -> Branches:
    seen = TREE.ancestor_mask()[1:, 1:]
    return Branches(before, np.array(TREE.depths())[before:], seen[before:])


PASSES: dict[str, Passes] = {
    "one token each": lambda m: [[group(m, [*range(6)], at([*range(6)], i), 1, 1)] for i in range(4)],
    "chains": lambda m: [[group(m, [*range(6)], at([*range(6)], i), 4, 4)] for i in (0, 3)],
    "fewer than the slots": lambda m: [[group(m, [0, 1, 2], at([0, 1, 2], i), 3, 3)] for i in (0, 1)],
    "a hole, out of order": lambda m: [[group(m, [4, 0, 3, 1], at([4, 0, 3, 1], i), 2, 2)] for i in (0, 2)],
    "last row only": lambda m: [[group(m, [*range(6)], at([*range(6)], i), 3, 1)] for i in (0, 2)],
    "no logits": lambda m: [
        [group(m, [*range(6)], at([*range(6)]), 3, 0)], [group(m, [*range(6)], at([*range(6)], 3), 1, 1)]
    ],
    "ragged": lambda m: [
        [group(m, [0, 2, 5], at([0, 2, 5], i), 5, 5), group(m, [1, 4], at([1, 4], i), 3, 3),
         group(m, [3], at([3], i), 4, 1)] for i in (0, 1)
    ],
    "ragged, last rows": lambda m: [
        [group(m, [0, 2, 5], at([0, 2, 5], i), 5, 2), group(m, [1, 3], at([1, 3], i), 3, 1),
         group(m, [4], at([4], i), 4, 0)] for i in (0, 1)
    ],
    "trees": lambda m: [[group(m, [*range(5)], at([*range(5)], i), 5, 5, whole_tree())] for i in (0, 2)],
    "part of a tree": lambda m: [
        [group(m, [0, 1, 2], at([0, 1, 2]), 2, 2)], [group(m, [0, 1, 2], at([0, 1, 2], 2), 3, 3, whole_tree(2))]
    ],
    "to the last place": lambda m: [[group(m, [0, 1], [LENGTH - 4, LENGTH - 2], 2, 2)]],
}  # fmt: skip


def filled(device: str, sizes: tuple[int, ...]) -> Transformer:
    """States are kept too, and one slot reaches to the last place."""
    model = build(device, sizes=sizes)
    model.keep_states(1)
    model.keep_states(SPEC.num_layers)
    for slot, length in enumerate(FILLED):
        model.run(model.plan([group(model, [slot], [0], length, 0)]))
    return model


def alike(replayed: Transformer, eager: Transformer, passes: list[list[TokenGroup]]) -> bool:
    """Logits of each pass, then all caches and kept states; the scratch slot is nobody's."""
    same = True
    for groups in passes:
        ours, theirs = replayed.forward(groups).clone(), eager.forward(groups)
        same = same and ours.shape == theirs.shape and torch.allclose(ours, theirs, **EXACT)
    same = same and torch.allclose(replayed.cache[:, :, :SLOTS], eager.cache[:, :, :SLOTS], **EXACT)
    return same and all(
        torch.allclose(states[:SLOTS], eager.kept[after][:SLOTS], **EXACT) for after, states in replayed.kept.items()
    )


@pytest.mark.parametrize("sizes", [SIZES, (31, 37), (64,)])
@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("device", DEVICES)
def test_a_replayed_pass_is_the_eager_one(device: str, name: str, sizes: tuple[int, ...]) -> None:
    """However much it is padded; each pass after the first of a frame is a replay on other values."""
    replayed, eager = filled(device, sizes), filled(device, ())
    passes = PASSES[name](replayed)
    assert alike(replayed, eager, passes)
    frames = {replayed.graphs.frame(groups) for groups in passes} if replayed.graphs else set()
    assert None not in frames
    assert captured(replayed) == len(frames)
    assert alike(replayed, eager, passes)
    assert captured(replayed) == len(frames)


@pytest.mark.parametrize("name", ["chains", "ragged", "trees", "a hole, out of order"])
@pytest.mark.parametrize("bug", ["spans", "tokens", "idle"])
def test_stale_buffers_and_careless_padding_are_found(bug: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: buffers written at the capture only; padding that writes into slots of sequences."""
    load, plan = graphs._Buffers.load, graphs._Buffers.plan

    def stale(self: graphs._Buffers, groups: list[TokenGroup]) -> None:
        before = getattr(self, bug).clone()
        first = not before.any()
        load(self, groups)
        if not first:
            getattr(self, bug).copy_(before)

    def careless(self: graphs._Buffers) -> object:
        found = plan(self)
        found.rows %= self._stack.max_sequences * SPEC.num_kv_heads * LENGTH  # the scratch slot becomes slot 0
        return found

    monkeypatch.setattr(graphs._Buffers, *(("plan", careless) if bug == "idle" else ("load", stale)))
    replayed, eager = filled("cpu", (31, 37)), filled("cpu", ())
    passes = PASSES[name](replayed)
    if bug == "tokens":  # other tokens at the same places, too
        for groups in passes[1:]:
            for each in groups:
                each.tokens = (each.tokens + 1) % SPEC.vocab_size
    assert not alike(replayed, eager, passes)


def test_python_values_freeze_as_in_a_graph_and_reading_a_value_is_refused() -> None:
    """A plan that was made on the host for the first pass stays that of the first."""
    replayed, eager = filled("cpu", SIZES), filled("cpu", ())
    first, second = PASSES["chains"](replayed)
    frozen = replayed.plan(first)
    for groups, same in ((first, True), (second, False)):
        (ours,) = replayed.compute("frozen", groups, lambda plan: (replayed.run(frozen),))
        assert torch.allclose(ours, eager.forward(groups), **EXACT) == same
    with pytest.raises(RuntimeError, match="no graph can"):
        replayed.compute("read", first, lambda plan: (replayed.run(plan)[: int(plan.tokens[0].item())],))


def test_prompts_large_passes_and_wasteful_padding_run_eagerly() -> None:
    model = filled("cpu", SIZES)
    assert model.graphs is not None
    eager = [
        [group(model, [0], [12], WIDEST + 1, 1)],  # a prompt's chunk
        [group(model, [*range(6)], at([*range(6)]), 6, 6)],  # 36 tokens, and 32 is the largest graph
        [group(model, [0], at([0]), 5, 5), group(model, [1, 2, 3], at([1, 2, 3]), 1, 1)],  # 8 tokens as 20
        [group(model, [5], at([5]), 1, 1)],  # one slot of six
        [group(model, [0, 1], at([0, 1]), 2, 2), group(model, [1, 2], at([1, 2]), 2, 2)],  # slot 1 twice
        [group(model, [0, 1], at([0, 1]), 5, 5), group(model, [2, 3], at([2, 3]), 5, 5, whole_tree())],
    ]
    for groups in eager:
        assert model.graphs.frame(groups) is None
        model.forward(groups)
    assert captured(model) == 0
    assert model.graphs.frame([group(model, [0, 1, 2], [12, 70, 20], 3, 1)]) == Frame(
        size=16, width=3, slots=5, rows=1, keys=128, tree=None, carried=None
    )


def test_keeping_more_states_drops_what_was_captured() -> None:
    replayed, eager = build(sizes=SIZES), build()
    for model in (replayed, eager):
        model.forward([group(model, [*range(6)], [0] * 6, 2, 2)])
        model.keep_states(2)
        model.forward([group(model, [*range(6)], [2] * 6, 2, 2)])
    assert captured(replayed) == 2
    assert torch.allclose(replayed.kept[2][:SLOTS], eager.kept[2][:SLOTS], **EXACT)
    assert eager.kept[2][:SLOTS].any()


def test_buckets_hold_their_keys_and_waste_little() -> None:
    assert [bucket(keys) for keys in (1, 64, 65, 512, 513, 1025, 4096, 4097)] == [
        64,
        64,
        128,
        512,
        576,
        1152,
        4096,
        4608,
    ]
    keys = np.arange(1, 40_000)
    buckets = np.array([bucket(int(k)) for k in keys])
    assert (buckets >= keys).all()
    assert (buckets - keys < np.maximum(64, keys / 8 + 1)).all()
    assert (np.diff(buckets) >= 0).all()


def test_sizes_are_the_scenarios_else_the_devices() -> None:
    assert EngineLimits(graph_sizes=(2, 8)).captured_sizes(4, on_gpu=False) == (2, 8)
    assert EngineLimits(graph_sizes=()).captured_sizes(4, on_gpu=True) == ()
    assert EngineLimits().captured_sizes(4, on_gpu=False) == ()
    assert 5 * 256 > EngineLimits().captured_sizes(4, on_gpu=True)[-1] == 512


# -- under an engine -------------------------------------------------------------------------------------------------

Make = Callable[[Transformer, Transformer], Drafter]


def tree(drafts: int) -> DraftTree:
    return DraftTree(TREE.parents[:drafts])


DRAFTERS: dict[str, Make] = {
    "draft model": lambda target, draft: DraftModel(draft),
    "draft tree": lambda target, draft: DraftModel(draft, tree),
    "ngram": lambda target, draft: NGram(),
    "skipped": lambda target, draft: SkippedLayers(target, Sublayers((True, False, True), (True, True, False))),
    "early exit": lambda target, draft: EarlyExit(target, 2),
    "early exit, whole verify": lambda target, draft: EarlyExit(target, 1, reuse=False),
    "adapter": lambda target, draft: EarlyExit(target, 1, random_adapter(target, 3)),
    "dynamic exit": lambda target, draft: DynamicExit(target, [1, 2]),
    "heads": lambda target, draft: Medusa(target, random_heads(target, 5, 3)),
    "feature head": lambda target, draft: Eagle(target, random_feature_head(target, 3)),
    "feature tree": lambda target, draft: Eagle(target, random_feature_head(target, 3), tree),
    "grown tree": lambda target, draft: Grown(DraftModel(draft), 3, 2, tree),
    "grown feature tree": lambda target, draft: Grown(Eagle(target, random_feature_head(target, 3)), 3, 2, tree),
    "merged": lambda target, draft: Merged(DraftModel(draft), 3, 2, tree, 0.0),
    "lookahead": lambda target, draft: Lookahead(SLOTS, 3, 3, 2),
}


def outputs(
    make: Make | None, sizes: tuple[int, ...], budget: int, device: str
) -> tuple[list[list[int]], object, int]:
    """What six prompts of different lengths become, the acceptance record, and the passes captured.

    The last one's keys outgrow a bucket of 64.
    """
    torch.manual_seed(0)
    target, draft = build(device), build(device, noise=0.05)
    capture_passes([target, draft], sizes, WIDEST)
    scheduler = Scheduler(
        EngineLimits(max_num_seqs=SLOTS, max_num_batched_tokens=budget, block_size=8),
        70,
        max_draft_tokens=4,
        lookahead_tokens=4,
    )
    prompts = [row[:length] for row, length in zip(texts(3), (1, 2, 5, 9, 20, 50), strict=True)]
    engine = Engine(target, make(target, draft) if make else None)
    found, counts = generate(
        engine, prompts, [24, 12, 32, 1, 16, 27], draft_tokens=4 if make else 0, scheduler=scheduler
    )
    return [each.tolist() for each in found], counts, captured(target) if sizes else 0


@pytest.mark.parametrize("budget", [20, 300])
@pytest.mark.parametrize("name", ["plain", *DRAFTERS])
@pytest.mark.parametrize("device", DEVICES)
def test_generation_is_that_of_the_eager_engine(device: str, name: str, budget: int) -> None:
    """Prompts in chunks and drafts trimmed by the budget, or whole; sequences of all lengths, which come and go."""
    make = DRAFTERS.get(name)
    eager, counts, _ = outputs(make, (), budget, device)
    replayed, recount, made = outputs(make, SIZES, budget, device)
    assert replayed == eager
    assert recount == counts
    assert (made > 3) == (name != "lookahead")  # whose window makes a slot run in several groups at once


def test_drafters_with_layers_of_their_own_capture_these_too() -> None:
    target = build(sizes=SIZES)
    for stack in (random_adapter(target, 3).layers, random_feature_head(target, 3).layers):
        assert isinstance(stack.graphs, Graphs)
        assert stack.graphs.capture is target.graphs.capture  # type: ignore[union-attr]


# -- as measured -----------------------------------------------------------------------------------------------------


def scenario(sizes: list[int] | None, concurrency: int = 6) -> Scenario:
    shape = SPEC.model_dump() | {"weight_bits": 32}
    return Scenario.model_validate(
        {
            "schema": 1, "name": "captured", "model": shape,
            "gpu": {
                "name": "a-cpu", "source": "test", "kind": "cpu", "memory_bytes": 8e9, "bandwidth_bytes_per_s": 2e10,
                "flops_per_s": {"float32": 1e11}, "last_level_cache_bytes": 32_000_000,
            },
            "deployment": {"kv_bits": 32},
            "engine": {"max_num_seqs": 6, "num_kv_blocks": 400, "block_size": 8, "graph_sizes": sizes},
            "speculation": {
                "program": "draft-model", "draft_model": shape | {"name": "draft", "num_layers": 1},
                "max_draft_tokens": 3, "acceptance": {"kind": "constant", "rate": 0.7},
                "policy": {"kind": "fixed", "k": 3},
            },
            "workload": {
                "kind": "synthetic", "arrivals": {"kind": "closed_loop", "concurrency": concurrency},
                "lengths": {"kind": "fixed", "prompt_tokens": 70, "output_tokens": 90}, "requests": 14,
            },
        }
    )  # fmt: skip


def test_a_served_load_finds_its_passes_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """And faces the same luck as an eager one: draws depend on request and position alone."""
    made: list[int] = []
    engines: list[Engine] = []

    def watched(engine: Engine, *args: object, **kwargs: object) -> None:
        rehearse(engine, *args, **kwargs)  # type: ignore[arg-type]
        engines.append(engine)
        made.append(engine.passes_captured())

    monkeypatch.setattr(run, "rehearse", watched)
    eager, replayed = run.serve(assemble(scenario(None))), run.serve(assemble(scenario([1, 2, 4, 8, 16, 24])))
    assert len(made) == 1
    assert made[0] > 20
    assert engines[0].passes_captured() - made[0] <= made[0] // 10  # a draft pass may end in the next bucket
    assert replayed.acceptance == eager.acceptance
    assert [(r.rounds, r.accepted) for r in replayed.requests] == [(r.rounds, r.accepted) for r in eager.requests]


def test_rounds_that_capture_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a round with a capture takes longer than all else."""
    slow = 0

    def step(engine: Engine, *args: object) -> Outcome:
        nonlocal slow
        before = engine.passes_captured()
        outcome = run_step(engine, *args)  # type: ignore[arg-type]
        if engine.passes_captured() > before:
            slow += 1
            outcome.times.total_s += 1e6
        return outcome

    monkeypatch.setattr(grid, "run_step", step)
    monkeypatch.setattr(grid, "WARM_UP_ROUNDS", 0)
    rows = list(
        grid.measure_grid(
            assemble(scenario([8, 32])), batches=[4], draft_lengths=[3], repeats=1, seconds_per_cell=0.01
        )
    )
    assert rows[0].rounds >= grid.MIN_ROUNDS
    assert rows[0].elapsed_s < 1e6
    assert slow >= 2
