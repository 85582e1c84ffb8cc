"""What a load generator measured of a server: the load it gave, and throughput and latencies, under vLLM's names.

``vllm bench serve``, SGLang's ``bench_serving``, AIPerf and genai-perf, GuideLLM: known by their keys. A file of
several runs gives several results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specsim.errors import InvalidInput, shown
from specsim.json_file import read_json_documents

WHAT = "a load generator's results"
AIPERF_SPREADS = {"mean": "avg", "median": "p50", "p95": "p95", "p99": "p99"}  # by vLLM's prefix
AIPERF_LATENCIES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2el"}
GUIDELLM_LATENCIES = {"time_to_first_token_ms": "ttft", "inter_token_latency_ms": "tpot"}


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One run. ``concurrency``: of a closed loop; ``rate_per_s``: offered in an open one; None: the file does not say.

    ``acceptance_length`` is None without speculation, ``draft_tokens`` also where the file does not say.
    ``metrics``: ``output_throughput`` and ``request_throughput`` a second, latencies in ms as ``median_ttft_ms``.
    """

    format: str
    requests: int
    prompt_tokens: float  # means a request
    output_tokens: float
    concurrency: int | None = None
    rate_per_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    draft_tokens: int | None = None
    acceptance_length: float | None = None

    def workload(self) -> dict[str, Any]:
        """The ``workload`` mapping of a scenario that gives this load, every request of the mean lengths."""
        arrivals: dict[str, Any] = {"kind": "poisson", "rate_per_s": self.rate_per_s}
        if self.rate_per_s is None:
            arrivals = {"kind": "closed_loop", "concurrency": self.concurrency or 1}
        prompt, output = (max(1, round(tokens)) for tokens in (self.prompt_tokens, self.output_tokens))
        lengths = {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output}
        return {"kind": "synthetic", "arrivals": arrivals, "lengths": lengths, "requests": self.requests}


def read_load_results(path: Path) -> list[LoadResult]:
    """The runs of a file. Raises InvalidInput: not JSON, another format, a count or rate that is none."""
    found: list[LoadResult] = []
    for document in read_json_documents(path, WHAT):
        reader = next((reader for key, reader in _READERS if key in document), None)
        if reader is None:
            raise InvalidInput(
                f"{path}: no result of vllm bench serve, SGLang's bench_serving, AIPerf, genai-perf or GuideLLM; its "
                f"keys are {shown(sorted(document))}"
            )
        found += reader(document, path)
    return found


def _bench_serve(run: dict[str, Any], path: Path) -> list[LoadResult]:
    requests, concurrency = _number(run, "completed", path), _positive(run.get("max_concurrency"))
    latencies = {key: value for key in run if key.endswith("_ms") and (value := _positive(run[key])) is not None}
    return [
        LoadResult(
            format="SGLang bench_serving" if "server_info" in run else "vllm bench serve",
            requests=int(requests),
            prompt_tokens=_number(run, "total_input_tokens", path) / requests,
            output_tokens=_number(run, "total_output_tokens", path) / requests,
            concurrency=None if concurrency is None else int(concurrency),
            rate_per_s=_positive(run.get("request_rate")),
            metrics={key: _number(run, key, path) for key in ("output_throughput", "request_throughput")} | latencies,
            draft_tokens=_drafted(run),
            acceptance_length=_positive(run.get("spec_decode_acceptance_length", run.get("accept_length"))),
        )
    ]


def _drafted(run: dict[str, Any]) -> int | None:
    """Drafts a round: vLLM's rates by position, or SGLang's nodes, the root among them."""
    rates = run.get("spec_decode_per_position_acceptance_rates")
    if isinstance(rates, list) and rates:
        return len(rates)
    nodes = _positive(_object(run, "server_info").get("speculative_num_draft_tokens"))
    return None if nodes is None or nodes < 2 else int(nodes) - 1


def _aiperf(document: dict[str, Any], path: Path) -> list[LoadResult]:
    metrics = {
        "request_throughput": _statistic(document, "request_throughput", "avg", path),
        "output_throughput": _statistic(document, "output_token_throughput", "avg", path),
    }
    for name, short in AIPERF_LATENCIES.items():
        values = {prefix: _positive(_object(document, name).get(key)) for prefix, key in AIPERF_SPREADS.items()}
        metrics |= {f"{prefix}_{short}_ms": value for prefix, value in values.items() if value is not None}
    given = _object(document, "input_config")
    load = _object(given, "loadgen") or _object(_object(given, "perf_analyzer"), "stimulus")
    concurrency = _positive(load.get("concurrency"))
    seconds = _positive(_object(document, "benchmark_duration").get("avg")) or 0.0
    counted = _positive(_object(document, "request_count").get("avg"))
    return [
        LoadResult(
            format="AIPerf",
            requests=max(1, round(counted or metrics["request_throughput"] * seconds)),
            prompt_tokens=_statistic(document, "input_sequence_length", "avg", path),
            output_tokens=_statistic(document, "output_sequence_length", "avg", path),
            concurrency=None if concurrency is None else int(concurrency),
            rate_per_s=_positive(load.get("request_rate")),
            metrics=metrics,
            acceptance_length=_positive(_object(document, "spec_decode_acceptance_length").get("avg")),
        )
    ]


def _guidellm(document: dict[str, Any], path: Path) -> list[LoadResult]:
    runs = document["benchmarks"]
    if not isinstance(runs, list) or not runs:
        raise InvalidInput(f"{path}: 'benchmarks' lists no run; give GuideLLM's benchmarks.json of a finished run")
    return [_guidellm_run(run, Path(f"{path}, benchmark {number}")) for number, run in enumerate(runs)]


def _guidellm_run(run: Any, where: Path) -> LoadResult:
    told = _object(run, "metrics") if isinstance(run, dict) else {}
    good = {name: _object(entry, "successful") for name, entry in told.items() if isinstance(entry, dict)}
    metrics = {
        "request_throughput": _statistic(good, "requests_per_second", "mean", where),
        "output_throughput": _statistic(good, "output_tokens_per_second", "mean", where),
    }
    for name, short in GUIDELLM_LATENCIES.items():
        statistics = _object(good, name) | _object(_object(good, name), "percentiles")
        values = {prefix: _positive(statistics.get(prefix)) for prefix in ("mean", "median", "p95", "p99")}
        metrics |= {f"{prefix}_{short}_ms": value for prefix, value in values.items() if value is not None}
    return LoadResult(
        format="GuideLLM",
        requests=int(_statistic(told, "request_totals", "successful", where)),
        prompt_tokens=_statistic(good, "prompt_token_count", "mean", where),
        output_tokens=_statistic(good, "output_token_count", "mean", where),
        concurrency=max(1, round(_statistic(good, "request_concurrency", "mean", where))),
        metrics=metrics,
    )


def _object(owner: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = owner.get(key)
    return value if isinstance(value, dict) else {}


def _statistic(document: Mapping[str, Any], name: str, key: str, where: Path) -> float:
    return _number(_object(document, name), key, where, f"{name}.{key}")


def _number(owner: Mapping[str, Any], key: str, where: Path, name: str | None = None) -> float:
    value = _positive(owner.get(key))
    if value is None:
        raise InvalidInput(f"{where}: {name or key} is {shown(owner.get(key))}; a finished run has a number above 0")
    return value


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


_READERS: tuple[tuple[str, Callable[[dict[str, Any], Path], list[LoadResult]]], ...] = (
    ("benchmarks", _guidellm),
    ("time_to_first_token", _aiperf),
    ("output_throughput", _bench_serve),
)
