"""Seeded draws from any law, shared by all that compare alternatives under one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance.confidence import ConfidenceAcceptance
from specsim.speculation.acceptance.law import AcceptanceLaw

TRACK_NUMBERS = 4_000_000  # kept at most, 32 MB; dropped ones are computed again, to the same values
SHORTEST_TRACK = 256  # tokens; where more are asked for, at least twice as many as before


class AcceptanceDraws:
    """Draws are a pure function of (seed, request, output position), never of batch order or of what was drawn before.

    Two systems compared under one seed therefore face the same luck (common random numbers).
    """

    def __init__(self, model: AcceptanceLaw, seed: int) -> None:
        self.model = model
        self.seed = seed
        self._tracks = _Tracks(model, seed)

    def accepted(self, request_ids: Integers, positions: Integers, draft_tokens: Integers) -> Integers:
        """Accepted drafts of each sequence, all arrays of shape [sequences].

        ``positions`` is the output position of each sequence's first draft, ``draft_tokens`` how many it drafted.
        """
        width = int(draft_tokens.max(initial=0))
        if width == 0:
            return np.zeros(len(request_ids), dtype=np.int64)
        track = self._tracks.at(request_ids, positions, width)
        return self.model.draw(self.seed, request_ids, positions, draft_tokens, track)

    def proposed(self, request_ids: Integers, positions: Integers, draft_tokens: Integers) -> Integers:
        """Tokens each sequence's drafter proposes of at most ``draft_tokens``; fewer only for copy drafters."""
        track = self._tracks.at(request_ids, positions, 1)
        return self.model.proposed(self.seed, request_ids, positions, draft_tokens, track)

    def confidences(self, request_ids: Integers, positions: Integers, draft_tokens: int) -> Floats:
        """Confidence of each draft, [sequences, draft_tokens]. Raises InvalidInput for a law without confidences."""
        if not isinstance(self.model, ConfidenceAcceptance):
            kind = getattr(self.model, "kind", type(self.model).__name__)
            raise InvalidInput(f"acceptance {kind!r} has no confidences; a confidence stop needs kind confidence")
        return self.model.confidences(self._tracks.at(request_ids, positions, draft_tokens))

    def replay(self, request_ids: Integers, output_tokens: Integers, draft_tokens: int) -> RoundHistory:
        """All rounds of requests decoded to their lengths, each alone; output position 0 comes from the prefill.

        The last round of a request counts all it accepts, as engines count, even beyond the last token.
        """
        self._tracks.hold(request_ids, int(output_tokens.max(initial=0)) + draft_tokens)
        position = np.ones(len(request_ids), dtype=np.int64)
        owner, found, offered = [], [], []
        active = np.flatnonzero(position < output_tokens)
        while active.size:
            length = np.full(len(active), draft_tokens)
            drafted = self.proposed(request_ids[active], position[active], length)
            accepted = self.accepted(request_ids[active], position[active], drafted)
            owner.append(active)
            offered.append(drafted)
            found.append(accepted)
            position[active] += accepted + 1
            active = active[position[active] < output_tokens[active]]
        if not owner:
            owner = offered = found = [np.zeros(0, dtype=np.int64)]
        return RoundHistory(np.concatenate(owner), np.concatenate(offered), np.concatenate(found))


@dataclass(frozen=True, slots=True)
class RoundHistory:
    """Rounds in the order they ran: the index of the request, tokens drafted, drafts accepted; shape [rounds]."""

    request: Integers
    drafted: Integers
    accepted: Integers

    def counts(self) -> AcceptanceCounts:
        """The record h[d][j]."""
        table = AcceptanceCounts()
        pairs, count = np.unique(np.stack((self.drafted, self.accepted)), axis=1, return_counts=True)
        for drafted, accepted, rounds in zip(*pairs.tolist(), count.tolist(), strict=True):
            table.add(drafted, accepted, rounds)
        return table

    def of(self, request: int) -> RoundHistory:
        """One request's rounds."""
        mine = self.request == request
        return RoundHistory(self.request[mine], self.drafted[mine], self.accepted[mine])


class _Tracks:
    """Tracks of the requests seen of late, in one array [rows, tokens, fields]."""

    def __init__(self, model: AcceptanceLaw, seed: int) -> None:
        self._model = model
        self._seed = seed
        self._values: Floats = np.zeros((0, SHORTEST_TRACK, model.track_fields))
        self._numbers = np.zeros(0, dtype=np.int64)  # requests of the rows
        self._order = self._ascending = self._numbers  # rows by request, and their requests

    def at(self, request_ids: Integers, positions: Integers, width: int) -> Floats:
        """[sequences, width, fields] from each position on."""
        if not self._model.track_fields:
            return np.zeros((len(request_ids), width, 0))
        rows = self.hold(request_ids, int(positions.max(initial=0)) + width)
        return np.asarray(self._values[rows[:, None], positions[:, None] + np.arange(width)])

    def hold(self, request_ids: Integers, tokens: int) -> Integers:
        """Make sure that these requests have tracks of at least this length; their rows."""
        if tokens > self._values.shape[1]:
            self._forget(max(tokens, 2 * self._values.shape[1]))
        rows = self._rows(request_ids)
        if (rows >= 0).all():
            return rows
        new = np.unique(request_ids[rows < 0])
        if self._values.size and (len(self._numbers) + len(new)) * self._values[0].size > TRACK_NUMBERS:
            self._forget(self._values.shape[1])
            new = np.unique(request_ids)
        tracks = self._model.track(self._seed, new, self._values.shape[1])
        self._values, self._numbers = np.concatenate((self._values, tracks)), np.append(self._numbers, new)
        self._order = np.argsort(self._numbers)
        self._ascending = self._numbers[self._order]
        return self._rows(request_ids)

    def _rows(self, request_ids: Integers) -> Integers:
        """Of requests; -1 of one that has none."""
        if not len(self._numbers):
            return np.full(len(request_ids), -1)
        place = np.minimum(np.searchsorted(self._ascending, request_ids), len(self._numbers) - 1)
        return np.where(self._ascending[place] == request_ids, self._order[place], -1)

    def _forget(self, tokens: int) -> None:
        """All tracks; new ones will be so long."""
        self._values = np.zeros((0, tokens, self._model.track_fields))
        self._numbers = self._order = self._ascending = np.zeros(0, dtype=np.int64)
