"""Sequences in KV slots, and the two things that a step does with them: verify drafts, draft again.

A draft is right when it is the target's own choice, so that output with speculation is output without it: the most
likely token, or with a ``Sampler`` a draw that keeps the target's distribution. With **imposed acceptance** the passes
are as real, but seeded draws say how many drafts were right: round times can then be measured at any acceptance with
random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from specsim.arrays import Integers
from specsim.reference.decoding.sampling import Sampler
from specsim.reference.drafters import Drafter, History, Prefills, Stopwatch
from specsim.reference.drafters.branching import verified, verify_branches
from specsim.reference.network.kernels import greedy_tokens
from specsim.reference.network.transformer import PassPlan, TokenGroup, Transformer
from specsim.scheduling.scheduler import Scheduled, SequenceState
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy import Decider, Drafts


class Engine:
    """A target, perhaps a drafter, and the sequences in their KV slots.

    Slots in use are always the first ones: when a sequence leaves, the last slot's cache moves into its place, so that
    attention reads a batch's caches as one slice.
    """

    def __init__(
        self,
        target: Transformer,
        drafter: Drafter | None = None,
        draws: AcceptanceDraws | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        self.target, self.drafter, self.draws, self.sampler = target, drafter, draws, sampler
        if drafter is not None and draws is not None:
            drafter.impose()
        self.history = History(target.max_sequences, target.max_length)
        self.watch = Stopwatch(target.device)
        self._owners: list[int] = []  # request of each slot in use
        self._slots: dict[int, int] = {}  # slot of each request
        self._parked: dict[int, Integers] = {}  # known tokens of requests that hold no slot
        self._trees: dict[int, tuple[int, ...]] = {}  # parents of each node, by drafts
        self._grown: dict[int, tuple[int, ...]] = {}  # the same by request, where each has a tree of its own
        self._drawn_from: dict[int, Tensor] = {}  # probabilities [k, vocab] of each request's sampled drafts

    def passes_captured(self) -> int:
        """How many graphs the target and what shares its capture have made so far."""
        return 0 if self.target.graphs is None else self.target.graphs.capture.captured

    # -- slots ------------------------------------------------------------------------------------------------------

    def add(self, request_id: int, prompt: Integers) -> None:
        """Take a prompt; the scheduler says when to compute it."""
        self._parked[request_id] = prompt

    def slot(self, request_id: int) -> int:
        """The request's slot, taken now if it has none."""
        if request_id not in self._slots:
            slot = len(self._owners)
            self._owners.append(request_id)
            self._slots[request_id] = slot
            self.history.begin(slot, self._parked.pop(request_id))
            if self.drafter is not None:
                self.drafter.forget(slot)
        return self._slots[request_id]

    def leave(self, request_id: int) -> Integers:
        """Free the request's slot and return its known tokens."""
        slot = self._slots.pop(request_id)
        known = self.history.tokens[slot, : self.history.lengths[slot]].copy()
        last = len(self._owners) - 1
        owner = self._owners.pop()
        self._drawn_from.pop(request_id, None)
        self._grown.pop(request_id, None)
        if slot != last:
            self._owners[slot], self._slots[owner] = owner, slot
            self.history.move(last, slot)
            length = int(self.history.lengths[last] + self.history.drafted[last])
            self.target.move(last, slot, length)
            if self.drafter is not None:
                self.drafter.move(last, slot, length)
        return known

    def preempt(self, request_id: int) -> None:
        """Free the slot; the request comes back later with all it knew."""
        if request_id in self._slots:
            self._parked[request_id] = self.leave(request_id)

    # -- verification -----------------------------------------------------------------------------------------------

    def verify(self, shares: Sequence[Scheduled]) -> list[int]:
        """Run the target on a step's shares and commit what it emits; drafts accepted of each share."""
        slots = np.array([self.slot(share.sequence.request_id) for share in shares], dtype=np.int64)
        members: dict[tuple[int, tuple[int, ...], bool], list[int]] = {}
        for index in np.argsort(slots).tolist():
            share = shares[index]
            members.setdefault((share.tokens, self._parents(slots[index], share), share.emits), []).append(index)
        starts = np.array([share.sequence.computed_tokens for share in shares], dtype=np.int64)
        groups = []
        for (width, parents, emits), chosen in members.items():
            ours, begins = slots[chosen], starts[chosen]
            tokens = self.history.window(ours, begins, width).to(self.target.device)
            branches = verify_branches(width - len(parents), parents)
            groups.append(TokenGroup(ours, tokens, begins, len(parents) + 1 if emits else 0, branches))
        riders = [] if self.drafter is None else self.drafter.riders(groups, self.target.max_length)
        logits = self.watch.run("target", self._compute, groups + riders)
        choices = logits if self.sampler is not None else self.watch.run("sample", greedy_tokens, logits).cpu()
        accepted, first = np.zeros(len(shares), dtype=np.int64), 0
        for group, ((_, parents, _), chosen) in zip(groups, members.items(), strict=True):
            if group.logit_rows:
                last = first + len(chosen) * group.logit_rows
                rows = choices[first:last].view(len(chosen), group.logit_rows, *choices.shape[1:])
                accepted[chosen] = self._accept(group.slots, parents, rows, [shares[i] for i in chosen])
                first = last
        if self.drafter is not None and riders:
            rest = choices[first:]
            self.drafter.learn((greedy_tokens(rest).cpu() if rest.dim() > 1 else rest).numpy())
        result: list[int] = accepted.tolist()
        return result

    def _parents(self, slot: int, share: Scheduled) -> tuple[int, ...]:
        """The tree of a share's drafts: the first of the nodes that were drafted, as many as the budget left."""
        if not share.drafts or self.drafter is None:
            return ()
        if share.sequence.request_id in self._grown:
            return self._grown[share.sequence.request_id][: share.drafts]
        drafted = int(self.history.drafted[slot])
        if drafted not in self._trees:
            self._trees[drafted] = self.drafter.tree(drafted).parents
        return self._trees[drafted][: share.drafts]

    def _compute(self, groups: list[TokenGroup]) -> Tensor:
        """The target pass, from the layer on up to which the drafter has run it."""
        layer = 0 if self.drafter is None else self.drafter.from_layer
        if self.drafter is not None and layer:
            below = self.drafter.lacking(groups)
            if below:
                self.target.compute(("below", layer), below, partial(self._run_below, layer))
        return self.target.forward(groups, layer)

    def _run_below(self, layer: int, plan: PassPlan) -> tuple[Tensor, ...]:
        self.target.advance(self.target.embed(plan.tokens), plan, 0, layer)
        return ()

    def _accept(self, slots: Integers, parents: tuple[int, ...], rows: Tensor, shares: list[Scheduled]) -> Integers:
        """Commit the accepted path of each share and what follows it; ``rows`` are choices, or logits to draw from."""
        tree, each = verified(parents), np.arange(len(shares))
        if self.sampler is not None:
            ends, following = self._sample(slots, parents, rows, shares)
        else:
            choices = rows.numpy()
            if parents and self.draws is not None:
                ends = tree.first[np.minimum(self._drawn(shares), len(tree.first) - 1)]
            else:
                ends = tree.longest(self.history.drafts(slots, len(parents)), choices)
            following = choices[each, ends]
        accepted, paths = tree.accepted[ends], tree.paths[ends]
        self._close_gaps(slots, paths, accepted)
        self.history.commit(slots, paths, accepted, following)
        return accepted

    def _drawn(self, shares: list[Scheduled]) -> Integers:
        """What imposed acceptance says of each share; more than a trimmed tree is deep counts as all its depth."""
        requests = np.array([share.sequence.request_id for share in shares])
        positions = np.array([share.sequence.emitted_tokens for share in shares])
        assert self.draws is not None
        return self.draws.accepted(requests, positions, np.array([share.drafts for share in shares]))

    def _sample(
        self, slots: Integers, parents: tuple[int, ...], logits: Tensor, shares: list[Scheduled]
    ) -> tuple[Integers, Integers]:
        k = len(parents)
        drafts = torch.from_numpy(self.history.drafts(slots, k)).to(logits.device)
        laws = [self._drawn_from.get(share.sequence.request_id) for share in shares]
        drawn = torch.stack([law[:k] for law in laws if law is not None]) if k and laws[0] is not None else None
        ends, following = self.watch.run("sample", self._verify, logits, drafts, drawn, parents)
        return ends.cpu().numpy(), following.cpu().numpy()

    def _verify(
        self, logits: Tensor, drafts: Tensor, drawn: Tensor | None, parents: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        assert self.sampler is not None
        return self.sampler.verify(self.sampler.probabilities(logits), drafts, drawn, parents)

    def _close_gaps(self, slots: Integers, paths: Integers, accepted: Integers) -> None:
        """Move the cached places of each accepted path behind the known tokens; the rest is overwritten later."""
        ahead = np.arange(paths.shape[1])
        sequence, step = np.nonzero((paths != ahead) & (ahead < accepted[:, None]))
        if len(sequence):
            begins = self.history.lengths[slots[sequence]]
            self.target.relocate(slots[sequence], begins + paths[sequence, step], begins + step)

    # -- drafting ---------------------------------------------------------------------------------------------------

    def lengths(self, decider: Decider, drafting: Sequence[SequenceState], draft_tokens: int) -> Drafts:
        """What a decider lets each sequence draft of at most ``draft_tokens``.

        Confidences are imposed like acceptance, or the drafter's own, which only drafting shows: then all of them,
        and ``draft`` asks the decider. Raises InvalidInput where they are asked for and nothing gives any.
        """
        requests, positions = _next_rounds(drafting)
        if decider.uniform or not drafting or self._judges(decider, draft_tokens):
            return Drafts(np.full(len(drafting), draft_tokens), draft_tokens)
        confidences = None
        if decider.needs_confidences and self.draws is not None:
            confidences = self.draws.confidences(requests, positions, draft_tokens)
        return decider.lengths(requests, draft_tokens, confidences)

    def _judges(self, decider: Decider, draft_tokens: int) -> bool:
        """Whether a decider looks at the confidences of drafts that are really made."""
        if not decider.needs_confidences or self.draws is not None or self.drafter is None:
            return False
        return self.drafter.confident and verify_branches(1, self.drafter.tree(draft_tokens).parents) is None

    def draft(
        self,
        drafting: Sequence[SequenceState],
        wanted: Drafts,
        prefilling: Sequence[SequenceState] = (),
        decider: Decider | None = None,
    ) -> list[int]:
        """Draft for sequences that have just emitted; how many tokens each one got."""
        if self.drafter is None or not wanted.computed or not (drafting or prefilling):
            return [0] * len(drafting)
        slots = np.array([self.slot(s.request_id) for s in drafting], dtype=np.int64)
        behind = Prefills(
            np.array([self.slot(s.request_id) for s in prefilling], dtype=np.int64),
            np.array([s.computed_tokens for s in prefilling], dtype=np.int64),
        )
        by_slot = np.argsort(slots)
        judge = None
        if decider is not None and self._judges(decider, wanted.computed):
            requests = np.array([drafting[index].request_id for index in by_slot.tolist()], dtype=np.int64)
            judge = partial(decider.lengths, requests, wanted.computed)
        proposal = self.drafter.propose(self.history, slots[by_slot], wanted.computed, self.watch, behind, judge)
        self.history.append_drafts(slots[by_slot], proposal.drafts)
        for row, index in enumerate(by_slot.tolist()):
            if proposal.probabilities is not None:
                self._drawn_from[drafting[index].request_id] = proposal.probabilities[row]
            if proposal.trees is not None:
                self._grown[drafting[index].request_id] = proposal.trees[row]
        counts = proposal.counts[np.argsort(by_slot)]
        if self.draws is not None:  # then the law also says what is proposed; which tokens does not matter
            counts = self.draws.proposed(*_next_rounds(drafting), wanted.lengths)
        proposed: list[int] = np.minimum(counts, wanted.lengths).tolist()
        return proposed


def _next_rounds(drafting: Sequence[SequenceState]) -> tuple[Integers, Integers]:
    """Request and output position of each sequence's next round."""
    requests = np.array([s.request_id for s in drafting], dtype=np.int64)
    return requests, np.array([s.emitted_tokens for s in drafting], dtype=np.int64)
