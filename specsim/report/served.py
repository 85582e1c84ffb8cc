"""Runs under load for people: the SLO's answer, the figures with units side by side, what limited each run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from specsim.assembly import Assembly
from specsim.report.sheet import Sheet
from specsim.results import Slo, SloFinding, slo_findings, slo_met
from specsim.units import format_seconds

Summaries = Mapping[str, Mapping[str, Any]]  # by alternative
NEVER_MIND = 0.01  # share of the time in which some wait that is not worth a word


class Figure(NamedTuple):
    """A metric of a summary by its key, as people read it: label with unit, and what the value is multiplied by."""

    key: str
    label: str
    scale: float = 1.0


def _latencies(key: str, label: str, unit: str, scale: float) -> tuple[Figure, ...]:
    return tuple(Figure(f"p{p}_{key}_ms", f"{label} p{p}, {unit}", scale) for p in (50, 90, 95, 99))


FIGURES = (
    Figure("completed", "requests served"),
    Figure("failed", "requests turned away"),
    Figure("duration", "duration, s"),
    Figure("request_throughput", "requests/s"),
    Figure("request_goodput", "goodput, requests/s"),
    Figure("goodput_share", "goodput, % of requests", 100.0),
    Figure("output_throughput", "output tokens/s"),
    Figure("output_throughput_per_gpu", "output tokens/s/GPU"),
    *_latencies("ttft", "TTFT", "ms", 1.0),
    *_latencies("tpot", "TPOT", "ms", 1.0),
    *_latencies("itl", "ITL", "ms", 1.0),
    *_latencies("e2el", "E2E", "s", 1e-3),
    Figure("spec_decode_acceptance_length", "tokens a drafting round"),
    Figure("spec_decode_acceptance_rate", "drafts accepted, %"),
    Figure("mean_batch", "batch size, mean"),
    Figure("mean_kv_cache_usage", "KV cache used, mean %", 100.0),
    Figure("peak_kv_cache_usage", "KV cache used, peak %", 100.0),
    Figure("prefix_cache_hit_rate", "prompt found in cache, %", 100.0),
    Figure("preemptions", "preemptions"),
    Figure("steps", "engine steps"),
)
MEANS = tuple(f"{mean}_{latency}_ms" for latency in ("ttft", "tpot", "itl", "e2el") for mean in ("mean", "median"))
PREDICTED = (*(figure.key for figure in FIGURES), *MEANS)  # what intervals are predicted of
ALWAYS = {"completed", "preemptions"}  # others are left out where no alternative has any


def number(value: object, scale: float = 1.0) -> str:
    """Three digits, or all before the point."""
    if not isinstance(value, int | float):
        return "-"
    scaled = value * scale
    if isinstance(value, int) and scale == 1.0:
        return f"{value:,}"
    digits = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:,.{digits}f}"


def short_name(alternative: str) -> str:
    """``speculation on`` as on, ``speculation.program=eagle3`` as program=eagle3: for a column's heading."""
    path, separator, value = alternative.partition("=")
    return f"{path.rpartition('.')[2]}={value}" if separator else alternative.removeprefix("speculation ")


