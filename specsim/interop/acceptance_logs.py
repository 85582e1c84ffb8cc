"""Acceptance as engines and load generators report it, read as the record h[d][j] (rounds that drafted d, accepted j).

Pooled counters leave d out: they are read as if every round had drafted k tokens, and a warning says so where the
number of drafted tokens shows that some drafted fewer. Rounds in which nothing was proposed are in none of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from specsim.errors import InvalidInput
from specsim.json_file import read_json_documents
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import RoundHistory, TraceAcceptance
from specsim.speculation.fit import counts_from_rates
from specsim.text_file import read_text

SAMPLE = re.compile(r"^vllm:spec_decode_num_(\w+?)(?:_total)?(?:\{([^}]*)\})?\s+([-+.\w]+)(?:\s+\d+)?\s*$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
LOG_LINE = re.compile(
    r"SpecDecoding metrics: .*?Accepted: (\d+) tokens, Drafted: (\d+) tokens.*?"
    r"Per-position acceptance rate: ((?:[\d.]+(?:, )?)+)"
)
COUNTERS = {"drafts", "draft_tokens", "accepted_tokens", "accepted_tokens_per_pos"}


def read_prometheus(after: Path, before: Path | None = None, *, model: str | None = None) -> AcceptanceCounts:
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
    rounds = round(moved.get(("drafts", ""), 0.0))
    if not rounds:
        raise InvalidInput(f"{after}: no draft was verified; send requests with speculation on, then scrape again")
    positions = sorted(int(position) for name, position in moved if name == "accepted_tokens_per_pos")
    if not positions or positions != list(range(len(positions))):
        raise InvalidInput(f"{after}: accepted tokens by position cover {positions}; dump all of vLLM's counters")
    reached = [rounds, *(round(moved[("accepted_tokens_per_pos", str(p))]) for p in positions), 0]
    counts = AcceptanceCounts()
    for accepted in range(len(positions) + 1):
        ended = reached[accepted] - reached[accepted + 1]
        if ended < 0:
            raise InvalidInput(f"{after}: more rounds accepted {accepted + 1} drafts than {accepted}; dump it again")
        counts.add(len(positions), accepted, ended)
    _say_if_shorter(counts, moved.get(("draft_tokens", "")), after)
    return counts


def read_bench_serve(path: Path) -> AcceptanceCounts:
    """A ``vllm bench serve --save-result`` file, or one of specsim's own, which holds h[d][j] itself.

    Several runs in one file (``--append-result``) are added up. Raises InvalidInput: no JSON, no speculation in it.
    """
    total = AcceptanceCounts()
    for run in _documents(path):
        exact = run.get("spec_decode_acceptance_counts")
        if isinstance(exact, dict):
            _add_table(total, exact, path)
            continue
        rates = run.get("spec_decode_per_position_acceptance_rates")
        rounds = run.get("spec_decode_num_drafts")
        if not isinstance(rates, list) or not rates or rounds is None or not all(map(_is_number, [rounds, *rates])):
            raise InvalidInput(
                f"{path}: no spec_decode_per_position_acceptance_rates or spec_decode_num_drafts; "
                "give a vllm bench serve result of a server with speculation on"
            )
        counts = counts_from_rates(rates, round(rounds))
        _say_if_shorter(counts, run.get("spec_decode_draft_tokens"), path)
        _add_all(total, counts)
    return total


def read_aiperf(path: Path) -> AcceptanceCounts:
    """AIPerf's ``profile_export_aiperf.json``: its pooled histogram, at k = drafted tokens / steps.

    Raises InvalidInput: no JSON, no such histogram.
    """
    document = next(iter(_documents(path)))
    histogram = _histogram(document.get("pooled_spec_decode_acceptance_histogram"), path)
    drafted = _metric(document, "total_draft_tokens", "avg") or _metric(document, "spec_decode_draft_tokens", "sum")
    return _from_histogram(histogram, drafted, path)


def read_vllm_responses(path: Path) -> list[RoundHistory]:
    """Responses of a server run with ``--per-request-spec-decode-metrics detailed``, one JSON object a line.

    Rounds in order, one entry a request; requests without speculation are left out. Raises InvalidInput: no JSON, or
    no request with both step arrays.
    """
    found: list[RoundHistory] = []
    for document in _documents(path):
        stats = _request_stats(document)
        if stats is None:
            continue
        accepted, drafted = stats.get("per_step_accepted"), stats.get("per_step_drafted")
        if not isinstance(accepted, list) or not isinstance(drafted, list) or len(accepted) != len(drafted):
            raise InvalidInput(
                f"{path}: a response has no per_step_accepted and per_step_drafted of one length; "
                "run the server with --per-request-spec-decode-metrics detailed"
            )
        if not all(
            isinstance(a, int) and isinstance(d, int) and 0 <= a <= d for a, d in zip(accepted, drafted, strict=True)
        ):
            raise InvalidInput(f"{path}: a response accepted more than it drafted in one step; the file is damaged")
        ends = np.array(accepted, dtype=np.int64)
        found.append(RoundHistory(np.full(len(ends), len(found)), np.array(drafted, dtype=np.int64), ends))
    if not found:
        raise InvalidInput(f"{path}: no response carries metrics.speculative_decoding; record with speculation on")
    return found


def read_vllm_summaries(path: Path) -> list[AcceptanceCounts]:
    """As ``read_vllm_responses``, of a server run with ``summary``: a histogram a request, not the order of rounds."""
    found = []
    for document in _documents(path):
        stats = _request_stats(document)
        if stats is not None and stats.get("num_spec_steps"):
            histogram = _histogram(stats.get("acceptance_histogram"), path)
            found.append(_from_histogram(histogram, stats.get("num_draft_tokens"), path))
    if not found:
        raise InvalidInput(f"{path}: no response carries metrics.speculative_decoding; record with speculation on")
    return found


def read_vllm_log(path: Path) -> AcceptanceCounts:
    """vLLM's ``SpecDecoding metrics`` log lines added up; rates have three decimals there, so counts are rounded."""
    total = AcceptanceCounts()
    for accepted, drafted, logged in LOG_LINE.findall(_text(path)):
        rates = [float(rate) for rate in logged.split(", ") if rate]
        # Accepted tokens are the sum of the rates over the rounds, whatever each round drafted.
        rounds = int(accepted) / sum(rates) if sum(rates) else int(drafted) / len(rates)
        if round(rounds):
            _add_all(total, counts_from_rates(rates, round(rounds)))
    if not total.rounds:
        raise InvalidInput(f"{path}: no 'SpecDecoding metrics' line with drafts; give the log of a vLLM server")
    return total


