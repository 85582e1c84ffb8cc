"""What a map rests on, in lines: the requests it serves, the engine, the machine and its prices."""

from __future__ import annotations

from specsim.analytic.rounds import SpeedupMap
from specsim.scenario import Scenario


def assumed_lines(scenario: Scenario, speedups: SpeedupMap) -> list[str]:
    """For people: three lines, each of one sentence or list."""
    return [workload_line(speedups), engine_line(scenario), price_line(scenario, speedups)]


def workload_line(speedups: SpeedupMap) -> str:
    """The requests that a batch consists of."""
    context, served = speedups.cells[0].context_tokens, speedups.served
    if served is None:
        return f"Serves: decoding alone at {context:,.0f} tokens of context; prompts cost nothing."
    ends = "all equally long, so that they end together where rounds are alike" if served.waves else "ending at random"
    prompt, output = float(served.prompts.mean()), served.output_tokens
    return (
        f"Serves: requests of {prompt:,.0f} prompt and {output:,.0f} output tokens in the mean, the next one in the "
        f"place of each that ends, {ends}; no prefix is cached."
    )


def engine_line(scenario: Scenario) -> str:
    """Whose behaviour, and its limits."""
    engine = scenario.engine
    host = "asynchronous" if engine.async_scheduling else "synchronous"
    return (
        f"Engine: {engine.name}, {host} scheduling; at most {engine.max_num_seqs} sequences and "
        f"{engine.max_num_batched_tokens:,} tokens a step."
    )


def price_line(scenario: Scenario, speedups: SpeedupMap) -> str:
    """Model, machine, and where seconds come from."""
    return (
        f"Prices: {scenario.model.name} on {scenario.gpu.name} by {speedups.price_name}, worst source of a round: "
        f"{speedups.worst_source()}."
    )
