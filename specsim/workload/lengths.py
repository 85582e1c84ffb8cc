"""How long prompts and outputs are, in tokens."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

Tokens = NDArray[np.int64]


class _Lengths(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FixedLengths(_Lengths):
    """Every request alike."""

    kind: Literal["fixed"] = "fixed"
    prompt_tokens: PositiveInt
    output_tokens: PositiveInt

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Prompt and output tokens, each of shape [count], at least 1."""
        return np.full(count, self.prompt_tokens), np.full(count, self.output_tokens)

    def means(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        return float(self.prompt_tokens), float(self.output_tokens)


class LognormalLengths(_Lengths):
    """Independent lognormal prompt and output lengths given by mean and coefficient of variation."""

    kind: Literal["lognormal"] = "lognormal"
    prompt_mean: PositiveFloat
    prompt_cv: NonNegativeFloat
    output_mean: PositiveFloat
    output_cv: NonNegativeFloat

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        """Rounded to whole tokens, at least 1, so that the mean shifts by at most half a token above 1."""
        return (
            _lognormal(self.prompt_mean, self.prompt_cv, count, generator),
            _lognormal(self.output_mean, self.output_cv, count, generator),
        )

    def means(self) -> tuple[float, float]:
        return self.prompt_mean, self.output_mean


class EmpiricalLengths(_Lengths):
    """Pairs (prompt, output) drawn with replacement, so that the two stay correlated as observed."""

    kind: Literal["empirical"] = "empirical"
    pairs: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(min_length=1)

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tokens, Tokens]:
        table = np.asarray(self.pairs, dtype=np.int64)
        rows = table[generator.integers(len(table), size=count)]
        return rows[:, 0], rows[:, 1]

    def means(self) -> tuple[float, float]:
        prompt, output = np.asarray(self.pairs, dtype=np.float64).mean(axis=0)
        return float(prompt), float(output)


Lengths = Annotated[FixedLengths | LognormalLengths | EmpiricalLengths, Field(discriminator="kind")]


def _lognormal(mean: float, cv: float, count: int, generator: np.random.Generator) -> Tokens:
    variance = np.log1p(cv**2)
    values = generator.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)
    return np.maximum(1, np.rint(values)).astype(np.int64)
