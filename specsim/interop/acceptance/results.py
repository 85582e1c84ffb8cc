"""Acceptance as load generators and responses report it, as h[d][j]: rounds that drafted d and accepted j.

Pooled counters leave d out: they are read as if every round had drafted k tokens, and a note says so where the
number of drafted tokens shows that some drafted fewer. Rounds in which nothing was proposed are in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from specsim.errors import InvalidInput, shown
from specsim.interop.acceptance.counters import shorter_drafts
from specsim.interop.acceptance.record import MOST_ROUNDS, AcceptanceRecord, MeanAcceptance
from specsim.json_file import parse_json, read_json_documents
from specsim.results import AcceptanceCounts, pooled
from specsim.speculation.acceptance import RoundHistory, TraceAcceptance
from specsim.speculation.fit import counts_from_rates

WHAT = "an engine's or a load generator's results"
MOST_DRAFTED = 256  # in a round; as a scenario's max_draft_tokens
Documents = list[dict[str, Any]]


def read_results(path: Path) -> AcceptanceRecord:
    """What a file of JSON says of acceptance, known by its keys.

    ``vllm bench serve --save-result`` (several runs with ``--append-result``) and specsim's own summaries; SGLang's
    ``bench_serving``; AIPerf's ``profile_export_aiperf.json``; responses of vLLM with
    ``--per-request-spec-decode-metrics`` and of llama.cpp, one a line, also inside what a proxy wraps around them.

    Raises InvalidInput: no JSON, no speculation in it, counts that no run of rounds gives.
    """
    documents = [_unwrapped(document) for document in read_json_documents(path, WHAT)]
    for marks, reader in _READERS:
        if any(marks(document) for document in documents):
            return reader([document for document in documents if marks(document)], path)
    raise InvalidInput(f"{path}: {_other_format(documents[0])}")


def _bench_serve(runs: Documents, path: Path) -> AcceptanceRecord:
    records, notes = [], list[str]()
    for run in runs:
        exact = run.get("spec_decode_acceptance_counts")
        if isinstance(exact, dict):
            records.append(_table(exact, path))
            continue
        rates, rounds = run.get("spec_decode_per_position_acceptance_rates"), run.get("spec_decode_num_drafts")
        if not isinstance(rates, list) or not rates or not all(map(_is_number, [rounds, *rates])):
            raise InvalidInput(
                f"{path}: no spec_decode_per_position_acceptance_rates or spec_decode_num_drafts; "
                "give a vllm bench serve result of a server with speculation on"
            )
        counts = counts_from_rates(rates, round(rounds))  # type: ignore[arg-type]
        notes += shorter_drafts(counts, _number(run.get("spec_decode_draft_tokens")))
        records.append(counts)
    return AcceptanceRecord("vllm bench serve", pooled(records), notes=tuple(notes))


def _sglang_bench(runs: Documents, path: Path) -> AcceptanceRecord:
    length = _number(runs[-1].get("accept_length"))
    steps = _number((runs[-1].get("server_info") or {}).get("speculative_num_draft_tokens"))
    if length is None or steps is None or steps < 2:
        raise InvalidInput(
            f"{path}: SGLang's bench_serving gives accept_length {length} and no draft length beside it; give the "
            "server's log, whose first lines hold server_args"
        )
    note = "SGLang gives the mean length alone: one rate for all positions"
    return AcceptanceRecord("SGLang bench_serving", mean=MeanAcceptance(length, int(steps) - 1), notes=(note,))


def _aiperf(documents: Documents, path: Path) -> AcceptanceRecord:
    """The pooled histogram, at k = drafted tokens / steps."""
    document = documents[-1]
    drafted = _metric(document, "total_draft_tokens", "avg") or _metric(document, "spec_decode_draft_tokens", "sum")
    counts, notes = _from_histogram(
        _histogram(document["pooled_spec_decode_acceptance_histogram"], path), drafted, path
    )
    return AcceptanceRecord("AIPerf", counts, notes=notes)


def _responses(documents: Documents, path: Path) -> AcceptanceRecord:
    """Rounds in order where the server recorded them (``detailed``), else a histogram a request (``summary``)."""
    stats = [document["metrics"]["speculative_decoding"] for document in documents]
    if all(isinstance(one.get("per_step_accepted"), list) for one in stats):
        histories = tuple(_history(one, number, path) for number, one in enumerate(stats))
        requests = tuple(history.counts() for history in histories)
        return AcceptanceRecord("vLLM responses", pooled(requests), requests=requests, histories=histories)
    found = [
        _from_histogram(_histogram(one.get("acceptance_histogram"), path), one.get("num_draft_tokens"), path)
        for one in stats
        if one.get("num_spec_steps")
    ]
    if not found:
        raise InvalidInput(f"{path}: no response counts a round; record with speculation on")
    requests = tuple(counts for counts, _ in found)
    notes = tuple(dict.fromkeys(note for _, told in found for note in told))
    return AcceptanceRecord("vLLM responses", pooled(requests), requests=requests, notes=notes)


def _history(stats: dict[str, Any], number: int, path: Path) -> RoundHistory:
    accepted, drafted = stats["per_step_accepted"], stats.get("per_step_drafted")
    if not isinstance(drafted, list) or len(accepted) != len(drafted):
        raise InvalidInput(
            f"{path}: a response has no per_step_accepted and per_step_drafted of one length; "
            "run the server with --per-request-spec-decode-metrics detailed"
        )
    pairs = zip(accepted, drafted, strict=True)
    if not all(type(a) is int and type(d) is int and 0 <= a <= d <= MOST_DRAFTED for a, d in pairs):
        raise InvalidInput(f"{path}: a response accepted more than it drafted in one step; the file is damaged")
    ends = np.array(accepted, dtype=np.int64)
    return RoundHistory(np.full(len(ends), number), np.array(drafted, dtype=np.int64), ends)


def _llama_cpp(documents: Documents, path: Path) -> AcceptanceRecord:
    """Every round emits what it accepted and one token more: predicted - accepted tokens are the rounds."""
    totals = [0.0, 0.0, 0.0]
    for document in documents:
        for index, key in enumerate(("predicted_n", "draft_n", "draft_n_accepted")):
            totals[index] += _number(document["timings"].get(key)) or 0.0
    predicted, drafted, accepted = totals
    rounds = predicted - accepted
    if rounds <= 0 or not drafted > 0 or accepted > drafted:
        raise InvalidInput(
            f"{path}: llama.cpp counts {predicted:g} tokens, {drafted:g} drafted and {accepted:g} accepted, which no "
            "run of rounds gives; record with speculation on"
        )
    notes = (
        "llama.cpp's responses have no counts by position: one rate for all of them",
        "rounds without a draft count as rounds: the draft length is a mean",
    )
    mean = MeanAcceptance(predicted / rounds, max(1, math.ceil(drafted / rounds - 1e-9)), round(rounds))
    return AcceptanceRecord("llama.cpp responses", mean=mean, notes=notes)


def _has(*keys: str) -> Callable[[dict[str, Any]], bool]:
    return lambda document: any(document.get(key) is not None for key in keys)


def _has_request_stats(document: dict[str, Any]) -> bool:
    metrics = document.get("metrics")
    return isinstance(metrics, dict) and isinstance(metrics.get("speculative_decoding"), dict)


def _has_draft_timings(document: dict[str, Any]) -> bool:
    timings = document.get("timings")
    return isinstance(timings, dict) and timings.get("draft_n") is not None


_READERS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[Documents, Path], AcceptanceRecord]], ...] = (
    (_has("spec_decode_acceptance_counts", "spec_decode_per_position_acceptance_rates"), _bench_serve),
    (_has("pooled_spec_decode_acceptance_histogram"), _aiperf),
    (_has_request_stats, _responses),
    (_has_draft_timings, _llama_cpp),
    (_has("accept_length"), _sglang_bench),
)


def _unwrapped(document: dict[str, Any]) -> dict[str, Any]:
    """A response out of what a proxy keeps of it: its body as an object or as JSON text."""
    for key in ("response", "body", "response_body", "resp_body"):
        inner = document.get(key)
        if isinstance(inner, str):
            try:
                inner = parse_json(inner)
            except ValueError:
                continue
        if isinstance(inner, dict):
            return _unwrapped(inner)
    return document


def _other_format(document: dict[str, Any]) -> str:
    """What a JSON file without acceptance is, as far as its keys tell, and what to give instead."""
    known = {
        "a vllm bench serve result without speculation": ("request_throughput", "mean_ttft_ms"),
        "a GuideLLM report, which has no acceptance": ("benchmarks",),
        "an AIPerf or genai-perf export without speculation": ("request_throughput", "records"),
        "an acceptance trace of SpecDecode-Bench": tuple(key for key in document if key.startswith("acc_"))[:1]
        or ("\0",),
        "a model's config.json": ("architectures",),
    }
    found = next(
        (name for name, keys in known.items() if all(key in document for key in keys)), "JSON of another kind"
    )
    return (
        f"{found}; acceptance is in the server's /metrics or log, in vllm bench serve --save-result, or in AIPerf's "
        "profile_export_aiperf.json of a server with speculation on"
    )


def read_specdecode_bench(path: Path, drafter: str, *, cap: int | None = None) -> TraceAcceptance:
    """A K-free trace of SpecDecode-Bench (arXiv 2601.11580), JSON lines; ``drafter`` is for instance ngram or eagle.

    ``acc_<drafter>.acc_len[i]`` counts the tokens a round commits that starts when i + 1 output tokens stand, bonus
    token included. ``cap``: the longest draft that was tried (default: the longest run seen).
    """
    runs = []
    for document in read_json_documents(path, WHAT):
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


def specdecode_bench_drafters(path: Path) -> list[str]:
    """Drafters whose traces a file of SpecDecode-Bench holds; none of another file."""
    documents = read_json_documents(path, WHAT)
    return sorted({key[4:] for document in documents for key in document if key.startswith("acc_")})


def _histogram(value: Any, path: Path) -> dict[int, int]:
    """Steps by accepted count, given as a list or as a map with counts for keys."""
    pairs: Iterable[tuple[Any, Any]] = enumerate(value) if isinstance(value, list) else ()
    pairs = value.items() if isinstance(value, dict) else pairs
    try:
        found = {int(accepted): int(steps) for accepted, steps in pairs if int(steps)}
    except (TypeError, ValueError, OverflowError):
        found = {}
    if not found or min(found) < 0 or max(found) > MOST_DRAFTED or min(found.values()) < 0:
        raise InvalidInput(f"{path}: no histogram of accepted drafts; record with speculation on")
    return found


def _from_histogram(histogram: dict[int, int], drafted: Any, path: Path) -> tuple[AcceptanceCounts, tuple[str, ...]]:
    steps, most, total = sum(histogram.values()), max(histogram), _number(drafted)
    accepted = sum(count * rounds for count, rounds in histogram.items())
    if total is not None and not accepted <= total <= steps * MOST_DRAFTED:
        raise InvalidInput(
            f"{path}: {accepted:,} of {total:,.0f} drafted tokens accepted in {steps:,} rounds is impossible; the "
            "file is damaged"
        )
    k = most if total is None else max(most, -(-int(total) // steps))
    counts = AcceptanceCounts()
    for count, rounds in histogram.items():
        counts.add(k, count, rounds)
    if total is None:
        return counts, (f"drafted tokens are not given, taken as {max(most, 1)} a round",)
    return counts, shorter_drafts(counts, total)


def _metric(document: dict[str, Any], name: str, statistic: str) -> Any:
    entry = document.get(name)
    return entry.get(statistic) if isinstance(entry, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float | None:
    if _is_number(value) and abs(value) > MOST_ROUNDS:
        raise InvalidInput(f"{shown(value)} is more than any server counts; correct it")
    return float(value) if _is_number(value) else None


def _table(table: dict[str, Any], path: Path) -> AcceptanceCounts:
    counts = AcceptanceCounts()
    try:
        for drafted, row in table.items():
            for accepted, rounds in enumerate(row):
                if int(rounds) < 0 or accepted > int(drafted) > MOST_DRAFTED:
                    raise ValueError
                if int(rounds):
                    counts.add(int(drafted), accepted, int(rounds))
    except (TypeError, ValueError):
        raise InvalidInput(f"{path}: spec_decode_acceptance_counts is not {{d: [rounds by accepted]}}") from None
    if not counts.drafting_rounds():
        raise InvalidInput(f"{path}: no round drafted; give a result of a server with speculation on")
    return counts
