"""Logs of 2,000 requests drawn from known laws, as engines write them, and whether a fit finds the laws again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from specsim.interop.acceptance import read_log_file, rounds_of
from specsim.speculation.acceptance import (
    AcceptanceDraws,
    AcceptanceLaw,
    BetaLevels,
    ConditionalAcceptance,
    ConstantAcceptance,
    GeometricRuns,
    HurdleAcceptance,
    LatentAcceptance,
    PowerLawAcceptance,
    RoundHistory,
    Spans,
)
from specsim.speculation.fit import ChosenLaw, choose_law

REQUESTS = 2_000


@dataclass(frozen=True)
class Case:
    """``kind``: of the law; ``written``: detailed and summary responses of vLLM, or a dump of its /metrics."""

    number: int
    kind: str
    written: str

    @property
    def truth(self) -> tuple[AcceptanceLaw, int]:
        """The law and k, drawn by the case's number."""
        random = np.random.default_rng(self.number)
        k = int(random.integers(2, 7))
        level, concentration = float(random.uniform(0.4, 0.85)), float(random.uniform(3, 15))
        requests = BetaLevels(mean=level, concentration=concentration)
        if self.kind == "constant":
            return ConstantAcceptance(rate=level), k
        if self.kind == "conditional":
            return ConditionalAcceptance(rates=tuple(sorted(random.uniform(0.4, 0.9, k).tolist(), reverse=True))), k
        if self.kind == "power law":
            return PowerLawAcceptance(c=level, gamma=float(random.uniform(0.4, 0.8))), k
        if self.kind == "latent, requests":
            return LatentAcceptance(requests=requests), k
        if self.kind == "latent, requests, decaying":
            return LatentAcceptance(requests=requests, decay=float(random.uniform(0.8, 0.95))), k
        if self.kind == "latent, requests and spans":
            spans = Spans(mean_tokens=float(random.uniform(6, 15)), concentration=float(random.uniform(2, 5)))
            return LatentAcceptance(requests=requests, spans=spans), k
        runs = GeometricRuns(continue_rate=float(random.uniform(0.7, 0.95)))
        false = float(random.uniform(0.05, 0.4))
        return HurdleAcceptance(hit_rate=float(random.uniform(0.05, 0.3)), runs=runs, false_match_rate=false), k

    def fitted(self, folder: Path) -> ChosenLaw:
        """What is found in the log that the law wrote."""
        law, k = self.truth
        tokens = np.random.default_rng(self.number + 1).integers(40, 250, REQUESTS)
        path = folder / "log"
        _WRITERS[self.written](path, AcceptanceDraws(law, self.number).replay(np.arange(REQUESTS), tokens, k), k)
        return choose_law(rounds_of([read_log_file(path)])[0])

    def recovered(self, found: ChosenLaw) -> bool:
        """The acceptance length within its interval, and also the law's kind and every number.

        But for pooled counters of requests that differ, which cannot tell that they do.
        """
        law, k = self.truth
        length = law.expected_tokens(k)
        if isinstance(law, HurdleAcceptance):  # engines count the rounds that propose
            length = 1 + (length - 1) / law.drafting_share(k)
        if not found.acceptance_length.low <= length <= found.acceptance_length.high:
            return False
        if self.written == "metrics" and self.kind.startswith("latent"):
            return True
        numbers = _numbers(law)
        return found.name == self.kind.replace("hurdle", "hurdle, geometric runs") and all(
            one.low <= numbers[name] <= one.high for name, one in found.numbers.items()
        )


def _numbers(law: AcceptanceLaw) -> dict[str, float]:
    """Every number of a law by its path."""

    def inside(value: object, path: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from inside(one, f"{path}.{key}" if path else key)
        elif isinstance(value, list | tuple):
            for position, one in enumerate(value, start=1):
                yield from inside(one, f"{path}[{position}]")
        elif isinstance(value, float):
            yield path, value

    return dict(inside(law.model_dump(), ""))


def _by_request(rounds: RoundHistory) -> Iterator[RoundHistory]:
    order = np.argsort(rounds.request, kind="stable")
    ends = np.searchsorted(rounds.request[order], np.arange(REQUESTS + 1))
    for first, last in pairwise(ends):
        rows = order[first:last]
        yield RoundHistory(rounds.request[rows], rounds.drafted[rows], rounds.accepted[rows])


def _write_responses(path: Path, stats: Iterator[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps({"metrics": {"speculative_decoding": one}}) + "\n" for one in stats))


def _write_detailed(path: Path, rounds: RoundHistory, k: int) -> None:
    _write_responses(
        path,
        (
            {"per_step_accepted": one.accepted.tolist(), "per_step_drafted": one.drafted.tolist()}
            for one in _by_request(rounds)
        ),
    )


def _write_summary(path: Path, rounds: RoundHistory, k: int) -> None:
    _write_responses(
        path,
        (
            {
                "acceptance_histogram": np.bincount(one.accepted, minlength=k + 1).tolist(),
                "num_spec_steps": len(one.accepted),
                "num_draft_tokens": int(one.drafted.sum()),
            }
            for one in _by_request(rounds)
        ),
    )


def _write_metrics(path: Path, rounds: RoundHistory, k: int) -> None:
    name = "vllm:spec_decode_num_"
    lines = [
        f"# TYPE {name}drafts_total counter",
        f'{name}drafts_total{{model_name="m"}} {len(rounds.accepted)}',
        f'{name}draft_tokens_total{{model_name="m"}} {int(rounds.drafted.sum())}',
    ]
    for position in range(k):
        reached = int((rounds.accepted > position).sum())
        lines.append(f'{name}accepted_tokens_per_pos_total{{model_name="m",position="{position}"}} {reached}')
    path.write_text("\n".join(lines) + "\n")


_WRITERS = {"detailed": _write_detailed, "summary": _write_summary, "metrics": _write_metrics}
_ASKED = (
    ("constant", ("summary", "metrics", "detailed")),
    ("conditional", ("summary", "metrics", "detailed")),
    ("power law", ("summary", "metrics", "detailed")),
    ("latent, requests", ("summary", "detailed", "metrics")),
    ("latent, requests, decaying", ("summary", "summary", "detailed")),
    ("latent, requests and spans", ("detailed", "detailed")),
    ("hurdle", ("detailed", "detailed", "detailed")),
)
CASES = [
    Case(number, kind, written)
    for number, (kind, written) in enumerate((kind, one) for kind, ways in _ASKED for one in ways)
]
