"""A plan for people, in 80 columns: the verdict, the options ranked, what was left out and why, and what if."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.table import Table

from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES
from specsim.planning.plan.choose import HOURS_A_MONTH, Option, Plan
from specsim.planning.plan.fleet import SloLevel
from specsim.planning.plan.growth import GrowthCurve
from specsim.planning.plan.sensitivity import SHARE, Asides, GpuInterval, WhatIf
from specsim.planning.plan.size import LargestRate
from specsim.planning.plan.space import Exclusion
from specsim.planning.plan.start import replica_command
from specsim.report.narrow import narrow_table
from specsim.units import format_gpus, format_seconds


def plan_sentences(plan: Plan, asides: Asides) -> list[str]:
    """The answer, what it is without or with drafts, and how much more load it takes."""
    best, interval, largest = plan.best, asides.interval, asides.largest
    first, *others = plan_answer_sentences(plan)
    sentences = [first, *latency_sentence(best)]
    if interval is not None:
        doubt = "where prices and acceptance err as they may (90 %)"
        also = "also" if interval.low == interval.high else interval_ends(interval)
        sentences.append(f"{format_gpus(best.gpus)}, {also} {doubt}.")
    sentences += others
    if largest is not None:
        sentences.append(headroom_sentence(largest, plan.load.rate_per_s))
    return sentences


def plan_answer_sentences(plan: Plan) -> list[str]:
    """The answer, and what it is the other way, without drafts or with them."""
    best = plan.best
    sentences = [f"{_layout(best)} serve {plan.load.rate_per_s:g} requests/s within the SLO{_costing(best)}."]
    other = plan.best_of(speculation=not best.candidate.kind.speculation)
    how = "Without speculation" if best.candidate.kind.speculation else "With speculation"
    if other is None and plan.drafts_were_tried:
        sentences.append(f"{how} no choice meets it.")
    elif other is not None:
        more = other.candidate.usd(other.replicas) / best.candidate.usd(best.replicas) - 1.0
        unit = "the same cost" if plan.priced else "as many GPUs"
        measure = unit if not more else f"{more:.0%} {'dearer' if plan.priced else 'more GPUs'}"
        sentences.append(f"{how}: {_layout(other)}{_costing(other)}, {measure}.")
    return sentences


def latency_sentence(option: Option) -> list[str]:
    """What requests wait and get, whichever of it the SLO limits; TPOT is none of requests of one token."""
    run = option.size.verdict.summary
    known = {name: run[f"p95_{name.lower()}_ms"] for name in ("TTFT", "TPOT")}
    told = [f"{name} p95 {format_seconds(1e-3 * value)}" for name, value in known.items() if value is not None]
    return [f"Its last run: {', '.join(told)}."] if told else []


def headroom_sentence(largest: LargestRate, rate_per_s: float) -> str:
    """How far the load can grow, and what ends it."""
    growth = largest.rate_per_s / rate_per_s - 1.0
    start = f"It takes {largest.rate_per_s:.3g} requests/s, {growth:.0%} more"
    return f"{start}." if largest.beyond is None else f"{start}; then it {largest.beyond.misses()}."


def _layout(option: Option) -> str:
    candidate, deployment = option.candidate, option.size.deployment
    drafts = candidate.drafts if candidate.drafter else "no speculation"
    pools = deployment.disaggregation
    count = f"{option.replicas} replica{'s' if option.replicas > 1 else ''}"
    if pools is not None:
        count = f"{pools.prefill_replicas} prefill and {pools.decode_replicas} decode replicas"
    shared = f" DP {deployment.data_parallel}" if deployment.data_parallel > 1 else ""
    bits = f", {candidate.kind.weight_bits:g}-bit weights" if candidate.kind.weight_bits is not None else ""
    return f"{option.gpus} {candidate.kind.gpu} ({count} of TP {deployment.tensor_parallel}{shared}{bits}, {drafts})"


def _costing(option: Option) -> str:
    month, tokens = option.usd_per_month, option.usd_per_million_output_tokens
    return "" if month is None else f" for ${month:,.0f} a month, ${tokens:.2f} per million output tokens"


def interval_ends(interval: GpuInterval) -> str:
    return f"{interval.low} or more" if interval.high is None else f"{interval.low} to {interval.high}"


def options_table(plan: Plan) -> Table:
    """The best of each kind, ranked by cost, or by GPUs where there are no prices."""
    basis = "cost" if plan.priced else "GPUs"
    table = narrow_table(f"confirmed by simulation, the best of each kind by {basis}")
    for column, side in (("GPUs", "right"), ("of", "left"), ("replicas", "left"), ("drafts", "left")):
        table.add_column(column, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for column in ("closest limit", *(("$ a month", "$ per M out") if plan.priced else ())):
        table.add_column(column, justify="right")
    for option in plan.options:
        cells = [str(option.gpus), option.candidate.kind.gpu, _replicas(option), option.candidate.drafts]
        cells.append(_used(option.size.verdict.binding))
        if (tokens := option.usd_per_million_output_tokens) is not None:
            cells += [_dollars(option.usd_per_month), f"{tokens:.2f}"]
        table.add_row(*cells)
    return table


def _replicas(option: Option) -> str:
    deployment, pools = option.size.deployment, option.size.deployment.disaggregation
    count = str(option.replicas) if pools is None else f"{pools.prefill_replicas}P+{pools.decode_replicas}D"
    kind, shared = option.candidate.kind, deployment.data_parallel
    marks = [
        f" DP{shared}" if shared > 1 else "",
        f" w{kind.weight_bits:g}" if kind.weight_bits is not None else "",
        f" kv{kind.kv_bits:g}" if kind.kv_bits != 16 else "",
    ]
    return f"{count} x TP{deployment.tensor_parallel}{''.join(marks)}"


def _used(level: SloLevel) -> str:
    if level.name == "goodput":
        return f"{level.value:.1%} good"
    return f"{level.name} {format_seconds(level.value)}"


def excluded_table(excluded: Sequence[Exclusion]) -> Table:
    """What is no answer and why, draft lengths of one reason together."""
    table = narrow_table("left out")
    table.add_column("choice")
    table.add_column("why")
    for what, why in _together(excluded):
        table.add_row(what, why)
    return table


def excluded_lines(excluded: Sequence[Exclusion]) -> list[str]:
    """The same in lines."""
    return [f"{what}: {why}" for what, why in _together(excluded)]


def _together(excluded: Iterable[Exclusion]) -> list[tuple[str, str]]:
    in_order = sorted(excluded, key=lambda one: (one.what, one.why, one.draft_tokens or 0))
    rows = []
    for (what, why), group in groupby(in_order, key=lambda one: (one.what, one.why)):
        lengths = [one.draft_tokens for one in group if one.draft_tokens is not None]
        rows.append((f"{what} k={_spans(lengths)}" if lengths else what, why))
    return rows


def _spans(numbers: Sequence[int]) -> str:
    """1-3,5 for 1, 2, 3 and 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def what_if_table(option: Option, found: Sequence[WhatIf]) -> Table:
    """GPUs of the same kind of deployment where the workload is other than expected."""
    table = narrow_table(f"GPUs where it is otherwise, {option.gpus} as expected")
    table.add_column("what")
    for share in (-SHARE, SHARE):
        table.add_column(f"{share:+.0%}", justify="right")
    for row in found:
        table.add_row(row.what, *("none" if gpus is None else str(gpus) for gpus in (row.lower, row.higher)))
    return table


