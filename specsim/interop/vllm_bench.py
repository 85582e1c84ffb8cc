"""``vllm bench forward`` (vLLM 0.33 and later): its case file written, its ``--output-json`` read as ``steps`` rows.

That command times the target's pass, and a configured drafter's unless ``--exclude-drafter``, as one CUDA graph.
Sampling, rejection and the host's share of a step are not in it. A KV length counts the new tokens, as in steps.csv.
Lengths are drawn within ±50 % unless it runs with ``--kv-len-jitter 0``; a drawn batch is kept by its mean.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from specsim.errors import InvalidInput, kind_of
from specsim.json_file import parse_json
from specsim.profiles.schema import Row
from specsim.profiles.steps import StepShape
from specsim.text_file import read_text

RESULT_KEYS = {"case", "requests", "median_us", "ranks"}
RANK_KEYS = {
    "num_tokens",
    "kv_blocks",
    "routing",
    "latency_us",
    "graph_vs_eager",
    "drafter",
    "profile",
    "timing_scope",
}
REQUEST_KEYS = {"query_len", "kv_len", "num_draft_tokens", "chunked"}
LATENCY_KEYS = {"timer", "median", "mean", "std", "min", "p90", "sample_spread_pct", "count", "samples_us"}


def write_cases(path: Path, shapes: Iterable[StepShape]) -> int:
    """Write the case file for ``vllm bench forward --shapes PATH --kv-len-jitter 0``; returns the number of cases."""
    cases = [{"name": case_name(shape), "requests": _requests(shape)} for shape in shapes]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cases": cases}, indent=1) + "\n")
    return len(cases)


def case_name(shape: StepShape) -> str:
    """For instance ``b16-q4-kv4096-d3``, with ``-p512`` where a prompt chunk rides along."""
    name = f"b{shape.sequences}-q{shape.query_len}-kv{shape.kv_len}-d{shape.num_draft_tokens}"
    return f"{name}-p{shape.prefill_tokens}" if shape.prefill_tokens else name


def _requests(shape: StepShape) -> list[dict[str, Any]]:
    def request(query_len: int, kv_len: int, drafts: int, count: int) -> dict[str, Any]:
        chunked = query_len > drafts + 1 and kv_len > query_len  # else its prefix counts as a prefix-cache hit
        return {
            "query_len": query_len,
            "kv_len": kv_len,
            "num_draft_tokens": drafts,
            "chunked": chunked,
            "count": count,
        }

    found = [request(shape.query_len, shape.kv_len, shape.num_draft_tokens, shape.sequences)]
    if shape.prefill_tokens:
        found.append(request(shape.prefill_tokens, shape.prefill_tokens, 0, 1))
    return found


@dataclass(frozen=True, slots=True)
class ForwardResults:
    """``rows`` of steps.csv; ``unknown``: by case, keys and values this reader does not know; ``left_out``: cases that
    mix query lengths, which the table has no columns for.
    """

    rows: list[Row]
    unknown: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_forward(path: Path, *, dtype: str, kernel: str, without_drafter: Path | None = None) -> ForwardResults:
    """The measured batches of one ``--output-json`` file.

    A run of the target alone gives part ``verify``. A run with its drafter gives ``total``, or, with the file of a
    second run made with ``--exclude-drafter``, ``verify`` from that one and ``draft`` from the difference of medians.
    ``kernel``: engine, model and drafter, as in ``vllm 0.33.0/llama-3.1-8b/eagle3``. Unknown keys are kept in the
    result with one warning. Raises InvalidInput: no such file, not that format, a key missing (file and case).
    """
    results = ForwardResults([])
    cases = _read(path, results)
    alone = {} if without_drafter is None else {case.shape: case for case in _read(without_drafter, results)}
    for case in cases:
        if not case.drafter:
            results.rows.append(case.row("verify", dtype, kernel))
        elif case.shape not in alone:
            results.rows.append(case.row("total", dtype, kernel))
        else:
            target = alone[case.shape]
            results.rows.extend([target.row("verify", dtype, kernel), case.less(target).row("draft", dtype, kernel)])
    if results.unknown:
        keys = sorted({key for found in results.unknown.values() for key in found})
        warnings.warn(f"{path}: kept but not understood: {', '.join(keys)}", stacklevel=2)
    return results


@dataclass(frozen=True, slots=True)
class _Case:
    shape: tuple[float, ...]
    drafter: bool
    median_s: float
    p10_s: float
    p90_s: float
    samples: int

    def row(self, part: str, dtype: str, kernel: str) -> Row:
        return Row(
            shape=self.shape,
            operation=part,
            dtype=dtype,
            kernel=kernel,
            cache="cold",
            mode="graph",
            median_s=self.median_s,
            p10_s=self.p10_s,
            p90_s=self.p90_s,
            samples=self.samples,
            source="vllm bench forward",
        )

    def less(self, target: _Case) -> _Case:
        """What the drafter adds. Spreads of the two runs add up, for they are of independent samples."""
        median = max(self.median_s - target.median_s, 1e-9)
        low, high = self.p10_s - target.p90_s, self.p90_s - target.p10_s
        samples = min(self.samples, target.samples)
        return _Case(self.shape, True, median, min(median, max(low, 1e-9)), max(median, high), samples)


def _read(path: Path, results: ForwardResults) -> list[_Case]:
    try:
        document = parse_json(read_text(path, "a vllm bench forward --output-json"))
    except ValueError:
        raise InvalidInput(f"{path} is not JSON; give the file of vllm bench forward --output-json") from None
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise InvalidInput(f"{path} is not a list of cases; give the file of vllm bench forward --output-json")
    cases = (_case(entry, path, results) for entry in document)
    return [case for case in cases if case is not None]


def _case(entry: dict[str, Any], path: Path, results: ForwardResults) -> _Case | None:
    name = str(entry.get("case", "?"))
    where = f"{path}, case {name!r}"
    ranks = _get(entry, "ranks", list, where)
    if not ranks:
        raise InvalidInput(f"{where}: 'ranks' is empty; run the case again")
    latency = _get(ranks[0], "latency_us", dict, where)
    requests = _get(entry, "requests", list, where)
    known = [(entry, RESULT_KEYS), (ranks[0], RANK_KEYS), (latency, LATENCY_KEYS)]
    known += [(request, REQUEST_KEYS) for request in requests]
    unknown = {key: value for found, keys in known for key, value in found.items() if key not in keys}
    if unknown:
        results.unknown[name] = unknown
    shape = _shape(requests, where)
    if shape is None:
        results.left_out.append(name)
        return None
    drafter = ranks[0].get("timing_scope", "") == "target_and_drafter" or bool(ranks[0].get("drafter"))
    median = _number(entry, "median_us", where) / 1e6
    low, high, samples = _spread(latency, median, where)
    return _Case(shape, drafter, median, low, high, samples)


def _spread(latency: dict[str, Any], median: float, where: str) -> tuple[float, float, int]:
    """p10, p90 in seconds and samples; without single samples the smallest and the median stand for them."""
    samples = latency.get("samples_us") or []
    if samples:
        low, high = (float(value) / 1e6 for value in np.percentile(samples, [10, 90]))
        return min(low, median), max(high, median), len(samples)
    low = _number(latency, "min", where) / 1e6
    high = float(latency.get("p90", latency.get("median", 0.0))) / 1e6
    return min(low, median), max(high, median), int(_number(latency, "count", where))


def _shape(requests: list[dict[str, Any]], where: str) -> tuple[float, ...] | None:
    """Shape columns of a batch, or None if it mixes query lengths other than decodes beside prompt chunks."""
    if not requests:
        raise InvalidInput(f"{where}: 'requests' is empty; run the case again")
    found = [
        tuple(int(_number(r, key, where)) for key in ("query_len", "kv_len", "num_draft_tokens")) for r in requests
    ]
    decodes = [r for r in found if r[0] == r[2] + 1 and r[1] > r[0]]
    prompts = [r for r in found if r not in decodes]
    main, beside = (decodes, prompts) if decodes else (prompts, [])
    if len({(query_len, drafts) for query_len, _, drafts in main}) > 1:
        return None
    query_len, _, drafts = main[0]
    mean_kv = sum(kv_len for _, kv_len, _ in main) / len(main)
    return (float(len(main)), float(query_len), mean_kv, float(drafts), float(sum(r[0] for r in beside)))


def _get(owner: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(value, kind):
        raise InvalidInput(
            f"{where}: {key!r} is missing or not {kind_of(kind())}; give vllm bench forward's own output"
        )
    return value


def _number(owner: dict[str, Any], key: str, where: str) -> float:
    value = owner.get(key) if isinstance(owner, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{where}: {key!r} is missing or no number; give vllm bench forward's own output")
    return float(value)
