"""The batch × k map: what each draft length does at each batch size, which is best, and up to which batch.

A batch is in steady service: B requests run, and the next one takes the place of each that ends. A request of O output
tokens takes u steps (``analytic.prompts``), so

    output tokens/s = B · O / (u · seconds of a mean step)    speed-up = the same ÷ that of k = 0 with no drafter.

For decoding alone a step is a round that commits E[tokens] = 1 + Σ r_i a sequence:

    output tokens/s = B · E[tokens] / round seconds.

Under a confidence stop k is the most that a sequence drafts. No queueing, no start and no end of a run: those are the
simulator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from specsim.analytic.acceptance_error import unsure_of_acceptance
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.analytic.steps import PROMPTS, Served, Steps
from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput, NoAnswer
from specsim.speculation.round import SHARED_ERRORS
from specsim.surfaces.estimates import Z90


def speedup_map(
    assembly: Assembly,
    *,
    batches: Sequence[int] | None = None,
    draft_lengths: Sequence[int] | None = None,
    context_tokens: float | None = None,
    decode_only: bool = False,
    acceptance_error: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SpeedupMap:
    """The map of a scenario: batches 1, 2, 4, ... up to ``max_num_seqs``, draft lengths up to
    ``max_draft_tokens`` that the program can run; 0 alone without a drafter. ``draft_lengths``: of these, some.

    ``decode_only``: prompts cost nothing; so also at a given ``context_tokens``, else the workload's mean, and where
    prefill replicas compute them: the map is then a decode replica's. ``acceptance_error``: whether bounds hold what
    acceptance leaves open, which takes two maps more. ``progress`` hears (done, all) draft lengths of all maps. Raises
    NoAnswer if the models do not fit, InvalidInput for a batch below 1.
    """
    scenario = assembly.scenario
    decode_only = decode_only or scenario.deployment.disaggregation is not None
    served = None if decode_only or context_tokens is not None else served_by(assembly)
    context = assembly.context_tokens if context_tokens is None else context_tokens
    if not context >= 1:
        raise InvalidInput(f"a context of {context:g} tokens; a decoding sequence has at least 1")
    largest = largest_batch(assembly, context)
    batches = default_batches(min(scenario.engine.max_num_seqs, largest)) if batches is None else batches
    if not batches or min(batches) < 1:
        raise InvalidInput(f"batches {list(batches)} must be a non-empty list of sizes of at least 1")
    if max(batches) > largest:
        raise NoAnswer(
            f"batch {max(batches)} does not fit: the KV cache holds {largest} sequences of {context:.0f} tokens; "
            "ask for smaller batches or a shorter context"
        )
    sizes = sorted(set(batches))
    lengths = assembly.choices() if draft_lengths is None else tuple(draft_lengths)

    drawn = count()

    def draw(asked: Assembly) -> list[Cell]:
        rows = []
        for row in _rows(asked, sizes, lengths, context, served):
            rows.append(row)
            if progress is not None:
                progress(next(drawn) + 1, len(lengths) * (3 if acceptance_error else 1))
        return [row[index] for index in range(len(sizes)) for row in rows]

    cells = unsure_of_acceptance(assembly, draw) if acceptance_error else draw(assembly)
    origin = None if scenario.speculation is None else scenario.speculation.acceptance_origin
    return SpeedupMap(tuple(cells), assembly.price_name, origin, served)


SAMPLE = 1024  # requests looked at to tell how lengths vary


def served_by(assembly: Assembly) -> Served:
    """What the scenario's workload asks of a batch."""
    workload = assembly.scenario.workload
    prompt, output = workload.mean_lengths()
    arrivals = workload.clients
    drawn = next(iter(workload.chunks(0, SAMPLE)))
    equal = bool(drawn.output_tokens.min() == drawn.output_tokens.max())
    together = arrivals is not None and not (arrivals.think_s and arrivals.think == "exponential")
    prompts = drawn.prompt_tokens.astype(np.float64)
    engine = assembly.scenario.engine
    turnaround_s = None if arrivals is None else engine.frontend_request_s + engine.frontend_response_s
    return Served(prompts * (prompt / prompts.mean()), output, equal and together, turnaround_s)


