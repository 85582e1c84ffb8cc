"""What one engine step does: run the target on what the scheduler chose, accept drafts, draft again.

Greedy decoding: a draft is right when it is the target's own most likely token, so that output with speculation is
output without it. With **imposed acceptance** the passes are as real, but seeded draws say how many drafts were right:
round times can then be measured at any acceptance with random weights. Knows no wall-clock arrivals; see ``run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from specsim.reference.drafters import Drafter, History, Integers, Progress, Stopwatch
from specsim.reference.kernels import greedy_tokens
from specsim.reference.transformer import Group, Transformer
from specsim.results import AcceptanceCounts
from specsim.scheduling.scheduler import Scheduled, Scheduler, Step
from specsim.scheduling.scheduler import Sequence as Running
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy import Decider, Drafts, Rounds
from specsim.speculation.policy.deciders import ByBatch


@dataclass(slots=True)
class StepTimes:
    """Where a step's wall time went; ``host_s`` is all that passes inside no target pass, draft pass or sampling."""

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


class Engine:
    """A target, perhaps a drafter, and the sequences in their KV slots.

    Slots in use are always the first ones: when a sequence leaves, the last slot's cache moves into its place, so that
    attention reads a batch's caches as one slice.
    """

    def __init__(
        self, target: Transformer, drafter: Drafter | None = None, draws: AcceptanceDraws | None = None
    ) -> None:
        self.target, self.drafter, self.draws = target, drafter, draws
        self.history = History(target.max_sequences, target.max_length)
        self.watch = Stopwatch(target.device)
        self._owners: list[int] = []  # request of each slot in use
        self._slots: dict[int, int] = {}  # slot of each request
        self._parked: dict[int, Integers] = {}  # known tokens of requests that hold no slot

    def add(self, request_id: int, prompt: Integers) -> None:
        """Take a prompt; the scheduler says when to compute it."""
        self._parked[request_id] = prompt

    def slot(self, request_id: int) -> int:
        """The request's slot, taken now if it has none."""
        if request_id not in self._slots:
            slot = len(self._owners)
            known = self._parked.pop(request_id)
            self._owners.append(request_id)
            self._slots[request_id] = slot
            self.history.tokens[slot, : len(known)] = known
            self.history.lengths[slot] = len(known)
            if self.drafter is not None:
                self.drafter.forget(slot)
        return self._slots[request_id]

    def leave(self, request_id: int) -> Integers:
        """Free the request's slot and return its known tokens."""
        slot = self._slots.pop(request_id)
        known = self.history.tokens[slot, : self.history.lengths[slot]].copy()
        last = len(self._owners) - 1
        owner = self._owners.pop()
        if slot != last:
            self._owners[slot], self._slots[owner] = owner, slot
            length = int(self.history.lengths[last])
            self.history.tokens[slot] = self.history.tokens[last]
            self.history.lengths[slot] = length
            self.target.move(last, slot, length)
            if self.drafter is not None:
                self.drafter.move(last, slot, length)
        return known

    def preempt(self, request_id: int) -> None:
        """Free the slot; the request comes back later with all it knew."""
        if request_id in self._slots:
            self._parked[request_id] = self.leave(request_id)

    def verify(self, shares: Sequence[Scheduled]) -> list[int]:
        """Run the target on a step's shares and commit what it emits; drafts accepted of each share."""
        slots = np.array([self.slot(share.sequence.request_id) for share in shares], dtype=np.int64)
        members: dict[tuple[int, int, bool], list[int]] = {}
        for index in np.argsort(slots).tolist():
            share = shares[index]
            members.setdefault((share.tokens, share.drafts, share.emits), []).append(index)
        starts = np.array([share.sequence.computed_tokens for share in shares], dtype=np.int64)
        groups = []
        for (width, drafts, emits), chosen in members.items():
            ours, begins = slots[chosen], starts[chosen]
            tokens = self.history.window(ours, begins, width).to(self.target.device)
            groups.append(Group(ours, tokens, begins, drafts + 1 if emits else 0))
        logits = self.watch.run("target", self.target.run, self.target.plan(groups))
        choices = self.watch.run("sample", greedy_tokens, logits).cpu().numpy()
        accepted, first = np.zeros(len(shares), dtype=np.int64), 0
        for group, chosen in zip(groups, members.values(), strict=True):
            if group.logit_rows:
                last = first + len(chosen) * group.logit_rows
                accepted[chosen] = self._accept(group, choices[first:last], [shares[i] for i in chosen])
                first = last
        result: list[int] = accepted.tolist()
        return result

    def _accept(self, group: Group, choices: Integers, shares: list[Scheduled]) -> Integers:
        rows = choices.reshape(len(shares), -1)  # [n, drafts + 1]
        drafted = rows.shape[1] - 1
        accepted = np.zeros(len(shares), dtype=np.int64)
        if drafted and self.draws is not None:
            requests = np.array([share.sequence.request_id for share in shares])
            positions = np.array([share.sequence.emitted_tokens for share in shares])
            accepted = self.draws.accepted(requests, positions, np.full(len(shares), drafted))
        elif drafted:
            right = self.history.drafts(group.slots, drafted) == rows[:, :-1]
            accepted = np.cumprod(right, axis=1).sum(axis=1)
        self.history.commit(group.slots, accepted, rows[np.arange(len(shares)), accepted])
        return accepted

    def lengths(self, decider: Decider, drafting: Sequence[Running], draft_tokens: int) -> Drafts:
        """What a decider lets each sequence draft of at most ``draft_tokens``.

        Confidences are imposed like acceptance. Raises InvalidInput where they are asked for and nothing imposes them.
        """
        requests, positions = _next_rounds(drafting)
        if decider.uniform or not drafting:
            return Drafts(np.full(len(drafting), draft_tokens), draft_tokens)
        confidences = None
        if decider.needs_confidences and self.draws is not None:
            confidences = self.draws.confidences(requests, positions, draft_tokens)
        return decider.lengths(requests, draft_tokens, confidences)

    def draft(self, drafting: Sequence[Running], wanted: Drafts, prefilling: Sequence[Running] = ()) -> list[int]:
        """Draft for sequences that have just emitted; how many tokens each one got."""
        if self.drafter is None or not wanted.computed or not (drafting or prefilling):
            return [0] * len(drafting)
        slots = np.array([self.slot(s.request_id) for s in drafting], dtype=np.int64)
        behind = Progress(
            np.array([self.slot(s.request_id) for s in prefilling], dtype=np.int64),
            np.array([s.computed_tokens for s in prefilling], dtype=np.int64),
        )
        ascending = np.sort(slots)
        drafts, counts = self.drafter.propose(self.history, ascending, wanted.computed, self.watch, behind)
        self.history.append_drafts(ascending, drafts)
        counts = counts[np.searchsorted(ascending, slots)]
        if self.draws is not None:  # then the law also says what is proposed; which tokens does not matter
            counts = self.draws.proposed(*_next_rounds(drafting), wanted.lengths)
        proposed: list[int] = np.minimum(counts, wanted.lengths).tolist()
        return proposed


