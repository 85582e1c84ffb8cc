"""The batch × k map: what each draft length does at each batch size, which is best, and up to which batch.

A round at batch B and draft length k commits E[tokens] = 1 + Σ r_i a sequence and takes the round's price, so

    output tokens/s = B · E[tokens] / round seconds        speed-up = the same ÷ tokens/s at k = 0 with no drafter.

Under a confidence stop k is the most that a sequence drafts. Steady decoding at one context length: no prefill, no
queueing, no end of requests. Those are the simulator's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specsim.analytic.acceptance_error import unsure_of_acceptance
from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput, NoAnswer
from specsim.scenario import Speculation
from specsim.speculation.acceptance import AcceptanceLaw, ConfidenceAcceptance, StoppedRound
from specsim.speculation.acceptance.origin import Origin
from specsim.speculation.policy import ConfidencePolicy
from specsim.speculation.round import SHARED_ERRORS, StepCost
from specsim.speculation.stopping import stopped_round
from specsim.surfaces.estimates import Z90


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the map. ``low`` and ``high`` bound the speed-up's 90 % interval, acceptance's own error in it."""

    batch: int
    draft_tokens: int
    context_tokens: float
    round_s: float
    round_low_s: float
    round_high_s: float
    tokens_per_round: float
    output_tokens_per_s: float
    speedup: float
    low: float
    high: float
    source: str
    bound: str  # what most of the round waits for: memory, compute, host or communication
    parts: dict[str, float]  # seconds of the round


@dataclass(frozen=True, slots=True)
class Best:
    """The draft length with the highest throughput at a batch size; 0 is off."""

    batch: int
    draft_tokens: int
    speedup: float


@dataclass(frozen=True, slots=True)
class SpeedupMap:
    """Cells by batch, then draft length, with the decision drawn from them."""

    cells: tuple[Cell, ...]
    price_name: str  # the profile's name, or roofline
    acceptance: Origin  # where the acceptance law is from

    def best(self) -> tuple[Best, ...]:
        """The best draft length of each batch size; the shorter one wins a tie."""
        batches = sorted({cell.batch for cell in self.cells})
        return tuple(self._best_of(batch) for batch in batches)

    def _best_of(self, batch: int) -> Best:
        row = [cell for cell in self.cells if cell.batch == batch]
        top = max(row, key=lambda cell: (cell.output_tokens_per_s, -cell.draft_tokens))
        return Best(batch, top.draft_tokens, top.speedup)

    def break_even_batch(self) -> int | None:
        """The largest batch whose best speed-up exceeds 1; None if there is none."""
        winning = [best.batch for best in self.best() if best.draft_tokens > 0 and best.speedup > 1.0]
        return max(winning, default=None)

    def never_breaks_even(self) -> bool:
        """Whether speculation still pays at the largest batch of the map."""
        return self.break_even_batch() == max(cell.batch for cell in self.cells)

    def cell(self, batch: int, draft_tokens: int) -> Cell:
        """One cell; raises KeyError if the map does not hold it."""
        for cell in self.cells:
            if (cell.batch, cell.draft_tokens) == (batch, draft_tokens):
                return cell
        raise KeyError((batch, draft_tokens))

    def as_json(self) -> dict[str, Any]:
        """The document that ``specsim predict --json`` prints."""
        keys = (
            "batch", "draft_tokens", "context_tokens", "round_s", "round_low_s", "round_high_s", "tokens_per_round",
            "output_tokens_per_s", "speedup", "low", "high", "source", "bound", "parts",
        )  # fmt: skip
        return {
            "grid": [{key: getattr(cell, key) for key in keys} for cell in self.cells],
            "best": [{"batch": b.batch, "draft_tokens": b.draft_tokens, "speedup": b.speedup} for b in self.best()],
            "break_even_batch": self.break_even_batch(),
            "never_breaks_even": self.never_breaks_even(),
            "prices": self.price_name,
            "acceptance": self.acceptance.model_dump(),
        }


def speedup_map(
    assembly: Assembly, *, batches: Sequence[int] | None = None, context_tokens: float | None = None
) -> SpeedupMap:
    """The map of a scenario: batches 1, 2, 4, ... up to ``max_num_seqs``, draft lengths up to
    ``max_draft_tokens`` that the program can run.

    ``context_tokens`` defaults to the workload's mean. Raises NoAnswer if the models do not fit, InvalidInput without
    a drafter or for a batch below 1.
    """
    scenario = assembly.scenario
    if scenario.speculation is None:
        raise InvalidInput(f"scenario {scenario.name!r} has no speculation, so there is nothing to map; add a drafter")
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
    cells = unsure_of_acceptance(assembly, lambda asked: _cells(asked, sizes, context))
    return SpeedupMap(tuple(cells), assembly.price_name, scenario.speculation.acceptance_origin)