def later_table(plans: Sequence[Plan]) -> Table:
    """The best with and without drafts at each load, chosen anew."""
    table = narrow_table("chosen anew at each load")
    usd = ("$ a month",) if any(plan.priced for plan in plans) else ()
    for column in ("requests/s", "GPUs", "of", "replicas", "drafts", *usd, "off: GPUs"):
        table.add_column(column, justify="left" if column in ("of", "replicas", "drafts") else "right")
    for plan in plans:
        best, off = plan.best, plan.best_of(speculation=False)
        chosen = best.candidate
        table.add_row(
            f"{plan.load.rate_per_s:g}",
            str(best.gpus),
            chosen.kind.gpu,
            _replicas(best),
            chosen.drafts,
            *([_dollars(best.usd_per_month)] if usd else []),
            "none" if off is None else f"{off.gpus} {off.candidate.kind.gpu}",
        )
    return table


def growth_sentences(curve: GrowthCurve) -> list[str]:
    """How long today's GPUs do, how many the last month asks for, and what all months cost."""
    fleet, other, growth = curve.fleet, curve.other, curve.growth
    today, last = fleet.today, fleet.months[-1]
    months = "month" if growth.months == 1 else f"{growth.months} months"
    start = f"At {growth.percent_per_month:g} % more a month"
    if curve.lasts_months is not None:
        lasting = "lasts" if today.gpus == 1 else "last"
        start += f", {format_gpus(today.gpus)} {lasting} {curve.lasts_months:.1f} months"
        more = next((one.gpus for one in fleet.months if one.gpus > today.gpus), None)
        start += "" if more is None else f" and {more} are needed then"
    found = [f"{start}; month {growth.months} ends with {last.gpus}, at {last.load.rate_per_s:.3g} requests/s."]
    if other is not None and other.usd is not None and fleet.usd is not None:
        how = "with" if other.today.candidate.kind.speculation else "without"
        found.append(f"The {months} cost ${fleet.usd:,.0f}, {how} speculation ${other.usd:,.0f}.")
    elif fleet.usd is not None:
        found.append(f"The {months} cost ${fleet.usd:,.0f}.")
    return found


