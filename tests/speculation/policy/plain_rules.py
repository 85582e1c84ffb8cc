"""The rules of policies that learn as plain Python over numbers, to hold the compiled ones against.

Each answers ``decide``, given what the last step verified as (request, drafted, accepted) rows and what comes next,
with the tokens that each sequence drafts and how many are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log, prod
from typing import Any

Seen = Sequence[tuple[int, int, int]]


@dataclass
class Step:
    """A batch size, the mean KV length, and the sequences that draft next with their drafts' confidences."""

    batch: int
    context: float
    going: list[int]
    confidences: list[list[float]]


def alike(step: Step, k: int) -> tuple[list[int], int]:
    return [k] * len(step.going), k


@dataclass
class Throughput:
    """Arg-max of (1 + sum of products of rates) / seconds, the rates being moving averages (arXiv 2406.14066)."""

    rates: list[float]
    seconds: Any  # of (batch, k, KV length)
    choices: Sequence[int]
    ema: float
    margin: float
    bonus: float
    chosen: int | None = None

    def decide(self, seen: Seen, step: Step) -> tuple[list[int], int]:
        for i in range(len(self.rates)):
            tried = [accepted > i for _, drafted, accepted in seen if drafted > i and accepted >= i]
            for_all = 1 - (1 - self.ema) ** len(tried)
            if tried:
                self.rates[i] += for_all * (sum(tried) / len(tried) - self.rates[i])
        worth = {k: self.value(k, step) for k in self.choices}
        best = min(k for k in self.choices if worth[k] >= max(worth.values()) * (1 - 1e-12))
        if self.chosen is None or worth[best] > worth[self.chosen] * (1 + self.margin):
            self.chosen = best
        return alike(step, self.chosen)

    def value(self, k: int, step: Step) -> float:
        tokens = 1 + sum(prod(self.rates[: i + 1]) for i in range(k))
        context = 2 ** (round(4 * log(max(step.context, 1), 2)) / 4)
        return float(tokens / self.seconds(step.batch, k, context) * (1 if k else 1 + self.bonus))


@dataclass
class PlusMinus:
    """The heuristic schedule of assisted generation: + 2 after a full accept, else - 1, at least 1."""

    longest: int
    length: dict[int, int] = field(default_factory=dict)

    def decide(self, seen: Seen, step: Step) -> tuple[list[int], int]:
        for request, drafted, accepted in seen:
            now = self.length.get(request, 3)
            self.length[request] = min(now + 2, self.longest) if drafted == accepted else max(1, now - 1)
        lengths = [self.length.get(request, 3) for request in step.going]
        return lengths, max(lengths, default=self.longest)


@dataclass
class Confidence:
    """A stop at the first unsure draft, its threshold moved as in Draft & Verify (arXiv 2309.08168, section 3.3)."""

    longest: int
    threshold: float
    keep_last: bool
    average: float | None = None

    def decide(self, seen: Seen, step: Step) -> tuple[list[int], int]:
        for _, drafted, accepted in seen:
            rate = accepted / drafted
            self.average = rate if self.average is None else 0.5 * self.average + 0.5 * rate
            target = self.threshold + (0.01 if self.average < 0.9 else -0.01)
            self.threshold = min(1.0, max(0.0, 0.9 * self.threshold + 0.1 * target))
        sure = [
            next((i for i, one in enumerate(row) if one < self.threshold), self.longest) for row in step.confidences
        ]
        computed = [min(one + 1, self.longest) for one in sure]
        return computed if self.keep_last else sure, max(computed, default=self.longest)


@dataclass
class Budget:
    """Of all drafts those likeliest to survive: so many (arXiv 2502.15197), or the best number (2607.05147)."""

    k: int
    tokens: int | None
    seconds: Any  # of (sequences, drafts verified, KV length)

    def decide(self, seen: Seen, step: Step) -> tuple[list[int], int]:
        drafts = [(-prod(row[: i + 1]), place, i) for place, row in enumerate(step.confidences) for i in range(self.k)]
        drafts.sort()
        count = self.tokens
        if count is None and step.going:
            count = self.best([-one for one, *_ in drafts], step)
        kept = [place for _, place, _ in drafts[:count]]
        return [kept.count(place) for place in range(len(step.going))], self.k

    def best(self, survival: list[float], step: Step) -> int:
        context = 2 ** (round(4 * log(max(step.context, 1), 2)) / 4)
        sequences, worth = len(step.going), []
        for count in range(len(survival) + 1):
            seconds = max(self.seconds(sequences, one, context) for one in range(count + 1))
            worth.append((sequences + sum(survival[:count])) / seconds)
        return next(i for i, one in enumerate(worth) if one >= max(worth) * (1 - 1e-12))


@dataclass
class Tiers:
    """SGLang's adaptive_spec_params (commit 015c872): per tier of the batch size a moving average moves k."""

    tiers: list[tuple[int, list[int]]]  # first batch, choices
    every: int
    warmup: int
    state: dict[int, list[float]] = field(default_factory=dict)  # k, average, steps

    def tier(self, batch: int) -> tuple[list[int], list[float]]:
        first, choices = [tier for tier in self.tiers if tier[0] <= batch][-1]
        middle = choices[len(choices) // 2]
        return choices, self.state.setdefault(first, [middle, middle - 1.0, 0])

    def decide(self, seen: Seen, step: Step) -> tuple[list[int], int]:
        choices, state = self.tier(step.batch)
        if state[0] == 0 or seen:
            if state[0]:
                mean = sum(accepted for *_, accepted in seen) / len(seen)
                state[1] = 0.8 * state[1] + 0.2 * mean
            state[2] += 1
            if state[2] > self.warmup and (state[2] - self.warmup) % self.every == 0:
                self.move(choices, state)
        return alike(step, int(state[0]))

    def move(self, choices: list[int], state: list[float]) -> None:
        k = int(state[0])
        above, below = [c for c in choices if c > k], [c for c in choices if c < k]
        if k == 0:
            state[0] = above[0] if above else 0
            state[1] = state[0] - 1 if state[1] < 0 else state[1]
            return
        lower = k
        while below and state[1] <= (0.5 if below[-1] == 0 else below[-1] - 0.5) - 0.25:
            lower = below.pop()
        while lower == k and above and state[1] > state[0] - 0.5:
            state[0] = above.pop(0)
        state[0] = lower if lower < k else state[0]
