"""A scenario as a file to start from: its fields with what each is, what was assumed, and what to write instead."""

from __future__ import annotations

from typing import Any

import yaml

from specsim.scenario.question import Scenario
from specsim.scenario.short import Asked

HEAD = """\
# A question to specsim. Ask it:  specsim predict FILE, simulate FILE, tune FILE, compare FILE
# Every field, its unit and default: specsim schema --text; of one section: specsim schema workload.arrivals
# SI units: seconds, bytes. What is left out is what the named engine does by default.
"""
COMMENTS = {
    "model": "a bundled name (specsim schema model tells its fields), a hub name, or a config.json or its folder",
    "gpu": "a bundled name, or the folder of your own profile (specsim profile run)",
    "deployment": "tensor_parallel GPUs share each layer of a replica; kv_bits 8 and weight_bits 8 or 4 quantise",
    "engine": "vllm, sglang or tensorrt-llm, its version, and the limits that differ from its defaults",
    "speculation": "the drafter (specsim systems lists them), and how long it drafts; null is off",
    "workload": "what arrives: kinds of arrivals are poisson, gamma, piecewise, diurnal, closed_loop",
    "cost": "profile: whose kernel times; source: kernels, steps or roofline",
    "slo": "bounds on percentiles: p50, p90, p95, p99 of ttft_s, tpot_s, itl_s, e2e_s; goodput: {share: 0.95}",
    "seed": "of arrivals, lengths and acceptance",
}
NO_DRAFTER = """\
# speculation:            # no drafter: add one of specsim systems
#   program: eagle3
#   max_draft_tokens: 3
"""
NO_SLO = """\
# slo:                    # what to promise; simulate, tune and plan then answer it
#   ttft_s: {p95: 1.0}
#   tpot_s: {p95: 0.04}
"""


def commented_yaml(asked: Asked, notes: tuple[str, ...] = ()) -> str:
    """The question as YAML with comments; ``notes``: what its source said and no field could hold."""
    order = [field.alias or name for name, field in Scenario.model_fields.items()]
    fields = {name: asked.fields[name] for name in order if asked.fields.get(name) not in (None, {})}
    parts = [HEAD]
    parts += [f"# assumed: {one}\n" for one in asked.assumed]
    parts += [f"# note: {one}\n" for one in notes]
    for name, value in fields.items():
        comment = f"\n# {COMMENTS[name]}\n" if name in COMMENTS else ""
        parts.append(comment + _dumped({name: value}))
        if name == "speculation":
            parts.append(_acceptance_comment(asked))
    parts += ["\n" + NO_DRAFTER] if "speculation" not in fields else []
    parts += ["\n" + NO_SLO] if "slo" not in fields else []
    return "".join(parts)


def _dumped(fields: dict[str, Any]) -> str:
    """Block style, the innermost mappings and lists on one line."""
    if not isinstance(next(iter(fields.values())), dict | list):
        return yaml.safe_dump(fields, allow_unicode=True)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _acceptance_comment(asked: Asked) -> str:
    speculation = asked.scenario.speculation
    stated = asked.fields["speculation"]
    if speculation is None or not isinstance(stated, dict) or "acceptance" in stated:
        return ""
    origin = speculation.acceptance_origin.sentence()
    longest = f"max_draft_tokens is {speculation.max_draft_tokens} unless you give it, and "
    return (
        f"  # {'' if 'max_draft_tokens' in stated else longest}acceptance is\n"
        f"  # {origin}.\n"
        "  # Yours, from the server's own log or /metrics: specsim import acceptance FILE, or\n"
        "  # acceptance: {kind: unconditional, rates: [0.74, 0.54, 0.41]}\n"
    )
