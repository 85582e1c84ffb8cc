"""What an answer rests on, in lines: the requests it serves, acceptance, the engine, the machine and its prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specsim.analytic.speedups import SpeedupMap
from specsim.scenario import Scenario, Speculation
from specsim.scenario.short import Asked
from specsim.specs.formats import Stored, format_of, format_on
from specsim.specs.mixers import Attention
from specsim.specs.recurrent import Recurrent
from specsim.units import GB


def assumed_lines(scenario: Scenario, speedups: SpeedupMap) -> list[str]:
    """For people: lines of one sentence or list each."""
    prices = price_line(scenario, speedups.price_name, speedups.worst_source())
    return [
        workload_line(speedups),
        *acceptance_line(speedups),
        engine_line(scenario),
        prices,
        *deployment_lines(scenario),
    ]


def run_lines(scenario: Scenario, price_name: str, worst_source: str | None) -> list[str]:
    """What a simulated run rests on besides its requests."""
    prices = price_line(scenario, price_name, worst_source)
    return [*drafter_line(scenario), engine_line(scenario), prices, *deployment_lines(scenario)]


def drafter_line(scenario: Scenario) -> list[str]:
    """Which drafter, and where its acceptance is from; no line without one."""
    speculation = scenario.speculation
    if speculation is None or not speculation.program.drafts:
        return []
    return [
        f"Drafter: {speculation.drafter_name()}, up to {speculation.max_draft_tokens} drafts a round; acceptance "
        f"{speculation.acceptance_origin.sentence()}."
    ]


def longest_draft(asked: Asked) -> list[str]:
    """Up to which draft length an answer looks, where the question left it to the program."""
    speculation, stated = asked.scenario.speculation, asked.fields.get("speculation")
    if speculation is None or not speculation.program.drafts:
        return []
    if isinstance(stated, dict) and "max_draft_tokens" in stated:
        return []
    longest, name = speculation.max_draft_tokens, speculation.program.name
    return [
        f"{longest} drafts a round at most, {name}'s usual number (--draft-tokens N for more; tune finds the best)"
    ]


def tried_longer(asked: Asked, longest: int) -> list[str]:
    """That an answer looked at longer drafts than the program's usual number; nothing where it did not."""
    speculation = asked.scenario.speculation
    if speculation is None or longest <= speculation.max_draft_tokens:
        return []
    return [
        f"up to {longest} drafts a round tried; predict and simulate stop at {speculation.max_draft_tokens}, "
        f"{speculation.program.name}'s usual number, unless --draft-tokens says more"
    ]


def unstated_line(assumed: Sequence[str]) -> list[str]:
    """What a short question left open; no line where it left nothing open."""
    return [f"Assumed: {'; '.join(assumed)}."] if assumed else []


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


def acceptance_line(speedups: SpeedupMap) -> list[str]:
    """How many tokens a round of the longest draft commits, and where that is from; no line without a drafter."""
    if speedups.acceptance is None:
        return []
    longest = max(speedups.cells, key=lambda cell: cell.draft_tokens)
    drafts = "1 draft" if longest.draft_tokens == 1 else f"{longest.draft_tokens} drafts"
    return [
        f"Acceptance: {longest.tokens_per_round:.2f} tokens a round with {drafts}, {speedups.acceptance.sentence()}."
    ]


def engine_line(scenario: Scenario) -> str:
    """Whose behaviour, and its limits."""
    engine = scenario.engine
    host = "asynchronous" if engine.async_scheduling else "synchronous"
    return (
        f"Engine: {engine.name}, {host} scheduling; at most {engine.max_num_seqs} sequences and "
        f"{engine.max_num_batched_tokens:,} tokens a step; {_weights(scenario)}, KV cache of "
        f"{scenario.deployment.kv_bits:g} bits."
    )


