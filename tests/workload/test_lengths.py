"""Length laws against their moments."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from specsim.workload.lengths import EmpiricalLengths, FixedLengths, Lengths, LognormalLengths

COUNT = 200_000


def test_fixed_lengths() -> None:
    law = FixedLengths(prompt_tokens=128, output_tokens=32)
    prompts, outputs = law.draw(3, np.random.default_rng(0))
    assert (prompts.tolist(), outputs.tolist()) == ([128] * 3, [32] * 3)
    assert law.means() == (128.0, 32.0)


def test_lognormal_mean_and_cv() -> None:
    law = LognormalLengths(prompt_mean=1000, prompt_cv=1.5, output_mean=200, output_cv=0.5)
    prompts, outputs = law.draw(COUNT, np.random.default_rng(1))
    for tokens, mean, cv in ((prompts, 1000, 1.5), (outputs, 200, 0.5)):
        assert tokens.dtype == np.int32
        assert tokens.min() >= 1
        assert abs(tokens.mean() - mean) < 5 * mean * cv / COUNT**0.5 + 0.5
        assert tokens.std() / tokens.mean() == pytest.approx(cv, rel=0.05)
        # The median of a lognormal is mean / sqrt(1 + cv²).
        assert np.median(tokens) == pytest.approx(mean / (1 + cv**2) ** 0.5, rel=0.02)
    assert abs(np.corrcoef(prompts, outputs)[0, 1]) < 5 / COUNT**0.5
    assert law.means() == (1000, 200)


def test_lognormal_without_spread_is_fixed() -> None:
    law = LognormalLengths(prompt_mean=10, prompt_cv=0, output_mean=1, output_cv=0)
    prompts, outputs = law.draw(50, np.random.default_rng(2))
    assert set(prompts.tolist()) == {10}
    assert set(outputs.tolist()) == {1}


def test_empirical_pairs_stay_together() -> None:
    pairs = ((10, 100), (20, 5), (30, 7))
    law = EmpiricalLengths(pairs=pairs)
    prompts, outputs = law.draw(30_000, np.random.default_rng(3))
    drawn = list(zip(prompts.tolist(), outputs.tolist(), strict=True))
    assert set(drawn) == set(pairs)
    for pair in pairs:
        assert abs(drawn.count(pair) / 30_000 - 1 / 3) < 5 * (2 / 9 / 30_000) ** 0.5
    assert law.means() == pytest.approx((20.0, 112 / 3))


def test_kind_selects_the_law_and_zero_tokens_are_refused() -> None:
    adapter: TypeAdapter[Lengths] = TypeAdapter(Lengths)
    law = adapter.validate_python({"kind": "fixed", "prompt_tokens": 3, "output_tokens": 4})
    assert isinstance(law, FixedLengths)
    with pytest.raises(ValidationError):
        FixedLengths(prompt_tokens=3, output_tokens=0)
    with pytest.raises(ValidationError):
        EmpiricalLengths(pairs=((1, 0),))