def _cells(assembly: Assembly, batches: Sequence[int], context: float) -> list[Cell]:
    """All cells, each draft length's prices for every batch size at once."""
    speculation = assembly.speculation
    assert speculation is not None
    drafting, plain = assembly.cost, assembly.plain.cost
    sizes = np.array(batches, dtype=np.float64)
    base = plain.decode_round(sizes, 0, context)
    by_length = []
    changed = speculation.program.modifier is not None  # the target's own pass, also without drafts
    for k in assembly.choices():
        price, tokens = base, speculation.acceptance.expected_tokens(k)
        stopped = _stopped(speculation, k) if k else None
        if stopped is not None:
            price = stopped_round(drafting, sizes, context, stopped, verifies=speculation.program.verifies)
            tokens = stopped.tokens
        elif k or changed:
            price = _round(drafting, sizes, k, context, speculation.acceptance)
        by_length.append(_row(batches, k, context, price, base, tokens))
    return [row[index] for index in range(len(batches)) for row in by_length]


def _stopped(speculation: Speculation, draft_tokens: int) -> StoppedRound | None:
    """What a confidence stop makes of rounds; None where nothing stops them, or the threshold moves."""
    policy, law = speculation.policy, speculation.acceptance
    if not isinstance(policy, ConfidencePolicy) or policy.adapt is not None:
        return None
    if not isinstance(law, ConfidenceAcceptance):
        return None
    return law.stopped(draft_tokens, policy.threshold, keep_last=policy.keep_last, foreseen=policy.foreseen)


def _round(cost: StepCost, sizes: Floats, k: int, context: float, law: AcceptanceLaw) -> StepTime:
    """A steady round. Where a law lets only some rounds propose anything, the other sequences decode one token."""
    share = law.expected_drafted(k) / k if k else 1.0
    if share >= 1.0:
        return cost.decode_round(sizes, k, context)
    proposing = share * sizes
    groups = [Group(proposing, k + 1, context + k, k + 1), Group(sizes - proposing, 1, context)]
    return cost.step(groups, drafting=sizes, draft_tokens=k, drafting_kv_tokens=context)


def largest_batch(assembly: Assembly, context_tokens: float) -> int:
    """Sequences of a KV length that fit one replica's cache. Raises NoAnswer if not even one does."""
    blocks, block_size = assembly.num_kv_blocks, assembly.limits.block_size
    each = math.ceil(context_tokens / block_size)
    if blocks < each:
        room = blocks * block_size
        raise NoAnswer(
            f"a sequence of {context_tokens:.0f} tokens does not fit: the KV cache holds {room}; "
            "shorten the context or take a larger GPU"
        )
    return blocks // each


def default_batches(largest: int) -> list[int]:
    """1, 2, 4, ... and the largest itself."""
    powers = [2**i for i in range(largest.bit_length()) if 2**i <= largest]
    return powers if powers[-1] == largest else [*powers, largest]


def _row(batches: Sequence[int], k: int, context: float, price: StepTime, base: StepTime, tokens: float) -> list[Cell]:
    """Cells of one draft length, from arrays over the batch sizes."""
    ratio = np.asarray(base.seconds / price.seconds)
    low, high = _ratio_interval(price, base) if price is not base else (np.ones(len(batches)), np.ones(len(batches)))
    arrays = {part: np.broadcast_to(seconds, ratio.shape) for part, seconds in price.parts.items()}
    seconds, round_low, round_high = (np.asarray(v) for v in (price.seconds, price.low_s, price.high_s))
    return [
        Cell(
            batch=batch, draft_tokens=k, context_tokens=context, round_s=float(seconds[i]),
            round_low_s=float(round_low[i]), round_high_s=float(round_high[i]), tokens_per_round=tokens,
            output_tokens_per_s=batch * tokens / float(seconds[i]), speedup=tokens * float(ratio[i]),
            low=float(low[i]) * tokens, high=float(high[i]) * tokens, source=str(np.asarray(price.source)[i]),
            bound=str(np.asarray(price.bound)[i]), parts={part: float(v[i]) for part, v in arrays.items()},
        )
        for i, batch in enumerate(batches)
    ]  # fmt: skip


def _ratio_interval(price: StepTime, base: StepTime) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """90 % bounds of base/price.

    What the machine and the host get wrong they get wrong in both rounds, so it shifts the ratio only by the
    difference of its shares. Kernel errors belong to a shape, and the two rounds run their kernels at different
    widths: they count as independent. (Tried: fully correlated within a class. Those intervals held for 14 % of the
    cells of a development model, these for 86 %.)
    """
    ratio = np.asarray(base.seconds / price.seconds)
    variance = np.zeros_like(ratio)
    for kind in base.errors_s.keys() | price.errors_s.keys():
        one, other = base.errors_s.get(kind, 0.0) / base.seconds, price.errors_s.get(kind, 0.0) / price.seconds
        variance = variance + ((one - other) ** 2 if kind in SHARED_ERRORS else one**2 + other**2)
    half = Z90 * np.sqrt(variance)
    return ratio * np.maximum(0.0, 1 - half), ratio * (1 + half)