def _weights(scenario: Scenario) -> str:
    """``weights of 16 bits, the model's own``: how most are stored, and whether the model comes so."""
    own, stated = scenario.model.stored, scenario.deployment.stored
    if stated is None or stated == own:
        return f"weights {_stored(own)}, the model's own"
    return f"weights {_stored(stated)}, in place of the model's {_stored(own).removeprefix('of ')}"


def _stored(stored: Stored) -> str:
    return f"of {stored.bits:g} bits" if stored.format is None else f"in {stored.format}"


def deployment_lines(scenario: Scenario) -> list[str]:
    """What replicas do for each other; none where each does all."""
    deployment, lines = scenario.deployment, format_lines(scenario)
    if (pools := deployment.disaggregation) is not None:
        first, link = "prefill" if scenario.engine.rules == "sglang" else "decode", pools.kv_link
        lines.append(
            f"Pools: {pools.prefill_replicas} prefill and {pools.decode_replicas} decode replicas; each GPU's KV, the "
            f"drafter's too, moves at {link.rate_on(scenario.gpu) / GB:g} GB/s after {1e3 * link.latency_s:g} ms; a "
            f"{first} replica computes the first token."
        )
    if (group := deployment.expert_group) is not None:
        lines.append(
            f"Experts: divided among {group.gpus} GPUs of {group.data_parallel} replicas in lockstep, all loaded "
            f"alike; the busiest GPU's experts get {group.imbalance:g} of the mean."
        )
    return [*lines, *memory_line(scenario)]


def format_lines(scenario: Scenario) -> list[str]:
    """Formats of weights that the card runs as another one."""
    gpu, stored = scenario.gpu, scenario.deployment.stored or scenario.model.stored
    kept = [one.stored for one in scenario.model.linears() if one.stored is not None]
    names = dict.fromkeys(one.format for one in (stored, *kept) if one.format is not None)
    runs = {name: one for name in names if (one := format_on(name, gpu)) != name and format_of(name).bits < 16}
    return [
        f"Weights: stored in {name}, run as {other}: {gpu.name} has no {format_of(name).rate} arithmetic that engines "
        "use for it, so weights are widened before they multiply."
        for name, other in runs.items()
    ]


def memory_line(scenario: Scenario) -> list[str]:
    """What is not modelled of a cache that windows and states share with layers that keep all tokens."""
    mixers = [mixer for mixer, _ in scenario.model.stack().mixers]
    windows = any(isinstance(mixer, Attention) and (mixer.window or mixer.chunk) for mixer in mixers)
    states = any(isinstance(mixer, Recurrent) for mixer in mixers)
    if scenario.engine.rules == "sglang" and (windows or states):
        return ["Memory: SGLang's pools of their own for windows and for states are not modelled; all share one."]
    if windows:
        return ["Memory: what windows hold until a chunk of a long prompt is computed is not modelled."]
    return []


def price_line(scenario: Scenario, price_name: str, worst_source: str | None) -> str:
    """Model, machine, and where seconds come from."""
    model, gpu = scenario.model.name, scenario.gpu.name
    worst = "" if worst_source is None else f", worst source of a step: {worst_source}"
    return f"Prices: {model} on {gpu} by {price_name}{worst}."


def ranking_line(drafters: Iterable[Speculation | None]) -> str | None:
    """What comparing techniques is worth where acceptance was not measured on this workload; None: no such ones."""
    asked = [one for one in drafters if one is not None and one.program.drafts]
    foreign = [f"{_called(one)} ({one.acceptance_origin.counted_on()})" for one in asked if _is_foreign(one)]
    if len({one.program.name for one in asked}) < 2 or not foreign:
        return None
    return (
        f"Acceptance of {', '.join(dict.fromkeys(foreign))} is that of their own publications, each on its own target "
        "and data: this ranks benchmarks, not drafters on your traffic."
    )


def _is_foreign(speculation: Speculation) -> bool:
    return speculation.acceptance_origin.basis != "measured"


def _called(speculation: Speculation) -> str:
    """The program, for one draft model may be another's too."""
    draft = speculation.draft_model
    return speculation.program.name if draft is None else f"{speculation.program.name} with {draft.name}"
