"""Replay of what was seen: at each output position, how many drafts an unlimited round would have got right.

Such a trace does not depend on k (SpecDecode-Bench records them, arXiv 2601.11580): a round of k drafts accepts
min(k, run), and where the next round starts follows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, PrivateAttr, model_validator

from specsim.arrays import Floats, Integers
from specsim.errors import InvalidInput
from specsim.json_file import read_json_lines
from specsim.kept_files import replace_text
from specsim.named_files import file_named
from specsim.speculation.acceptance.law import AcceptanceLaw
from specsim.speculation.uniform import uniform

STEEPEST, HALVINGS = 20.0, 40  # logarithm of how much more often a request may come than the mean; steps to find it
FEWEST_TILTED = 512  # copies of requests by which their frequencies are told


class TraceAcceptance(AcceptanceLaw):
    """``runs[request][i]``: drafts right in an unlimited round started when i + 1 output tokens stood (the first one
    comes from the prefill). ``cap``: the longest draft that was tried, so no k beyond it can be answered.

    ``order`` drawn: every request replays a trace chosen by its number and the seed; listed: request i replays trace
    i modulo their number. A request longer than its trace goes on with the next choice, listed with the same trace.
    ``path`` in place of ``runs`` and ``cap`` names a file written by ``write``; it is read at once.
    """

    kind: Literal["trace"] = "trace"
    runs: tuple[tuple[NonNegativeInt, ...], ...] = Field(min_length=1)
    cap: PositiveInt
    order: Literal["drawn", "listed"] = "drawn"

    track_fields: ClassVar[int] = 1
    _survival: dict[int, Floats] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, dict) and "path" in data:
            return {key: value for key, value in data.items() if key != "path"} | _read(file_named(str(data["path"])))
        return data

    @model_validator(mode="after")
    def _within_cap(self) -> TraceAcceptance:
        for number, runs in enumerate(self.runs):
            if not runs:
                raise ValueError(f"trace {number} is empty; leave out requests without decoded tokens")
            if max(runs) > self.cap:
                raise ValueError(f"trace {number} has a run of {max(runs)}, above the cap {self.cap}; raise the cap")
        return self

    def write(self, path: Path) -> None:
        """JSON lines: a head with the cap, then one list of runs a request."""
        lines = [json.dumps({"cap": self.cap})] + [json.dumps({"runs": runs}) for runs in self.runs]
        replace_text(path, "\n".join(lines) + "\n")

    def survival(self, draft_tokens: int) -> Floats:
        """Counted over the rounds of a replay of every trace, each once."""
        if draft_tokens > self.cap:
            raise InvalidInput(
                f"{draft_tokens} tokens are drafted and the acceptance trace was recorded up to {self.cap}; "
                "lower --draft-tokens or record it with a higher cap"
            )
        if draft_tokens not in self._survival:
            accepted = np.concatenate(self.replay(draft_tokens))
            steps = np.arange(1, draft_tokens + 1)
            self._survival[draft_tokens] = (accepted[:, None] >= steps).mean(axis=0)
        return self._survival[draft_tokens]

    def replay(self, draft_tokens: int) -> list[Integers]:
        """Accepted drafts of each round, one array a trace."""
        replayed = []
        for runs in self.runs:
            start, accepted = 0, []
            while start < len(runs):
                accepted.append(min(runs[start], draft_tokens))
                start += accepted[-1] + 1
            replayed.append(np.array(accepted, dtype=np.int64))
        return replayed

    def request_spread(self, draft_tokens: int) -> float:
        """Of the ratio of accepted tokens to rounds (Cochran, Sampling Techniques, 1977, section 6.4): the root mean
        square over requests of accepted - mean · rounds, over the accepted tokens of a mean request. 0 for a single
        one.
        """
        accepted, rounds = self._counted(draft_tokens)
        if len(rounds) < 2 or not accepted.any():
            return 0.0
        off = accepted - rounds * (accepted.sum() / rounds.sum())
        return float(np.sqrt((off**2).sum() / (len(off) - 1)) / accepted.mean())

    def sampling_spread(self, draft_tokens: int) -> float:
        """That of a mean of as many requests as were recorded; 0 where the requests are the recorded ones."""
        return 0.0 if self.order == "listed" else self.request_spread(draft_tokens) / len(self.runs) ** 0.5

    def accepting_more(self, factor: float, draft_tokens: int) -> TraceAcceptance:
        """The same kind of requests, of which those that accept more come more often (or less, below 1), until a
        round of ``draft_tokens`` has ``factor`` times the accepted tokens, as far as some request has as many.

        Each comes e^(t · (accepted - mean · rounds)) times as often, which keeps the mix as near to the recorded one
        as the mean allows (exponential tilting). A listed trace is of these very requests and stays.
        """
        accepted, rounds = self._counted(draft_tokens)
        if self.order == "listed" or not self.request_spread(draft_tokens):
            return self
        off = accepted - rounds * (accepted.sum() / rounds.sum())
        wanted = factor * accepted.sum() / rounds.sum()
        low, high = -STEEPEST / np.abs(off).max(), STEEPEST / np.abs(off).max()
        for _ in range(HALVINGS):
            tilt = (low + high) / 2
            weights = np.exp(tilt * off)
            low, high = (tilt, high) if weights @ accepted < wanted * (weights @ rounds) else (low, tilt)
        return self._repeated(weights)

    def _counted(self, draft_tokens: int) -> tuple[Floats, Floats]:
        """Accepted tokens and rounds of each trace."""
        replayed = self.replay(draft_tokens)
        accepted, rounds = [one.sum() for one in replayed], [len(one) for one in replayed]
        return np.array(accepted, dtype=np.float64), np.array(rounds, dtype=np.float64)

    def _repeated(self, weights: Floats) -> TraceAcceptance:
        """Every trace about as often as its weight says, FEWEST_TILTED or more in all."""
        total = max(FEWEST_TILTED, len(weights))
        ends = np.rint(np.cumsum(weights) / weights.sum() * total).astype(int)
        times = np.diff(ends, prepend=0)
        runs = tuple(one for one, count in zip(self.runs, times.tolist(), strict=True) for _ in range(count))
        return TraceAcceptance.model_construct(runs=runs, cap=self.cap, order=self.order)

    def track(self, seed: int, request_ids: Integers, tokens: int) -> Floats:
        """Position 0, which the prefill commits, repeats position 1."""
        found = np.empty((len(request_ids), tokens, 1))
        for row, chosen in enumerate(self._chosen(seed, request_ids, tokens).tolist()):
            runs: list[int] = []
            for trace in chosen:
                runs += self.runs[trace]
                if len(runs) >= tokens:
                    break
            found[row, :, 0] = (runs[:1] + runs)[:tokens]
        return found

    def _chosen(self, seed: int, request_ids: Integers, tokens: int) -> Integers:
        """Traces in the order a request replays them, enough for ``tokens``, [requests, laps]."""
        laps = np.arange(-(-tokens // min(len(runs) for runs in self.runs)))
        if self.order == "listed":
            return np.broadcast_to(request_ids[:, None] % len(self.runs), (len(request_ids), len(laps)))
        return (uniform(seed, request_ids[:, None], laps) * len(self.runs)).astype(np.int64)

    def draw(
        self, seed: int, request_ids: Integers, positions: Integers, draft_tokens: Integers, track: Floats
    ) -> Integers:
        if track.shape[1] > self.cap:
            self.survival(track.shape[1])  # refuses
        return np.minimum(track[:, 0, 0].astype(np.int64), draft_tokens)


def _read(path: Path) -> dict[str, Any]:
    try:
        lines = read_json_lines(path, "an acceptance trace")
        return {"cap": lines[0]["cap"], "runs": [line["runs"] for line in lines[1:]]}
    except (KeyError, IndexError):
        raise InvalidInput(
            f'{path} is no acceptance trace; its first line must be {{"cap": N}}, each other {{"runs": [...]}}'
        ) from None
