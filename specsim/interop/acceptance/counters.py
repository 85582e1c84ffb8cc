"""Acceptance from dumps of an engine's ``/metrics``: vLLM's counters, V1's by position and those of V0.

A counter grows since the server started; two dumps give what happened between them. V0 counts no rounds: every round
emits what it accepted and one token more, so emitted - accepted tokens are the rounds. SGLang exposes gauges of the
last moment alone, which are no measurement of a run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from specsim.errors import InvalidInput, shown
from specsim.interop.acceptance.record import AcceptanceRecord, MeanAcceptance
from specsim.results import AcceptanceCounts
from specsim.text_file import read_text

SAMPLE = re.compile(r"^vllm:spec_decode_num_(\w+?)(?:_total)?(?:\{([^}]*)\})?\s+([-+.\w]+)(?:\s+\d+)?\s*$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
MOST = 1e15  # tokens of any server
V1 = {"drafts", "draft_tokens", "accepted_tokens", "accepted_tokens_per_pos"}
V0 = {"draft_tokens", "accepted_tokens", "emitted_tokens"}
WHAT = "a dump of an engine's /metrics"
Counters = Mapping[tuple[str, str], float]  # (name, position)


def read_counters(after: Path, before: Path | None = None, *, model: str | None = None) -> AcceptanceRecord:
    """What vLLM counted between two dumps of ``/metrics`` (without ``before``: since it started), engines added up.

    Raises InvalidInput: no such file, no speculation counters, several models and none chosen, a counter that fell,
    counters that contradict each other, or no round at all.
    """
    counted = _scrape(after, model)
    earlier = {} if before is None else _scrape(before, model)
    for key in earlier:
        if counted.get(key, 0.0) < earlier[key]:
            raise InvalidInput(
                f"{after}: counter {key[0]!r} is below its value in {before}; scrape the same server run"
            )
    moved = {key: value - earlier.get(key, 0.0) for key, value in counted.items()}
    if ("emitted_tokens", "") in moved:
        return _of_v0(moved, after)
    return _of_v1(moved, after)


def _of_v1(moved: Counters, path: Path) -> AcceptanceRecord:
    rounds = round(moved.get(("drafts", ""), 0.0))
    if not rounds:
        raise InvalidInput(f"{path}: no draft was verified; send requests with speculation on, then scrape again")
    named = sorted(position for name, position in moved if name == "accepted_tokens_per_pos")
    positions = sorted(int(position) for position in named if position.isdecimal() and len(position) < 4)
    if not positions or len(named) > len(positions) or positions != list(range(len(positions))):
        raise InvalidInput(f"{path}: accepted tokens by position cover {shown(named)}; dump all of vLLM's counters")
    reached = [rounds, *(round(moved[("accepted_tokens_per_pos", str(p))]) for p in positions), 0]
    counts = AcceptanceCounts()
    for accepted in range(len(positions) + 1):
        ended = reached[accepted] - reached[accepted + 1]
        if ended < 0:
            raise InvalidInput(f"{path}: more rounds accepted {accepted + 1} drafts than {accepted}; dump it again")
        counts.add(len(positions), accepted, ended)
    return AcceptanceRecord("vLLM /metrics", counts, notes=shorter_drafts(counts, moved.get(("draft_tokens", ""))))


def _of_v0(moved: Counters, path: Path) -> AcceptanceRecord:
    drafted, accepted, emitted = (
        moved.get((name, ""), 0.0) for name in ("draft_tokens", "accepted_tokens", "emitted_tokens")
    )
    rounds = round(emitted - accepted)
    if rounds <= 0 or not drafted or accepted > drafted:
        raise InvalidInput(
            f"{path}: vLLM V0 counted {drafted:g} drafted, {accepted:g} accepted and {emitted:g} emitted tokens, "
            "which no run of rounds gives; dump it again after requests with speculation on"
        )
    mean = MeanAcceptance(emitted / rounds, max(1, round(drafted / rounds)), rounds)
    note = "vLLM V0 has no counters by position: one rate for all of them"
    return AcceptanceRecord("vLLM V0 /metrics", mean=mean, notes=(note,))


def shorter_drafts(counts: AcceptanceCounts, drafted: float | None) -> tuple[str, ...]:
    """A note where fewer tokens were drafted than k in every round, which pooled counters are read as."""
    if drafted is None or round(drafted) >= counts.drafted():
        return ()
    return (
        f"{drafted:.0f} tokens were drafted where k in every round makes {counts.drafted()}; rates of later positions "
        "come out too low",
    )


def _scrape(path: Path, model: str | None) -> dict[tuple[str, str], float]:
    """Counters by (name, position), engines added up."""
    found: dict[tuple[str, str], float] = {}
    models, text = set(), read_text(path, WHAT)
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match is None or match[1] not in V1 | V0:
            continue
        labels = dict(LABEL.findall(match[2] or ""))
        name = labels.get("model_name", "")
        if model is not None and name != model:
            continue
        models.add(name)
        key = (match[1], labels.get("position", ""))
        found[key] = found.get(key, 0.0) + _value(match[3], match[1], path)
    if len(models) > 1:
        raise InvalidInput(f"{path}: counters of models {', '.join(sorted(models))}; choose one")
    if not found:
        raise InvalidInput(f"{path}: {_why_none(text, model)}")
    return found


def _value(text: str, name: str, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST:
        raise InvalidInput(f"{path}: counter {name!r} has value {shown(text)}; dump /metrics again")
    return value


def _why_none(text: str, model: str | None) -> str:
    if "sglang:" in text:
        return (
            "SGLang exposes its acceptance as gauges of one moment (sglang:spec_accept_length), not as counters; give "
            "the server's log, or a result of its bench_serving"
        )
    whose = "" if model is None else f" of model {model!r}"
    return f"no vllm:spec_decode counters{whose}; dump /metrics of a server with speculation on"
