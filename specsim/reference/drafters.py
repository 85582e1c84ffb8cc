"""Which tokens are proposed next: by a small model that decodes ahead, or copied from the sequence's own past.

Drafters see the tokens known of each slot and never the target. How many to draft, and whether they were right, is
decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specsim.reference.kernels import greedy_tokens
from specsim.reference.transformer import Group, Transformer

Integers = NDArray[np.int64]
Result = TypeVar("Result")


class History:
    """The tokens known of each slot, and behind them the drafts to verify."""

    def __init__(self, max_sequences: int, max_length: int) -> None:
        self.tokens: Integers = np.zeros((max_sequences, max_length), dtype=np.int64)
        self.lengths: Integers = np.zeros(max_sequences, dtype=np.int64)  # known tokens

    def window(self, slots: Integers, starts: Integers, width: int) -> Tensor:
        """``width`` tokens of each slot from its start on; shape [n, width]."""
        return torch.from_numpy(self.tokens[slots[:, None], starts[:, None] + np.arange(width)])

    def drafts(self, slots: Integers, width: int) -> Integers:
        """The first ``width`` drafts of each slot; shape [n, width]."""
        drafted: Integers = self.tokens[slots[:, None], self.lengths[slots, None] + np.arange(width)]
        return drafted

    def commit(self, slots: Integers, accepted: Integers, following: Integers) -> None:
        """Keep ``accepted`` drafts of each slot and add the token that follows them."""
        ends = self.lengths[slots] + accepted
        self.tokens[slots, ends] = following
        self.lengths[slots] = ends + 1

    def append_drafts(self, slots: Integers, drafts: Integers) -> None:
        """Write drafts [n, k] behind the known tokens."""
        self.tokens[slots[:, None], self.lengths[slots, None] + np.arange(drafts.shape[1])] = drafts


class Stopwatch:
    """Seconds spent in parts of the current step; on CUDA the device is idle at both ends of each."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.seconds = {"target": 0.0, "draft": 0.0, "sample": 0.0}

    def reset(self) -> None:
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    def now_s(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def run(self, part: str, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function and book its time."""
        start_s = self.now_s()
        result = function(*arguments)
        self.seconds[part] += self.now_s() - start_s
        return result


@dataclass(frozen=True, slots=True)
class Progress:
    """Slots whose prompt is being computed in chunks, and how far each has come."""

    slots: Integers  # [n]
    computed: Integers  # [n] tokens


class Drafter(Protocol):
    """Proposes up to k tokens for each sequence."""

    def propose(
        self, history: History, slots: Integers, draft_tokens: int, watch: Stopwatch, prefilling: Progress
    ) -> tuple[Integers, Integers]:
        """Drafts [n, k] for ascending ``slots``, and how many of each row are meant, [n].

        ``prefilling`` sequences get no drafts, but a drafter with a cache may keep pace with them.
        """
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """The sequence in one slot moves to another."""
        ...

    def forget(self, slot: int) -> None:
        """A new sequence takes the slot."""
        ...


class NGram:
    """Prompt look-up: the longest suffix of ``longest``..1 tokens that occurred before, and what followed it there.

    Saxena 2023 (prompt-lookup-decoding). Of several occurrences the earliest one, which has most tokens behind it.
    """

    def __init__(self, longest: int = 3) -> None:
        self.longest = longest

    def propose(
        self, history: History, slots: Integers, draft_tokens: int, watch: Stopwatch, prefilling: Progress
    ) -> tuple[Integers, Integers]:
        drafts = np.zeros((len(slots), draft_tokens), dtype=np.int64)
        counts = np.zeros(len(slots), dtype=np.int64)
        for row, (slot, length) in enumerate(zip(slots.tolist(), history.lengths[slots].tolist(), strict=True)):
            found = self.look_up(history.tokens[slot, :length], draft_tokens)
            counts[row] = len(found)
            drafts[row, : len(found)] = found
        return drafts, counts

    def look_up(self, tokens: Integers, draft_tokens: int) -> Integers:
        """At most ``draft_tokens`` tokens, none without a match. [5 6 7 5 6] and 2 give [7 5]."""
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # where the last token occurred before
        for back in range(1, min(self.longest, len(tokens) - 1)):
            longer = ends[ends >= back]
            longer = longer[tokens[longer - back] == tokens[-1 - back]]
            if not longer.size:
                break
            ends = longer
        if not ends.size:
            return tokens[:0]
        return tokens[ends[0] + 1 : ends[0] + 1 + draft_tokens]

    def move(self, source: int, target: int, length: int) -> None: ...

    def forget(self, slot: int) -> None: ...


class DraftModel:
    """A small transformer that decodes k tokens ahead in k passes, in the same KV slots as the target.

    Its first pass feeds each sequence's last k + 1 known tokens again, for all sequences alike: after a round that
    verified k drafts the tokens it has not yet seen are among them. A sequence that is further behind (its prompt,
    rounds without drafts) catches up in the same pass with a group of its own width.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.computed: Integers = np.zeros(model.max_sequences, dtype=np.int64)  # known tokens in its cache

    def propose(
        self, history: History, slots: Integers, draft_tokens: int, watch: Stopwatch, prefilling: Progress
    ) -> tuple[Integers, Integers]:
        groups = self._first_groups(history, slots, draft_tokens + 1)
        order = np.concatenate([g.slots for g in groups]) if groups else slots
        groups += self._groups_until(history, prefilling.slots, prefilling.computed, 0)
        self.computed[prefilling.slots] = np.maximum(self.computed[prefilling.slots], prefilling.computed)
        tokens = self._pass(groups, watch) if groups else torch.zeros(0, dtype=torch.int64)
        if not len(slots):
            return np.zeros((0, draft_tokens), dtype=np.int64), np.zeros(0, dtype=np.int64)
        if len(groups) > 1:
            tokens = tokens[torch.from_numpy(np.argsort(order)).to(tokens.device)]
        lengths = history.lengths[slots]
        drafts = [tokens]
        for ahead in range(draft_tokens - 1):
            drafts.append(self._pass([Group(slots, drafts[-1][:, None], lengths + ahead, 1)], watch))
        self.computed[slots] = lengths
        proposed: Integers = torch.stack(drafts, dim=1).cpu().numpy()
        return proposed, np.full(len(slots), draft_tokens)

    def _pass(self, groups: list[Group], watch: Stopwatch) -> Tensor:
        logits = watch.run("draft", self.model.run, self.model.plan(groups))
        return watch.run("sample", greedy_tokens, logits)

    def _first_groups(self, history: History, slots: Integers, width: int) -> list[Group]:
        lengths = history.lengths[slots]
        regular = (lengths - self.computed[slots] <= width) & (width <= lengths)
        groups = []
        if regular.any():
            ours = slots[regular]
            starts = lengths[regular] - width
            groups.append(Group(ours, self._tokens(history, ours, starts, width), starts, 1))
        return groups + self._groups_until(history, slots[~regular], lengths[~regular], 1)

    def _groups_until(self, history: History, slots: Integers, ends: Integers, logit_rows: int) -> list[Group]:
        """Feed each sequence what its cache lacks before ``ends``, in groups of equal width; at least one token."""
        if not len(slots):
            return []
        starts = np.minimum(self.computed[slots], ends - logit_rows)
        groups = []
        for width in np.unique(ends - starts).tolist():
            chosen = ends - starts == width
            if width > 0:
                ours, begins = slots[chosen], starts[chosen]
                groups.append(Group(ours, self._tokens(history, ours, begins, width), begins, logit_rows))
        return groups

    def _tokens(self, history: History, slots: Integers, starts: Integers, width: int) -> Tensor:
        return history.window(slots, starts, width).to(self.model.device)

    def move(self, source: int, target: int, length: int) -> None:
        self.model.move(source, target, length)
        self.computed[target] = self.computed[source]

    def forget(self, slot: int) -> None:
        self.computed[slot] = 0
