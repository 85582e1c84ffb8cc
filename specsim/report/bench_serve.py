"""What ``vllm bench serve --save-result`` says of a benchmark besides its figures, for a scenario."""

from __future__ import annotations

from typing import Any

from specsim.scenario import Scenario
from specsim.workload.arrivals import ClosedLoopArrivals, GammaArrivals, PoissonArrivals


def bench_serve_header(scenario: Scenario) -> dict[str, Any]:
    """Backend, model and load under that command's keys, and the engine and deployment that are assumed.

    ``burstiness`` is the shape of Gamma gaps, 1/cv². A closed loop has request_rate "inf" and its clients as
    max_concurrency, as that command writes it.
    """
    workload, model = scenario.workload, scenario.model.name
    arrivals, clients = workload.arrivals, workload.clients
    burstiness = None
    if isinstance(arrivals, PoissonArrivals | GammaArrivals):
        burstiness = 1.0 if isinstance(arrivals, PoissonArrivals) else 1 / arrivals.cv**2
    return {
        "endpoint_type": "specsim",
        "backend": "specsim",
        "label": scenario.name,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": workload.count(),
        "request_rate": _request_rate(scenario),
        "burstiness": burstiness,
        "max_concurrency": None if clients is None else clients.concurrency,
        "serving_engine": scenario.assumed_engine(),
        "deployment": scenario.assumed_deployment(),
    }


def _request_rate(scenario: Scenario) -> float | str | None:
    """Mean arrivals per second; "inf" in a closed loop, None where all of a trace arrive at once."""
    arrivals = scenario.workload.arrivals
    if isinstance(arrivals, ClosedLoopArrivals):
        return "inf"
    if arrivals is not None:
        return arrivals.mean_rate_per_s()
    times = scenario.workload.draw(scenario.seed).arrival_s
    if times is None or times[-1] == times[0]:
        return None
    return float((len(times) - 1) / (times[-1] - times[0]))