def read_specdecode_bench(path: Path, drafter: str, *, cap: int | None = None) -> TraceAcceptance:
    """A K-free trace of SpecDecode-Bench (arXiv 2601.11580), JSON lines; ``drafter`` is for instance ngram or eagle.

    ``acc_<drafter>.acc_len[i]`` counts the tokens a round commits that starts when i + 1 output tokens stand, bonus
    token included. ``cap``: the longest draft that was tried (default: the longest run seen).
    """
    runs = []
    for document in _documents(path):
        entry = document.get(f"acc_{drafter}")
        lengths = entry.get("acc_len") if isinstance(entry, dict) else entry
        if not isinstance(lengths, list) or not all(isinstance(n, int) and n >= 1 for n in lengths):
            known = ", ".join(sorted(key[4:] for key in document if key.startswith("acc_"))) or "none"
            raise InvalidInput(f"{path}: no acceptance lengths of drafter {drafter!r}; drafters there: {known}")
        if lengths:
            runs.append(tuple(length - 1 for length in lengths))
    longest = max((max(one) for one in runs), default=0)
    if not longest:
        raise InvalidInput(f"{path}: drafter {drafter!r} has no accepted draft in it; give another trace")
    return TraceAcceptance(runs=tuple(tuple(min(n, cap or n) for n in one) for one in runs), cap=cap or longest)


