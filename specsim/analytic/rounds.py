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

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specsim.analytic.acceptance_error import AcceptanceError
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.analytic.steps import PROMPTS, ServedLoad, Steps
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
    sample: Callable[[int], int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SpeedupMap:
    """The map of a scenario: batches 1, 2, 4, ... up to ``max_num_seqs``, draft lengths up to
    ``max_draft_tokens`` that the program can run; 0 alone without a drafter. ``draft_lengths``: of these, some.

    ``decode_only``: prompts cost nothing; so also at a given ``context_tokens``, else the workload's mean, and where
    prefill replicas compute them: the map is then a decode replica's. ``acceptance_error``: whether bounds hold what
    acceptance leaves open. ``sample``: by batch size, on how many requests its speed-ups will be measured, whose luck
    the bounds then hold too; None: on many. ``progress`` hears (done, all) draft lengths. Raises NoAnswer if the
    models do not fit, InvalidInput for a batch below 1.
    """
    scenario = assembly.scenario
    decode_only = decode_only or scenario.deployment.disaggregation is not None
    served = None if decode_only or context_tokens is not None else served_by(assembly)
    context = assembly.context_tokens if context_tokens is None else context_tokens
    if not context >= 1:
        raise InvalidInput(f"a context of {context:g} tokens; a decoding sequence has at least 1")
    sizes = _sizes(assembly, batches, context)
    lengths = assembly.choices() if draft_lengths is None else tuple(draft_lengths)

    rows = []
    off = AcceptanceError.of(assembly, sizes, sample) if acceptance_error else None
    for row in _rows(assembly, sizes, lengths, context, served, off):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(lengths))
    cells = [row[index] for index in range(len(sizes)) for row in rows]
    origin = None if scenario.speculation is None else scenario.speculation.acceptance_origin
    return SpeedupMap(tuple(cells), assembly.price_name, origin, served)


def _sizes(assembly: Assembly, batches: Sequence[int] | None, context: float) -> list[int]:
    """Batch sizes in order, each once: those asked for, which must fit, else the default ones that do."""
    largest = largest_batch(assembly, context)
    if batches is None:
        return default_batches(min(assembly.scenario.engine.max_num_seqs, largest))
    if not batches or min(batches) < 1:
        raise InvalidInput(f"batches {list(batches)} must be a non-empty list of sizes of at least 1")
    if max(batches) > largest:
        raise NoAnswer(
            f"batch {max(batches)} does not fit: the KV cache holds {largest} sequences of {context:.0f} tokens; "
            "ask for smaller batches or a shorter context"
        )
    return sorted(set(batches))


SAMPLE = 1024  # requests looked at to tell how lengths vary


def served_by(assembly: Assembly) -> ServedLoad:
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
    return ServedLoad(prompts * (prompt / prompts.mean()), output, equal and together, turnaround_s)


def _rows(
    assembly: Assembly,
    batches: Sequence[int],
    lengths: Sequence[int],
    context: float,
    served: ServedLoad | None,
    off: AcceptanceError | None,
) -> Iterator[list[Cell]]:
    """The cells of each draft length, whose prices are made for every batch size and acceptance law at once."""
    sizes = np.array(batches, dtype=np.float64)
    laws = () if assembly.speculation is None or off is None else (assembly.speculation.acceptance, *off.laws)
    alone = _Row.of(Steps(assembly, 0, drafter=False), sizes, context, served)
    for k in lengths:
        steps = Steps(assembly, k, laws=laws if k else ())
        row = _Row.of(steps, sizes, context, served) if k or steps.drafter else alone
        yield row.cells(batches, context, alone, off)