def growth_table(curve: GrowthCurve) -> Table:
    """Today and the end of each month: the best, and the best the other way."""
    fleets = [curve.fleet] if curve.other is None else [curve.fleet, curve.other]
    priced = curve.fleet.today.usd_per_month is not None
    table = narrow_table("GPUs at the end of each month")
    for column in ("month", "requests/s"):
        table.add_column(column, justify="right")
    for fleet in fleets:
        table.add_column(f"GPUs: {fleet.today.candidate.describe()}", justify="right", max_width=14)
        if priced:
            table.add_column("$ a month", justify="right")
    for month in range(curve.growth.months + 1):
        options = [fleet.months[month - 1] if month else fleet.today for fleet in fleets]
        cells = [
            text for one in options for text in (str(one.gpus), *([_dollars(one.usd_per_month)] if priced else []))
        ]
        table.add_row(str(month) if month else "now", f"{options[0].load.rate_per_s:.3g}", *cells)
    return table


def _dollars(usd: float | None) -> str:
    return "-" if usd is None else f"{usd:,.0f}"


def start_lines(option: Option) -> list[str]:
    """What starts a replica in its engine, and what that leaves to the reader; none where no command does."""
    found = replica_command(option)
    if found is None:
        return []
    files = [f"{name}:\n{content.rstrip()}" for name, content in found.files.items()]
    command = [f"Each replica: {found.text}"] if found.text else []
    return [*command, *files, *(f"Note: {note}." for note in found.notes)]


def plan_lines(plan: Plan) -> list[str]:
    """What the answer rests on."""
    best, verdict = plan.best, plan.best.size.verdict
    lines = [
        f"Simulated: {verdict.runs} runs of {verdict.requests:,} requests under seeds of their own; each meets the "
        "SLO, and with 95 % confidence the next one does."
    ]
    lines.append(f"Prices of steps: {'; '.join(_price_sources(plan.options))}.")
    if plan.priced:
        prices = {one.candidate.kind.gpu: one.candidate.usd_per_gpu_hour for one in plan.options}
        each = ", ".join(f"{name} ${usd:.2f}" for name, usd in prices.items())
        lines.append(f"Cost: {each} an hour and GPU, {HOURS_A_MONTH:.0f} hours a month, machines that are always on.")
    else:
        lines.append("Cost: no price is given, so options rank by GPUs; --price h100=2.50 adds cost.")
    if best.candidate.kind.weight_bits is not None:
        lines.append("Fewer bits: what they do to the model's answers is not looked at.")
    return lines


def _price_sources(options: Sequence[Option]) -> list[str]:
    """Of each GPU the profile, and the least sure source of any option's steps."""
    found: dict[str, str] = {}
    for one in options:
        what = f"{one.candidate.kind.gpu} by {Assembly(one.candidate.scenario).price_name}"
        sources = (found.get(what, SOURCES[0]), str(one.size.verdict.summary["price_source"]))
        found[what] = max(sources, key=SOURCES.index)
    return [f"{what}, at worst {source}" for what, source in sorted(found.items())]
