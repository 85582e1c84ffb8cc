"""Speculation changes when tokens come, never which: greedy outputs with and without it, token for token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.reference.decoding.generate import Engine, generate, run_step  # noqa: E402
from specsim.reference.decoding.lossless import losslessness  # noqa: E402
from specsim.reference.drafters import Drafter, DraftModel, NGram  # noqa: E402
from specsim.reference.drafters.own_weights import OwnWeights  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.results import AcceptanceCounts  # noqa: E402
from specsim.scheduling.scheduler import Scheduler, SequenceState  # noqa: E402
from specsim.specs.engine import EngineLimits  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402
from specsim.speculation.acceptance import (  # noqa: E402
    AcceptanceDraws,
    ConditionalAcceptance,
    ConstantAcceptance,
    PowerLawAcceptance,
)
from specsim.speculation.policy.deciders import ByBatch  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=37,
)  # fmt: skip
PROMPT_TOKENS = (1, 2, 5, 9, 20, 33)
OUTPUT_TOKENS = (30, 7, 40, 1, 20, 60)


def build(dtype: torch.dtype = torch.float64, noise: float = 0.0) -> Transformer:
    return Transformer(SPEC, device="cpu", dtype=dtype, max_sequences=6, max_length=112, seed=5, noise=noise)


def drafter(name: str) -> Drafter:
    """``copy`` is always right, ``noisy`` often, ``stranger`` hardly ever; ``ngram`` when the text repeats."""
    if name == "ngram":
        return NGram()
    return DraftModel(build(noise={"copy": 0.0, "noisy": 0.05, "stranger": 20.0}[name]))


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    generator = np.random.default_rng(11)
    return [generator.integers(0, SPEC.vocab_size, length) for length in PROMPT_TOKENS]


@pytest.fixture(scope="module")
def plain(prompts: list[np.ndarray]) -> list[np.ndarray]:
    outputs, counts = generate(Engine(build()), prompts, OUTPUT_TOKENS)
    assert counts.drafted() == 0
    return outputs


def test_without_speculation_each_token_is_the_most_likely_one(
    prompts: list[np.ndarray], plain: list[np.ndarray]
) -> None:
    """Against one pass over the finished text, which has no rounds, slots or batch at all."""
    from specsim.reference.network.transformer import TokenGroup

    model = build()
    for prompt, output in zip(prompts, plain, strict=True):
        text = torch.from_numpy(np.concatenate((prompt, output)))[None]
        logits = model.forward([TokenGroup(np.array([0]), text, np.array([0]), text.shape[1])])
        assert logits.argmax(-1)[len(prompt) - 1 : -1].tolist() == output.tolist()


@pytest.mark.parametrize("k", [1, 2, 5, 8])
@pytest.mark.parametrize("name", ["copy", "noisy", "stranger", "ngram"])
def test_speculation_is_lossless(name: str, k: int, prompts: list[np.ndarray], plain: list[np.ndarray]) -> None:
    outputs, counts = generate(Engine(build(), drafter(name)), prompts, OUTPUT_TOKENS, draft_tokens=k)
    assert [o.tolist() for o in outputs] == [o.tolist() for o in plain]
    rate = counts.acceptance_rate()
    assert rate is not None
    low, high = {"copy": (1.0, 1.0), "noisy": (0.3, 0.99), "stranger": (0.0, 0.25), "ngram": (0.01, 0.99)}[name]
    assert low <= rate <= high


@pytest.mark.parametrize("name", ["noisy", "ngram"])
@pytest.mark.parametrize(("budget", "blocks", "seats"), [(9, 60, 6), (64, 14, 6), (7, 13, 3)])
def test_speculation_is_lossless_under_pressure(
    name: str, budget: int, blocks: int, seats: int, prompts: list[np.ndarray], plain: list[np.ndarray]
) -> None:
    """Prompts in chunks, drafts trimmed by the budget, sequences preempted and resumed, slots reused."""
    limits = EngineLimits(max_num_seqs=seats, max_num_batched_tokens=budget, block_size=8)
    scheduler = Scheduler(limits, blocks, max_draft_tokens=3, lookahead_tokens=3)
    engine = Engine(build(), drafter(name))
    outputs, _ = generate(engine, prompts, OUTPUT_TOKENS, draft_tokens=3, scheduler=scheduler)
    assert [o.tolist() for o in outputs] == [o.tolist() for o in plain]
    assert scheduler.free_blocks == scheduler.num_blocks


def test_speculation_is_lossless_while_the_draft_length_changes(
    prompts: list[np.ndarray], plain: list[np.ndarray]
) -> None:
    """Rounds without drafts leave the draft model behind; it catches up."""
    engine = Engine(build(), drafter("noisy"))
    scheduler = Scheduler(EngineLimits(max_num_batched_tokens=512), 400, max_draft_tokens=6)
    for number, (prompt, length) in enumerate(zip(prompts, OUTPUT_TOKENS, strict=True)):
        scheduler.add(SequenceState(number, len(prompt), length))
        engine.add(number, prompt)
    lengths = np.random.default_rng(4)
    outputs: dict[int, np.ndarray] = {}
    drafted = accepted = 0
    while scheduler.has_work:
        outcome = run_step(engine, scheduler, ByBatch([int(lengths.choice([0, 0, 1, 3, 6]))]))
        outputs |= outcome.finished
        drafted += sum(share.drafts for share in outcome.step.scheduled)
        accepted += sum(outcome.accepted)
    assert [outputs[n].tolist() for n in range(len(prompts))] == [o.tolist() for o in plain]
    assert 0.3 < accepted / drafted < 0.99


def replay(draws: AcceptanceDraws, outputs: tuple[int, ...], k: int) -> AcceptanceCounts:
    """The record that the draws alone imply: a prompt emits one token, then rounds of k drafts to the end."""
    counts = AcceptanceCounts()
    for request, length in enumerate(outputs):
        position = 1
        while position < length:
            right = int(draws.accepted(np.array([request]), np.array([position]), np.array([k]))[0])
            counts.add(k, right)
            position += 1 + right
    return counts


@pytest.mark.parametrize("name", ["stranger", "ngram"])
@pytest.mark.parametrize(
    "law",
    [
        ConstantAcceptance(rate=0.8),
        ConditionalAcceptance(rates=(0.9, 0.6, 0.7, 0.5)),
        PowerLawAcceptance(c=0.8, gamma=0.6),
    ],
)
def test_imposed_acceptance_is_exactly_what_was_drawn(
    name: str, law: ConstantAcceptance | ConditionalAcceptance | PowerLawAcceptance, prompts: list[np.ndarray]
) -> None:
    """Whatever the drafter and the batch; and the totals agree with the law's expectation."""
    draws = AcceptanceDraws(law, seed=17)
    outputs = (76,) * len(prompts)
    engine = Engine(
        build(torch.float32), drafter(name) if name == "ngram" else DraftModel(build(torch.float32, 20.0)), draws
    )
    texts, counts = generate(engine, prompts, outputs, draft_tokens=4)
    assert [len(text) for text in texts] == list(outputs)
    assert counts == replay(draws, outputs, 4)
    survival = law.survival(4)
    rounds, mean = counts.drafting_rounds(), float(survival.sum())
    variance = float(((2 * np.arange(1, 5) - 1) * survival).sum()) - mean**2  # E[X²] = Σ (2i - 1)·P(X ≥ i)
    assert counts.accepted() / rounds == pytest.approx(mean, abs=4 * (variance / rounds) ** 0.5)