@dataclass(frozen=True, slots=True)
class _Row:
    """One draft length over batch sizes [batches].

    ``tokens``: that a step commits a request, prompts' steps too; and ``step_s``, [laws, batches]: of the scenario's
    acceptance law first, then of its alternatives, if any. ``step``: of the first.
    """

    draft_tokens: int
    tokens_per_round: float
    round: StepTime
    step: StepTime
    tokens: Floats
    step_s: Floats

    @classmethod
    def of(cls, steps: Steps, sizes: Floats, context: float, served: ServedLoad | None) -> _Row:
        price = step = steps.round(sizes, context)
        if served is None:
            tokens = np.atleast_2d(steps.tokens * np.ones_like(sizes))
            step_s = np.broadcast_to(np.asarray(price.seconds), tokens.shape)
        else:
            found = steps.prompt_steps(sizes, np.asarray(price.seconds), served)
            running = price if served.turnaround_s is None else steps.round(found.running, context)
            step = steps.mean(running, context, served.prompts, found)
            step_s = np.atleast_2d(np.asarray(step.seconds))
            paused = np.where(found.pauses, (served.turnaround_s or 0.0) / step_s, 0.0)
            tokens = served.output_tokens / (found.steps + paused)
        return cls(steps.draft_tokens, float(np.ravel(steps.tokens)[0]), _own(price), _own(step), tokens, step_s)

    def cells(self, batches: Sequence[int], context: float, base: _Row, off: AcceptanceError | None) -> list[Cell]:
        gains = self.tokens / base.tokens
        ratios = gains * (base.step_s / self.step_s)
        bounds = _ratio_interval(self.step, base.step) if self is not base else (np.ones(len(batches)),) * 2
        low, high = gains[0] * bounds[0], gains[0] * bounds[1]
        if off is not None and len(ratios) > 1:
            low, high = off.widened(ratios, low, high)
        parts = {part: np.broadcast_to(seconds, ratios[0].shape) for part, seconds in self.step.parts.items()}
        price = self.round
        seconds, round_low, round_high = (np.asarray(v) for v in (price.seconds, price.low_s, price.high_s))
        return [
            Cell(
                batch=batch,
                draft_tokens=self.draft_tokens,
                context_tokens=context,
                round_s=float(seconds[i]),
                round_low_s=float(round_low[i]),
                round_high_s=float(round_high[i]),
                tokens_per_round=self.tokens_per_round,
                step_s=float(self.step_s[0, i]),
                output_tokens_per_s=batch * float(self.tokens[0, i] / self.step_s[0, i]),
                speedup=float(ratios[0, i]),
                low=float(low[i]),
                high=float(high[i]),
                source=str(np.asarray(price.source)[i]),
                bound=str(np.asarray(price.bound)[i]),
                parts={part: float(v[i]) for part, v in parts.items()},
            )
            for i, batch in enumerate(batches)
        ]


def _own(step: StepTime) -> StepTime:
    """Under the scenario's own law, where alternatives were priced too."""
    return step.alternative(0) if np.ndim(step.seconds) > 1 else step


def largest_batch(assembly: Assembly, context_tokens: float) -> int:
    """Sequences of a KV length that fit one replica's cache.

    Raises NoAnswer if not even one does, InvalidInput for a length without an end.
    """
    if math.isinf(context_tokens):
        raise InvalidInput(f"a context of {context_tokens:g} tokens; give a length that has an end")
    blocks, each = assembly.num_kv_blocks, assembly.memory.layout.blocks_for(context_tokens)
    if blocks < each:
        room = assembly.longest_cached
        raise NoAnswer(
            f"a sequence of {round(context_tokens):.12g} tokens does not fit: the KV cache holds {room}; "
            "shorten the context or take a larger GPU"
        )
    return blocks // each


def default_batches(largest: int) -> list[int]:
    """1, 2, 4, ... and the largest itself."""
    powers = [2**i for i in range(largest.bit_length()) if 2**i <= largest]
    return powers if powers[-1] == largest else [*powers, largest]


def _ratio_interval(price: StepTime, base: StepTime) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """90 % bounds of base/price, as much above it as below by ratio: a quotient of times is never below 0.

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
    factor = np.exp(Z90 * np.sqrt(variance))
    return ratio / factor, ratio * factor