def _rows(
    assembly: Assembly, batches: Sequence[int], lengths: Sequence[int], context: float, served: Served | None
) -> Iterator[list[Cell]]:
    """The cells of each draft length, whose prices are made for every batch size at once."""
    sizes = np.array(batches, dtype=np.float64)
    alone = _Row.of(Steps(assembly, 0, drafter=False), sizes, context, served)
    for k in lengths:
        steps = Steps(assembly, k)
        row = _Row.of(steps, sizes, context, served) if k or steps.drafter else alone
        yield row.cells(batches, context, alone)


@dataclass(frozen=True, slots=True)
class _Row:
    """One draft length over batch sizes [batches]; ``tokens``: that a step commits a request, prompts' steps too."""

    draft_tokens: int
    tokens_per_round: float
    round: StepTime
    step: StepTime
    tokens: Floats

    @classmethod
    def of(cls, steps: Steps, sizes: Floats, context: float, served: Served | None) -> _Row:
        price = steps.round(sizes, context)
        if served is None:
            return cls(steps.draft_tokens, steps.tokens, price, price, np.full(len(sizes), steps.tokens))
        found = steps.prompt_steps(sizes, np.asarray(price.seconds), served)
        mean = steps.mean(context, served.prompts, found)
        paused = np.where(found.pauses, (served.turnaround_s or 0.0) / np.asarray(mean.seconds), 0.0)
        return cls(steps.draft_tokens, steps.tokens, price, mean, served.output_tokens / (found.steps + paused))

    def cells(self, batches: Sequence[int], context: float, base: _Row) -> list[Cell]:
        gain = self.tokens / base.tokens
        ratio = gain * np.asarray(base.step.seconds / self.step.seconds)
        bounds = _ratio_interval(self.step, base.step) if self is not base else (np.ones(len(batches)),) * 2
        low, high = (gain * bound for bound in bounds)
        parts = {part: np.broadcast_to(seconds, ratio.shape) for part, seconds in self.step.parts.items()}
        price = self.round
        seconds, round_low, round_high = (np.asarray(v) for v in (price.seconds, price.low_s, price.high_s))
        step_s = np.asarray(self.step.seconds)
        return [
            Cell(
                batch=batch, draft_tokens=self.draft_tokens, context_tokens=context, round_s=float(seconds[i]),
                round_low_s=float(round_low[i]), round_high_s=float(round_high[i]),
                tokens_per_round=self.tokens_per_round, step_s=float(step_s[i]),
                output_tokens_per_s=batch * float(self.tokens[i] / step_s[i]), speedup=float(ratio[i]),
                low=float(low[i]), high=float(high[i]), source=str(np.asarray(price.source)[i]),
                bound=str(np.asarray(price.bound)[i]), parts={part: float(v[i]) for part, v in parts.items()},
            )
            for i, batch in enumerate(batches)
        ]  # fmt: skip


def largest_batch(assembly: Assembly, context_tokens: float) -> int:
    """Sequences of a KV length that fit one replica's cache. Raises NoAnswer if not even one does."""
    blocks, each = assembly.num_kv_blocks, assembly.memory.layout.blocks_for(context_tokens)
    if blocks < each:
        room = assembly.longest_cached
        raise NoAnswer(
            f"a sequence of {context_tokens:.0f} tokens does not fit: the KV cache holds {room}; "
            "shorten the context or take a larger GPU"
        )
    return blocks // each


def default_batches(largest: int) -> list[int]:
    """1, 2, 4, ... and the largest itself."""
    powers = [2**i for i in range(largest.bit_length()) if 2**i <= largest]
    return powers if powers[-1] == largest else [*powers, largest]


def _ratio_interval(price: StepTime, base: StepTime) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """90 % bounds of base/price.

    What the machine, the host and prompts get wrong they get wrong in both steps, so it shifts the ratio only by the
    difference of its shares. Other kernel errors belong to a shape, and the two rounds run their kernels at different
    widths: they count as independent. (Tried: fully correlated within a class. Those intervals held for 14 % of the
    cells of a development model, these for 86 %.)
    """
    ratio = np.asarray(base.seconds / price.seconds)
    variance = np.zeros_like(ratio)
    for kind in sorted(base.errors_s.keys() | price.errors_s.keys()):  # a sum in one order
        one, other = base.errors_s.get(kind, 0.0) / base.seconds, price.errors_s.get(kind, 0.0) / price.seconds
        variance = variance + ((one - other) ** 2 if kind in (*SHARED_ERRORS, PROMPTS) else one**2 + other**2)
    half = Z90 * np.sqrt(variance)
    return ratio * np.maximum(0.0, 1 - half), ratio * (1 + half)