def _scrape(path: Path, model: str | None) -> dict[tuple[str, str], float]:
    """Counters by (name, position), engines added up."""
    found: dict[tuple[str, str], float] = {}
    models = set()
    for line in _text(path).splitlines():
        match = SAMPLE.match(line)
        if match is None or match[1] not in COUNTERS:
            continue
        labels = dict(LABEL.findall(match[2] or ""))
        name = labels.get("model_name", "")
        if model is not None and name != model:
            continue
        models.add(name)
        key = (match[1], labels.get("position", ""))
        try:
            found[key] = found.get(key, 0.0) + float(match[3])
        except ValueError:
            raise InvalidInput(f"{path}: counter {match[1]!r} has value {match[3]!r}; dump /metrics again") from None
    if len(models) > 1:
        raise InvalidInput(f"{path}: counters of models {', '.join(sorted(models))}; choose one")
    if not found:
        whose = "" if model is None else f" of model {model!r}"
        raise InvalidInput(
            f"{path}: no vllm:spec_decode counters{whose}; dump /metrics of a server with speculation on"
        )
    return found


def _documents(path: Path) -> list[dict[str, Any]]:
    return read_json_documents(path, "an engine's or a load generator's results")


def _text(path: Path) -> str:
    return read_text(path, "an engine's metrics, log or results")


def _request_stats(document: dict[str, Any]) -> dict[str, Any] | None:
    metrics = document.get("metrics")
    stats = metrics.get("speculative_decoding") if isinstance(metrics, dict) else None
    return stats if isinstance(stats, dict) else None


def _histogram(value: Any, path: Path) -> dict[int, int]:
    """Steps by accepted count, given as a list or as a map with counts for keys."""
    pairs: Iterable[tuple[Any, Any]] = enumerate(value) if isinstance(value, list) else ()
    pairs = value.items() if isinstance(value, dict) else pairs
    try:
        found = {int(accepted): int(steps) for accepted, steps in pairs if int(steps)}
    except (TypeError, ValueError):
        found = {}
    if not found or min(found) < 0 or min(found.values()) < 0:
        raise InvalidInput(f"{path}: no histogram of accepted drafts; record with speculation on")
    return found


def _from_histogram(histogram: dict[int, int], drafted: Any, path: Path) -> AcceptanceCounts:
    steps, most = sum(histogram.values()), max(histogram)
    k = most
    if _is_number(drafted):
        k = max(most, -(-int(drafted) // steps))
    else:
        warnings.warn(f"{path}: drafted tokens are not given, taken as {most} a round", stacklevel=3)
    counts = AcceptanceCounts()
    for accepted, rounds in histogram.items():
        counts.add(k, accepted, rounds)
    _say_if_shorter(counts, drafted, path)
    return counts


def _say_if_shorter(counts: AcceptanceCounts, drafted: Any, path: Path) -> None:
    if _is_number(drafted) and round(drafted) < counts.drafted():
        warnings.warn(
            f"{path}: {drafted:.0f} tokens were drafted where k in every round makes {counts.drafted()}; "
            "rates of later positions come out too low",
            stacklevel=4,
        )


def _metric(document: dict[str, Any], name: str, statistic: str) -> Any:
    entry = document.get(name)
    return entry.get(statistic) if isinstance(entry, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _add_table(total: AcceptanceCounts, table: dict[str, Any], path: Path) -> None:
    try:
        for drafted, row in table.items():
            for accepted, rounds in enumerate(row):
                if int(rounds):
                    total.add(int(drafted), accepted, int(rounds))
    except (TypeError, ValueError):
        raise InvalidInput(f"{path}: spec_decode_acceptance_counts is not {{d: [rounds by accepted]}}") from None


def _add_all(total: AcceptanceCounts, counts: AcceptanceCounts) -> None:
    for drafted, row in counts.rounds.items():
        for accepted, rounds in row.items():
            total.add(drafted, accepted, rounds)
