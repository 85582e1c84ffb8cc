"""Whether speculation changes greedy output: never in exact arithmetic, and by rounding alone in narrow dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specsim.arrays import Integers
from specsim.reference.decoding.choice import Make
from specsim.reference.decoding.engine import Engine
from specsim.reference.decoding.generate import generate
from specsim.reference.drafters import DraftModel
from specsim.reference.drafters.own_weights import RandomWeights
from specsim.reference.network.transformer import TokenGroup, Transformer
from specsim.specs.model import ModelSpec

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class LosslessReport:
    """Greedy outputs with speculation against without. Where they differ, rounding decided between near-equal tokens.

    ``gaps``: the target's logit lead of its first choice over its second, one for each output that differs, at the
    first token that does, computed in one pass over the text so far. Logits have a spread of about 1.
    """

    dtype: str
    sequences: int
    identical: int
    first_divergence: tuple[int, ...]  # output positions
    gaps: tuple[float, ...]
    acceptance_rate: float | None

    @property
    def identical_share(self) -> float:
        return self.identical / self.sequences


def losslessness(
    spec: ModelSpec,
    make: Make | None,
    dtype: torch.dtype,
    *,
    draft_tokens: int = 4,
    sequences: int = 8,
    prompt_tokens: int = 24,
    output_tokens: int = 48,
    seed: int = 0,
    noise: float = 0.1,
    device: str = "cpu",
) -> LosslessReport:
    """Decode the same random prompts with and without a drafter and compare; without ``make`` with a draft model.

    A draft model is the target with ``noise`` in its weights, which is right part of the time.
    """
    generator = np.random.default_rng(seed)
    prompts = [generator.integers(0, spec.vocab_size, prompt_tokens + i) for i in range(sequences)]
    length = prompt_tokens + sequences + output_tokens + draft_tokens + 1
    size = {"device": device, "dtype": dtype, "max_sequences": sequences, "max_length": length}
    target = Transformer(spec, seed=seed, **size)  # type: ignore[arg-type]
    draft = Transformer(spec, seed=seed, noise=noise, **size)  # type: ignore[arg-type]
    lengths = [output_tokens] * sequences
    plain, _ = generate(Engine(target), prompts, lengths)
    drafter = make(target, draft, RandomWeights(seed)) if make is not None else DraftModel(draft)
    drafted, counts = generate(Engine(target, drafter), prompts, lengths, draft_tokens=draft_tokens)
    places, gaps = [], []
    for prompt, ours, theirs in zip(prompts, plain, drafted, strict=True):
        if not np.array_equal(ours, theirs):
            place = int(np.flatnonzero(ours != theirs)[0])
            places.append(place)
            gaps.append(_top_gap(target, np.concatenate((prompt, ours[:place]))))
    return LosslessReport(
        dtype=str(dtype).removeprefix("torch."),
        sequences=sequences,
        identical=sequences - len(gaps),
        first_divergence=tuple(places),
        gaps=tuple(gaps),
        acceptance_rate=counts.acceptance_rate(),
    )


def _top_gap(target: Transformer, text: Integers) -> float:
    tokens = torch.from_numpy(text[None, :]).to(target.device)
    logits = target.forward([TokenGroup(np.zeros(1, dtype=np.int64), tokens, np.zeros(1, dtype=np.int64), 1)])
    first, second = logits[0].double().topk(2).values.tolist()
    return float(first - second)


def by_dtype(
    spec: ModelSpec, make: Make | None = None, *, draft_tokens: int = 4, device: str = "cpu"
) -> list[LosslessReport]:
    """``losslessness`` of a drafter, or of a draft that agrees in part, in each of DTYPES."""
    return [losslessness(spec, make, dtype, draft_tokens=draft_tokens, device=device) for dtype in DTYPES]