def shown_figures(summaries: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Those that some summary has a value for, other than 0."""
    return [one for one in FIGURES if one.key in ALWAYS or any(summary.get(one.key) for summary in summaries)]


def run_table(summaries: Summaries, base: str | None = None) -> Table:
    """One run of each alternative; beside each what it changes of ``base``, which comes first."""
    names = sorted(summaries, key=lambda name: name != base)
    against = base if base in summaries and len(names) == 2 else None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("one run of each" if len(names) > 1 else "one run", no_wrap=True)
    for name in names:
        table.add_column(short_name(name), justify="right", overflow="fold")
    if against is not None:
        table.add_column("change", justify="right")
    for figure in shown_figures(list(summaries.values())):
        values = [summaries[name].get(figure.key) for name in names]
        change = [_change(values[0], values[1])] if against is not None else []
        table.add_row(figure.label, *(number(value, figure.scale) for value in values), *change)
    for flag, label in (("saturated", "queue kept growing"), ("truncated", "cut short")):
        if any(summary.get(flag) for summary in summaries.values()):
            table.add_row(label, *("yes" if summaries[name].get(flag) else "no" for name in names))
    return table


def _change(before: object, after: object) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float) or not before:
        return ""
    return f"{after / before - 1:+.1%}"


def slo_line(summary: Mapping[str, Any], slo: Slo) -> str:
    """``SLO met: TTFT p95 172 ms (limit 1 s, 83 % below)``, each bound in turn."""
    found = slo_findings(summary, slo)
    missed = [one for one in found if not one.met]
    told = "; ".join(_told(one) for one in sorted(found, key=lambda one: one.met))
    if slo_met(summary, slo):
        return f"SLO met: {told}"
    if missed:
        return f"SLO missed: {told}"
    why = "the queue kept growing" if summary["saturated"] else "the run was cut short"
    return f"SLO missed: {why}, so that latencies depend on the run's length; {told}"


def _told(finding: SloFinding) -> str:
    name, ratio = bound_name(finding.name), finding.ratio
    if ratio is None or finding.value is None:
        return f"{name} has no value"
    if finding.name == "goodput":
        return f"{finding.value:.1%} of requests within their limits ({finding.limit:.0%} asked)"
    return f"{name} {format_seconds(finding.value)} (limit {format_seconds(finding.limit)}, {_side(ratio)})"


def bound_name(name: str) -> str:
    """``ttft p95`` as TTFT p95."""
    return re.sub("ttft|tpot|itl|e2e", lambda found: found[0].upper(), name)


def _side(ratio: float) -> str:
    return f"{abs(ratio - 1):.0%} {'above' if ratio > 1 else 'below'}"


def slo_sheet(runs: Summaries, slo: Slo) -> Sheet:
    """Each bound: what is asked, and for each alternative what its run shows and by how much that is met or missed."""
    found = {name: slo_findings(summary, slo) for name, summary in runs.items()}
    rows = []
    for place, bound in enumerate(next(iter(found.values()))):
        asked = f"{bound.limit:.1%}" if bound.name == "goodput" else format_seconds(bound.limit)
        rows.append([bound_name(bound.name), asked, *(_met(each[place]) for each in found.values())])
    rows.append(["SLO", "", *("met" if slo_met(summary, slo) else "missed" for summary in runs.values())])
    return Sheet("", ("bound", "asked", *map(short_name, runs)), rows)


def _met(finding: SloFinding) -> str:
    mark = "" if finding.met else "missed: "
    if finding.ratio is None or finding.value is None:
        return f"{mark}no value"
    if finding.name == "goodput":
        return f"{mark}{finding.value:.1%}"
    return f"{mark}{format_seconds(finding.value)}, {_side(finding.ratio)}"


def limited_line(summary: Mapping[str, Any], assembly: Assembly) -> str | None:
    """What held the run back; None for a run that was not simulated.

    Where hardly any request waited for room, the speed of a step did: what the decode round of the mean batch waits
    for.
    """
    waited, limits = summary.get("waited_for"), summary.get("limits")
    if waited is None or limits is None:
        return None
    names = {
        "max_num_seqs": f"max_num_seqs, {limits['max_num_seqs']:,}",
        "max_num_batched_tokens": f"the tokens of a step, {limits['max_num_batched_tokens']:,}",
        "kv_cache": f"the KV cache, {limits['num_kv_blocks']:,} blocks",
    }
    told = [
        f"{names[name]} ({share:.0%} of the time)"
        for name, share in sorted(waited.items(), key=lambda one: -one[1])
        if share >= NEVER_MIND
    ]
    batch = max(1.0, summary["mean_batch"] or 1.0)
    rounds = summary.get("spec_decode_num_drafts")
    drafts = summary["spec_decode_draft_tokens"] / rounds if rounds else 0.0
    k = min(assembly.choices(), key=lambda one: abs(one - drafts))
    bound = str(np.asarray(assembly.cost.decode_round(batch, k, assembly.context_tokens).bound))
    speed = f"a decode round at the mean batch, {batch:.0f}, waits for {bound}"
    return f"requests waited for {', '.join(told)}; {speed}" if told else f"no request waited for room; {speed}"
