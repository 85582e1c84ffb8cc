"""How a point is answered: a question in, one row of numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from specsim.analytic.load import load_batch
from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.planning.sweep.points import AnswerName
from specsim.scenario import Scenario

AnswerRow = dict[str, Any]  # numbers, texts and None
SUMMARY = (
    "output_throughput", "request_throughput", "request_goodput", "spec_decode_acceptance_length",
    "median_ttft_ms", "p95_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "p95_tpot_ms", "p99_tpot_ms", "median_e2el_ms",
    "p99_e2el_ms", "completed", "preemptions", "saturated",
)  # fmt: skip


class Answer(Protocol):
    """Answers one question. A worker anywhere calls it, so it is a function of a module."""

    def __call__(self, scenario: Scenario) -> AnswerRow: ...


def predicted(scenario: Scenario) -> AnswerRow:
    """By formula, at the batch that the load leads to and the draft length of the policy, or the best where it varies.

    Its speed-up comes with the bounds of its 90 % interval. Raises NoAnswer where the models do not fit.
    """
    machine, speculation = assemble(scenario), scenario.speculation
    fixed = speculation is None or speculation.policy.kind == "fixed"
    batch = load_batch(machine).batch
    lengths = [0 if speculation is None else speculation.policy.longest or 0] if fixed else None
    found = speedup_map(machine, batches=[batch], draft_lengths=lengths)
    k = found.best()[0].draft_tokens
    cell = found.cell(batch, k)
    rate = cell.output_tokens_per_s * scenario.deployment.decode_replicas
    return _common(scenario, k, rate, cell.output_tokens_per_s / cell.batch) | {
        "batch": float(cell.batch),
        "speedup": cell.speedup,
        "speedup_low": cell.low,
        "speedup_high": cell.high,
        "tokens_per_round": cell.tokens_per_round,
        "round_ms": 1e3 * cell.round_s,
        "bound": cell.bound,
        "source": cell.source,
        "prices": found.price_name,
    }


def simulated(scenario: Scenario) -> AnswerRow:
    """By one simulation under the scenario's seed. Raises NoAnswer where the models or a request do not fit."""
    from specsim.serving.simulate import simulate  # numba comes with it

    machine = assemble(scenario)
    summary = simulate(machine).summary(scenario.slo)
    tpot_ms = summary["median_tpot_ms"]
    row = _common(scenario, machine.longest, summary["output_throughput"], 1e3 / tpot_ms if tpot_ms else None)
    told = {name: summary[name] for name in SUMMARY}
    return (
        row | told | {"batch": summary["mean_batch"], "source": summary["price_source"], "prices": machine.price_name}
    )


def planned(scenario: Scenario) -> AnswerRow:
    """Fewest replicas of the scenario's own deployment and drafter that meet its SLO at its load, by simulation.

    Raises InvalidInput without an SLO, NoAnswer where no number of replicas meets it.
    """
    from specsim.planning.plan.choose import choose
    from specsim.planning.plan.load import own_load
    from specsim.planning.plan.named import Named

    deployment, speculation = scenario.deployment, scenario.speculation
    lengths = () if speculation is None else (speculation.max_draft_tokens,)
    named = Named(tensor_parallel=(deployment.tensor_parallel,), draft_tokens=lengths)
    space, _ = named.space(scenario)
    own = tuple(one for one in space.drafters if (one is None) == (speculation is None))
    load = own_load(scenario)
    best = choose(scenario, replace(space, drafters=own), load).best
    summary = best.size.verdict.summary
    _, output = scenario.workload.mean_lengths()
    sized = scenario.model_copy(update={"deployment": best.size.deployment})
    binding, tpot_ms = best.binding, summary["median_tpot_ms"]
    row = _common(sized, lengths[0] if lengths else 0, load.rate_per_s * output, 1e3 / tpot_ms if tpot_ms else None)
    return row | {
        "batch": summary["mean_batch"],
        "rate_per_s": load.rate_per_s,
        "binds": binding.name,
        "binds_used": binding.used,
        "source": summary["price_source"],
        "prices": assemble(scenario).price_name,
    }


ANSWERS: Mapping[AnswerName, Answer] = {"predict": predicted, "simulate": simulated, "plan": planned}


def _common(scenario: Scenario, draft_tokens: int, tokens_per_s: float, per_user: float | None) -> AnswerRow:
    """What every row says; throughput is that of all replicas, per user that of a request while it decodes."""
    deployment, speculation = scenario.deployment, scenario.speculation
    gpus = deployment.replicas * deployment.tensor_parallel
    return {
        "model": scenario.model.name,
        "gpu": scenario.gpu.name,
        "gpus": gpus,
        "tensor_parallel": deployment.tensor_parallel,
        "replicas": deployment.replicas,
        "drafter": "off" if speculation is None else speculation.drafter_name(),
        "draft_tokens": draft_tokens,
        "output_tokens_per_s": tokens_per_s,
        "output_tokens_per_s_per_gpu": tokens_per_s / gpus,
        "output_tokens_per_s_per_user": per_user,
    }
