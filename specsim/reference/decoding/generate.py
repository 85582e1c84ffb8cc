"""What one engine step does: run the target on what the scheduler chose, accept drafts, draft again.

Knows no wall-clock arrivals; see ``run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specsim.arrays import Integers
from specsim.reference.decoding.engine import Engine
from specsim.results import AcceptanceCounts
from specsim.scheduling.scheduler import Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits
from specsim.speculation.policy import Decider, Rounds
from specsim.speculation.policy.deciders import ByBatch

__all__ = ["Engine", "Outcome", "StepTimes", "generate", "run_step"]


@dataclass(slots=True)
class StepTimes:
    """Where a step's wall time went; ``host_s`` is all that passes inside no pass and no sampling.

    ``draft_s``: draft passes and the sampling of drafts. ``sample_s``: the target's sampling alone.
    """

    total_s: float
    target_s: float
    draft_s: float
    sample_s: float

    @property
    def host_s(self) -> float:
        return self.total_s - self.target_s - self.draft_s - self.sample_s


@dataclass(slots=True)
class Outcome:
    """One step that ran."""

    step: Step
    accepted: list[int]  # of each share
    emitted: list[int]
    kv_blocks: int  # in use while it ran
    waiting: int
    times: StepTimes
    finished: dict[int, Integers] = field(default_factory=dict)  # request id -> its output tokens


def run_step(engine: Engine, scheduler: Scheduler, decider: Decider) -> Outcome:
    """Schedule, verify, accept, and draft as ``decider`` says."""
    engine.watch.reset()
    start_s = engine.watch.now_s()
    step = scheduler.schedule()
    kv_blocks, waiting = scheduler.num_blocks - scheduler.free_blocks, scheduler.num_waiting
    for victim in step.preempted:
        engine.preempt(victim.request_id)
    accepted = engine.verify(step.scheduled) if step.scheduled else []
    emitted = scheduler.complete(step, accepted)
    finished = {
        s.sequence.request_id: engine.leave(s.sequence.request_id)[s.sequence.prompt_tokens : s.sequence.known_tokens]
        for s in step.scheduled
        if s.sequence.finished
    }
    _decide_and_draft(engine, scheduler, decider, step, accepted)
    seconds = engine.watch.seconds
    times = StepTimes(engine.watch.now_s() - start_s, seconds["target"], seconds["draft"], seconds["sample"])
    return Outcome(step, accepted, emitted, kv_blocks, waiting, times, finished)


def _decide_and_draft(
    engine: Engine, scheduler: Scheduler, decider: Decider, step: Step, accepted: Sequence[int]
) -> None:
    decider.observe(_shown(step, accepted))
    going_on = [share for share in step.scheduled if not share.sequence.finished]
    drafting = [share.sequence for share in going_on if share.emits]
    context = float(np.mean([s.known_tokens for s in drafting])) if drafting else 0.0
    draft_tokens = decider.draft_tokens(len(step.scheduled), context)
    if not draft_tokens:
        return
    wanted = engine.lengths(decider, drafting, draft_tokens)
    prefilling = [share.sequence for share in going_on if not share.emits]
    for sequence, count in zip(drafting, engine.draft(drafting, wanted, prefilling, decider), strict=True):
        scheduler.propose(sequence, count)


def _shown(step: Step, accepted: Sequence[int]) -> Rounds:
    """What the step verified."""
    rows = [
        (share.sequence.request_id, share.drafts, right)
        for share, right in zip(step.scheduled, accepted, strict=True)
        if share.drafts
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Rounds(columns[0], columns[1], columns[2], batch=len(step.scheduled))


def generate(
    engine: Engine,
    prompts: Sequence[Integers],
    output_tokens: Sequence[int],
    *,
    draft_tokens: int = 0,
    decider: Decider | None = None,
    scheduler: Scheduler | None = None,
) -> tuple[list[Integers], AcceptanceCounts]:
    """Decode all prompts to their lengths at once; outputs in order, and the acceptance record.

    ``draft_tokens`` always, or as a ``decider`` says, which never asks for more. Without a ``scheduler`` every prompt
    is computed whole in the first step.
    """
    if scheduler is None:
        room = sum(map(len, prompts)) + sum(output_tokens) + len(prompts) * (2 * draft_tokens + 16)
        limits = EngineLimits(max_num_seqs=len(prompts), max_num_batched_tokens=room)
        scheduler = Scheduler(limits, room, max_draft_tokens=draft_tokens)
    for number, (prompt, length) in enumerate(zip(prompts, output_tokens, strict=True)):
        scheduler.add(SequenceState(number, len(prompt), length))
        engine.add(number, prompt)
    outputs: dict[int, Integers] = {}
    counts = AcceptanceCounts()
    decider = decider or ByBatch([draft_tokens])
    while scheduler.has_work:
        outcome = run_step(engine, scheduler, decider)
        outputs |= outcome.finished
        for share, right in zip(outcome.step.scheduled, outcome.accepted, strict=True):
            if share.emits and not share.prefill:
                counts.add(share.drafts, right)
    return [outputs[number] for number in range(len(prompts))], counts