def test_step_times_add_up() -> None:
    engine = Engine(build(torch.float32), DraftModel(build(torch.float32)))
    scheduler = Scheduler(EngineLimits(), 100, max_draft_tokens=3)
    scheduler.add(SequenceState(0, 8, 20))
    engine.add(0, np.arange(8))
    times = run_step(engine, scheduler, ByBatch([3])).times
    assert min(times.target_s, times.draft_s, times.sample_s, times.host_s) > 0
    assert times.target_s + times.draft_s + times.sample_s + times.host_s == pytest.approx(times.total_s)
    assert run_step(engine, scheduler, ByBatch([0])).times.draft_s == 0.0


@pytest.mark.parametrize("passes", [1, 3])
def test_choosing_drafts_is_drafting_and_only_the_targets_choice_is_sampling(
    monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """Parts as they are booked: nothing inside anything else, one choice of the target's and one for each draft."""
    engine = Engine(build(torch.float32), DraftModel(build(torch.float32)))
    scheduler = Scheduler(EngineLimits(), 100, max_draft_tokens=passes)
    scheduler.add(SequenceState(0, 8, 20))
    engine.add(0, np.arange(8))
    booked: list[str] = []
    inside: list[str] = []
    run = engine.watch.run

    def noted(part: str, function: Callable[..., object], *arguments: object) -> object:
        assert not inside
        booked.append(part)
        inside.append(part)
        result = run(part, function, *arguments)
        inside.pop()
        return result

    monkeypatch.setattr(engine.watch, "run", noted)
    run_step(engine, scheduler, ByBatch([passes]))
    assert booked == ["target", "sample", *["draft", "draft"] * passes]  # a pass, and what is chosen from it


@pytest.mark.parametrize(
    ("dtype", "least", "widest"), [(torch.float64, 1.0, 0.0), (torch.float32, 0.7, 1e-4), (torch.bfloat16, 0.0, 0.1)]
)
def test_rounding_decides_only_between_near_equal_tokens(dtype: torch.dtype, least: float, widest: float) -> None:
    """Logits of spread 1 carry errors near the dtype's epsilon (1e-7, 8e-3), so no divergence needs a wider gap."""
    report = losslessness(SPEC, None, dtype, draft_tokens=4, sequences=8, output_tokens=32)
    assert report.sequences == 8
    assert report.identical == 8 - len(report.gaps) == 8 - len(report.first_divergence)
    assert report.identical_share >= least
    assert max(report.gaps, default=0.0) <= widest
    assert report.acceptance_rate is not None
    assert 0.0 < report.acceptance_rate < 1.0


def test_losslessness_of_any_drafter() -> None:
    """A draft model of another shape; and copies from the text, which need no weights at all."""
    small = SPEC.model_copy(update={"num_layers": 1, "hidden_size": 32})

    def stranger(target: Transformer, draft: Transformer | None, own: OwnWeights) -> Drafter:
        size = {"max_sequences": target.max_sequences, "max_length": target.max_length}
        return DraftModel(Transformer(small, device="cpu", dtype=target.dtype, seed=0, **size))  # type: ignore[arg-type]

    for make in (stranger, lambda target, draft, own: NGram()):
        report = losslessness(SPEC, make, torch.float64, sequences=3, output_tokens=12)
        assert report.identical_share == 1.0
        assert report.acceptance_rate is not None