def _next_rounds(drafting: Sequence[Running]) -> tuple[Integers, Integers]:
    """Request and output position of each sequence's next round."""
    requests = np.array([s.request_id for s in drafting], dtype=np.int64)
    return requests, np.array([s.emitted_tokens for s in drafting], dtype=np.int64)


def run_step(engine: Engine, scheduler: Scheduler, decider: Decider) -> Outcome:
    """Schedule, verify, accept, and draft as ``decider`` says."""
    engine.watch.reset()
    start_s = engine.watch.now_s()
    step = scheduler.schedule()
    kv_blocks, waiting = scheduler.pool.num_blocks - scheduler.pool.free_blocks, len(scheduler.waiting)
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
    for sequence, count in zip(drafting, engine.draft(drafting, wanted, prefilling), strict=True):
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
    engine: Engine, prompts: Sequence[Integers], output_tokens: Sequence[int], *, draft_tokens: int = 0,
    decider: Decider | None = None, scheduler: Scheduler | None = None,
) -> tuple[list[Integers], AcceptanceCounts]:  # fmt: skip
    """Decode all prompts to their lengths at once; outputs in order, and the acceptance record.

    ``draft_tokens`` always, or as a ``decider`` says, which never asks for more. Without a ``scheduler`` every prompt
    is computed whole in the first step.
    """
    if scheduler is None:
        room = sum(map(len, prompts)) + sum(output_tokens) + len(prompts) * (2 * draft_tokens + 16)
        limits = EngineLimits(max_num_seqs=len(prompts), max_num_batched_tokens=room)
        scheduler = Scheduler(limits, room, max_draft_tokens=draft_tokens)
    for number, (prompt, length) in enumerate(zip(prompts, output_tokens, strict=True)):
        scheduler.add(Running(number, len(prompt), length))
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
