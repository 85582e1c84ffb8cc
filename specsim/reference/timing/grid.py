"""What steady decoding costs on this machine at each batch size and draft length: the twin of the predicted map.

Acceptance is imposed, so a cell's rounds are real passes at any acceptance. No arrivals, no prefill, no queue; those
are ``run``'s.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from specsim.assembly import Assembly
from specsim.errors import InvalidInput
from specsim.reference.decoding.engine import Engine
from specsim.reference.decoding.generate import Outcome, StepTimes, run_step
from specsim.reference.decoding.models import Models, build_models, drafter
from specsim.reference.drafters import Drafter
from specsim.results import GridRow
from specsim.scenario import Scenario
from specsim.scheduling.scheduler import Scheduler, SequenceState
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import AcceptanceDraws, uniform
from specsim.speculation.policy import ConfidencePolicy, Decider
from specsim.speculation.policy.deciders import ByBatch

WARM_UP_ROUNDS, MIN_ROUNDS = 3, 8
WINDOW_TOKENS = 32  # contexts of a cell stay within this span, centred on the scenario's mean


def measure_grid(
    assembly: Assembly,
    *,
    batches: list[int],
    draft_lengths: list[int],
    repeats: int,
    seconds_per_cell: float,
    device: str = "cpu",
    done: Collection[tuple[int, int, int]] = (),
) -> Iterator[GridRow]:
    """Measure the map, one row at a time so that the caller can store each.

    Cells (repeat, batch, k) in ``done`` are skipped. Every repeat visits all cells in an order of its own: batches
    shuffled, and the draft lengths of each shuffled within it, so that one state of the machine compares lengths.
    Within one (repeat, batch) all k face the same acceptance draws. k = 0 runs without a drafter. Caches are filled
    with random text once; a sequence whose context leaves the window starts over at its beginning, where its cache
    is still valid.
    """
    scenario, context_tokens = assembly.scenario, assembly.context_tokens
    models, drafting = _filled_models(scenario, device, batch=max(batches), longest=max(draft_lengths))
    for repeat in range(repeats):
        seed = _seed(scenario.seed, repeat)
        for batch, k in _order(batches, draft_lengths, seed):
            if (repeat, batch, k) in done:
                continue
            engine = Engine(models.target)
            if k and scenario.speculation is not None:
                draws = AcceptanceDraws(scenario.speculation.acceptance, seed)
                engine = Engine(models.target, drafting, draws)
            decider = _decider(assembly, k)
            cell = SteadyBatch(
                engine, batch, draft_tokens=k, context_tokens=context_tokens, seed=seed, decider=decider
            )
            yield cell.measure(seconds_per_cell).row(repeat, batch, k)


def _order(batches: list[int], draft_lengths: list[int], seed: int) -> list[tuple[int, int]]:
    """Randomized blocks: which length is best at a batch size is a comparison within a block."""
    draws = np.random.default_rng(seed)
    shuffled = draws.permutation(batches).tolist()
    return [(batch, k) for batch in shuffled for k in draws.permutation(draft_lengths).tolist()]


def _decider(assembly: Assembly, k: int) -> Decider | None:
    """A confidence stop drafts at most k, as in the predicted map; under any other policy k is what is drafted."""
    policy = None if assembly.speculation is None else assembly.speculation.policy
    if not isinstance(policy, ConfidencePolicy):
        return None
    return assembly.decider(policy.model_copy(update={"choices": (0, k)}))


def _filled_models(scenario: Scenario, device: str, *, batch: int, longest: int) -> tuple[Models, Drafter | None]:
    if scenario.weights is not None:
        raise InvalidInput(
            "weights are given and a map imposes acceptance on random ones; serve the workload instead (no --grid), "
            "or set weights to null"
        )
    most = scenario.speculation.max_draft_tokens if scenario.speculation else 0
    if longest > most:
        raise InvalidInput(
            f"draft length {longest} exceeds the scenario's max_draft_tokens {most}; raise it or lower k"
        )
    length = room(scenario.mean_context_tokens(), longest)
    if scenario.speculation is not None:
        length += scenario.speculation.program.cache_places(longest) - longest
    models = build_models(scenario, device=device, max_sequences=batch, max_length=length)
    made = drafter(models, scenario)  # first, so that the states which it reads are filled too
    models.fill(batch, length, scenario.seed)
    return models, made


def room(context_tokens: float, draft_tokens: int) -> int:
    """Cache positions a sequence of a cell may reach."""
    return int(context_tokens) + WINDOW_TOKENS + 2 * draft_tokens + 2


def _seed(seed: int, repeat: int) -> int:
    return int(uniform(seed, np.array([repeat]), np.array([0]))[0] * 2**53)


@dataclass(slots=True)
class _Measured:
    """A cell's timed rounds."""

    times: list[StepTimes]
    contexts: list[float]  # mean known tokens before each round
    output_tokens: int

    def row(self, repeat: int, batch: int, draft_tokens: int) -> GridRow:
        def median(part: Callable[[StepTimes], float]) -> float:
            return float(np.median([part(t) for t in self.times]))

        totals = [t.total_s for t in self.times]
        p10, p90 = np.percentile(totals, [10, 90]).tolist()
        return GridRow(
            repeat=repeat,
            batch=batch,
            draft_tokens=draft_tokens,
            context_tokens=float(np.mean(self.contexts)),
            rounds=len(totals),
            elapsed_s=sum(totals),
            output_tokens=self.output_tokens,
            round_s=median(lambda t: t.total_s),
            round_p10_s=p10,
            round_p90_s=p90,
            target_s=median(lambda t: t.target_s),
            draft_s=median(lambda t: t.draft_s),
            sample_s=median(lambda t: t.sample_s),
            host_s=median(lambda t: t.host_s),
        )


