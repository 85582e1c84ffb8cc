"""How long prompts and outputs are, in tokens."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from specsim.validated import Validated
from specsim.workload.request import MAX_TOKENS

Tokens = NDArray[np.int32]
Length = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
MeanLength = Annotated[float, Field(gt=0, le=MAX_TOKENS, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class LengthLaw(Validated):
    """Draws of prompt and output lengths."""

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Prompt and output tokens, each of shape [count], at least 1."""
        raise NotImplementedError

    def means(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        raise NotImplementedError


class FixedLengths(LengthLaw):
    """Every request alike."""

    kind: Literal["fixed"] = "fixed"
    prompt_tokens: Length
    output_tokens: Length

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        return np.full(count, self.prompt_tokens, np.int32), np.full(count, self.output_tokens, np.int32)

    def means(self) -> tuple[float, float]:
        return float(self.prompt_tokens), float(self.output_tokens)


class LognormalLengths(LengthLaw):
    """Independent lognormal prompt and output lengths given by mean and coefficient of variation."""

    kind: Literal["lognormal"] = "lognormal"
    prompt_mean: MeanLength
    prompt_cv: Spread
    output_mean: MeanLength
    output_cv: Spread

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Rounded to whole tokens, at least 1, so that the mean shifts by at most half a token above 1."""
        return (
            _lognormal(self.prompt_mean, self.prompt_cv, count, generator),
            _lognormal(self.output_mean, self.output_cv, count, generator),
        )

    def means(self) -> tuple[float, float]:
        return self.prompt_mean, self.output_mean


class EmpiricalLengths(LengthLaw):
    """Pairs (prompt, output) drawn with replacement, so that the two stay correlated as observed."""

    kind: Literal["empirical"] = "empirical"
    pairs: tuple[tuple[Length, Length], ...] = Field(min_length=1)

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        return draw_pairs(np.asarray(self.pairs, dtype=np.int32), count, generator)

    def means(self) -> tuple[float, float]:
        prompt, output = np.asarray(self.pairs, dtype=np.float64).mean(axis=0)
        return float(prompt), float(output)


Lengths = Annotated[FixedLengths | LognormalLengths | EmpiricalLengths, Field(discriminator="kind")]


def draw_pairs(pairs: Tokens, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
    """Rows of ``pairs`` [n, 2] with replacement, as prompts and outputs."""
    rows = pairs[generator.integers(len(pairs), size=count)]
    return rows[:, 0], rows[:, 1]


def _lognormal(mean: float, cv: float, count: int, generator: np.random.Generator) -> Tokens:
    variance = np.log1p(cv**2)
    values = generator.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
    return np.clip(np.rint(values), 1, MAX_TOKENS).astype(np.int32)
