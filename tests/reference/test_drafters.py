"""What drafters propose: look-ups against a plain search, a draft model against its own greedy decoding."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from specsim.reference.decoding.generate import Engine, generate  # noqa: E402
from specsim.reference.drafters import DraftModel, History, NGram, Prefills, Stopwatch  # noqa: E402
from specsim.reference.network.transformer import Transformer  # noqa: E402
from specsim.specs.model import ModelSpec  # noqa: E402

pytestmark = pytest.mark.torch

SPEC = ModelSpec(
    name="small", source="test", num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, head_dim=8,
    intermediate_size=64, vocab_size=53,
)  # fmt: skip
NOBODY = Prefills(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize(
    ("text", "k", "found"),
    [
        ([5, 6, 7, 5, 6], 2, [7, 5]),
        ([5, 6, 7, 5, 6], 9, [7, 5, 6]),  # no more is known
        ([1, 2, 3, 4], 3, []),
        ([9], 3, []),
        ([4, 4, 4, 4], 2, [4]),  # the longest suffix, of three, occurred once before
        ([1, 3, 8, 2, 3, 9, 1, 3], 1, [8]),  # two tokens of context decide against the 9
        ([7, 1, 2, 3, 5, 0, 1, 2, 3, 6, 1, 2, 3], 1, [5]),  # the earliest of two
    ],
)
def test_look_up_by_hand(text: list[int], k: int, found: list[int]) -> None:
    assert NGram().look_up(np.array(text), k).tolist() == found


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6))
def test_look_up_equals_a_plain_search(text: list[int], k: int) -> None:
    expected: list[int] = []
    for size in (3, 2, 1):
        places = [i for i in range(len(text) - size) if text[i : i + size] == text[-size:]] if size < len(text) else []
        if places:
            expected = text[places[0] + size : places[0] + size + k]
            break
    assert NGram().look_up(np.array(text), k).tolist() == expected


def build(seed: int = 0) -> Transformer:
    return Transformer(SPEC, device="cpu", dtype=torch.float64, max_sequences=4, max_length=80, seed=seed)


def test_a_draft_model_proposes_its_own_greedy_continuation() -> None:
    """Fresh sequences of unequal length, then more tokens known, then rounds missed, then another k."""
    generator = np.random.default_rng(1)
    texts = [generator.integers(0, SPEC.vocab_size, length) for length in (2, 9, 30)]
    history, drafter, watch = History(4, 80), DraftModel(build()), Stopwatch(torch.device("cpu"))
    slots = np.arange(3)
    for k, advance in ((4, 1), (4, 5), (2, 3), (6, 12), (1, 2), (5, 0)):
        for slot, known in enumerate(texts):
            history.tokens[slot, : len(known)], history.lengths[slot] = known, len(known)
        proposal = drafter.propose(history, slots, k, watch, NOBODY)
        expected, _ = generate(Engine(build()), texts, [k] * 3)
        assert proposal.counts.tolist() == [k] * 3
        assert proposal.drafts.tolist() == [row.tolist() for row in expected]
        texts = [np.concatenate((known, generator.integers(0, SPEC.vocab_size, advance))) for known in texts]


def test_a_draft_model_keeps_pace_with_a_prompt_in_chunks() -> None:
    generator = np.random.default_rng(2)
    done, coming = (generator.integers(0, SPEC.vocab_size, length) for length in (9, 24))
    history, drafter, watch = History(4, 80), DraftModel(build()), Stopwatch(torch.device("cpu"))
    for slot, known in enumerate((done, coming)):
        history.tokens[slot, : len(known)], history.lengths[slot] = known, len(known)
    drafter.propose(history, np.array([0]), 3, watch, Prefills(np.array([1]), np.array([16])))
    assert drafter.pace.computed[1] == 16
    drafts = drafter.propose(history, np.array([1]), 3, watch, NOBODY).drafts
    expected, _ = generate(Engine(build()), [coming], [3])
    assert drafts[0].tolist() == expected[0].tolist()
    only_chunks = drafter.propose(
        history, np.zeros(0, dtype=np.int64), 3, watch, Prefills(np.array([0]), np.array([9]))
    )
    assert only_chunks.drafts.shape == (0, 3)
    assert only_chunks.counts.shape == (0,)