class SteadyBatch:
    """``batch`` sequences that decode for ever around one context length, with k drafts unless a decider stops."""

    def __init__(
        self,
        engine: Engine,
        batch: int,
        *,
        draft_tokens: int,
        context_tokens: float,
        seed: int,
        decider: Decider | None = None,
    ) -> None:
        self._engine, self._decider = engine, decider or ByBatch([draft_tokens])
        self._low = max(1, int(context_tokens) - WINDOW_TOKENS // 2)
        limits = EngineLimits(max_num_seqs=batch, max_num_batched_tokens=batch * (draft_tokens + 1))
        blocks = 1 + batch * (engine.target.max_length // limits.block_size + 1)
        self._scheduler = Scheduler(limits, blocks, max_draft_tokens=draft_tokens)
        generator = np.random.default_rng(seed)
        for number in range(batch):
            context = self._low + number * WINDOW_TOKENS // batch
            engine.add(number, generator.integers(0, engine.target.spec.vocab_size, context))
            slot = engine.slot(number)
            # The caches hold other random text than this prompt, which is as good for timing.
            if engine.drafter is not None:
                engine.drafter.resume(slot, context - 1)
            self._scheduler.resume(SequenceState(number, context, 2**62, computed_tokens=context - 1))

    def measure(self, seconds: float) -> _Measured:
        """Rounds for about ``seconds``, at least MIN_ROUNDS, after WARM_UP_ROUNDS that are not timed."""
        for _ in range(WARM_UP_ROUNDS):
            self.round()
        gc.collect()
        measured = _Measured([], [], 0)
        spent_s = 0.0
        while spent_s < seconds or len(measured.times) < MIN_ROUNDS:
            captured = self.passes_captured
            outcome = self.round()
            if self.passes_captured > captured:
                continue
            emitted = sum(outcome.emitted)
            known = sum(s.known_tokens for s in self._scheduler.running) - emitted
            measured.contexts.append(known / len(self._scheduler.running))
            measured.times.append(outcome.times)
            measured.output_tokens += emitted
            spent_s += outcome.times.total_s
        return measured

    @property
    def passes_captured(self) -> int:
        """Graphs captured so far; a serving engine does that before the first request."""
        return self._engine.passes_captured()

    def round(self) -> Outcome:
        """One step of all sequences."""
        for sequence in self._scheduler.running:
            if sequence.known_tokens >= self._low + WINDOW_TOKENS:
                self._start_over(sequence)
        return run_step(self._engine, self._scheduler, self._decider)

    def _start_over(self, sequence: SequenceState) -> None:
        """Back by a window. The prompt shrinks instead of the output, so that no acceptance draw is used twice."""
        slot = self._engine.slot(sequence.request_id)
        sequence.prompt_tokens -= WINDOW_TOKENS
        sequence.computed_tokens -= WINDOW_TOKENS
        self._engine.history.lengths[slot] -= WINDOW_TOKENS
        if self._engine.drafter is not None:
            self._engine.drafter.resume(slot, sequence.computed_tokens)
