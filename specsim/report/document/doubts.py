"""What may turn out otherwise: sensitivity and risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specsim.analytic.speedups import SpeedupMap
from specsim.planning.load_curve import Otherwise, own_load
from specsim.planning.plan.answer import PlanAnswer
from specsim.planning.plan.choose import Plan
from specsim.planning.plan.sensitivity import SHARE
from specsim.report.document.answers import OFF, Answers, ServedAnswer, bounded
from specsim.report.document.blocks import Bullets, DocumentBlock, Paragraph, Section
from specsim.report.document.decision import best_name
from specsim.report.plan import interval_ends
from specsim.report.served import number
from specsim.report.sheet import Sheet
from specsim.results import Slo, slo_met
from specsim.scenario import Scenario
from specsim.serving.uncertainty import PredictedInterval

NOT_MODELLED = "encoders, LoRA, caches outside of the GPUs, pipeline parallelism, aborted requests"
CROWDED = 0.7  # share of what can be served from which on bursts hurt: queues grow as 1 / (1 - share)
FULL = 0.9  # of the KV cache


def sensitivity(served: ServedAnswer, plan: PlanAnswer | None, slo: Slo | None) -> Section:
    """The load, lengths and acceptance a fifth otherwise, prices and acceptance as wrong as they may be."""
    name, bounds = best_name(served), bounded(slo)
    header = ["", *(["E2E off\nmean s"] if name != OFF else []), f"E2E {name}\nmean s", "TTFT\np95 ms", "TPOT\np95 ms"]
    header += [*(["SLO"] if bounds is not None else []), *(["GPUs"] if plan is not None else [])]
    gpus = {} if plan is None else _gpus(plan)
    rows = []
    for one in served.otherwise:
        best = one.runs[name]
        off = [] if name == OFF else [number(one.runs[OFF]["mean_e2el_ms"], 1e-3)]
        met = [] if bounds is None else ["met" if slo_met(best, bounds) else "missed"]
        count = [] if plan is None else [gpus.get((one.what, one.change), "")]
        rows.append([_what(one), *off, *_latencies(best), *met, *count])
    rows.append(_unsure_row(served, plan, len(header), skips=name != OFF))
    told = (
        f"One thing at a time {SHARE:.0%} other than expected, simulated with the same requests; last, 90 % intervals "
        f"of what prices of steps, acceptance and the front end leave open together. TTFT, TPOT: those of {name}."
    )
    blocks: list[DocumentBlock] = [Paragraph(told), Sheet("", header, rows)]
    if plan is not None and (line := _price_line(plan.plan)) is not None:
        blocks.append(Paragraph(line))
    return Section("If it is otherwise", blocks)


def _what(one: Otherwise) -> str:
    return f"{one.what} {one.change:+.0%}" if one.what else "as expected"


def _latencies(run: Mapping[str, object]) -> list[str]:
    keys = (("mean_e2el_ms", 1e-3), ("p95_ttft_ms", 1.0), ("p95_tpot_ms", 1.0))
    return [number(run[key], scale) for key, scale in keys]


def _gpus(plan: PlanAnswer) -> dict[tuple[str, float], str]:
    found = {("", 0.0): str(plan.plan.best.gpus)}
    for one in plan.asides.what_ifs:
        for change, gpus in ((-SHARE, one.lower), (SHARE, one.higher)):
            found[one.what, change] = "none" if gpus is None else str(gpus)
    return found


def _unsure_row(served: ServedAnswer, plan: PlanAnswer | None, width: int, *, skips: bool) -> list[str]:
    keys = (("mean_e2el_ms", 1e-3), ("p95_ttft_ms", 1.0), ("p95_tpot_ms", 1.0))
    told = [_ends(served.unsure.get(key), scale) for key, scale in keys]
    row = ["prices, acceptance", *([""] if skips else []), *told]
    interval = None if plan is None else plan.asides.interval
    last = [] if plan is None else ["" if interval is None else interval_ends(interval)]
    return [*row, *[""] * (width - len(row) - len(last)), *last]


def _ends(found: PredictedInterval | None, scale: float) -> str:
    return "" if found is None else f"{number(found.low, scale)} to\n{number(found.high, scale)}"


def _price_line(plan: Plan) -> str | None:
    """By how much the next best type of GPU would have to be cheaper; None with one type, or without prices."""
    best = plan.best
    others = [one for one in plan.options if one.candidate.kind.gpu != best.candidate.kind.gpu]
    if not plan.priced or not others:
        return None
    other = others[0]
    cheaper = 1.0 - best.candidate.usd(best.replicas) / other.candidate.usd(other.replicas)
    names = best.candidate.kind.gpu, other.candidate.kind.gpu
    return f"{names[0]} stays the cheapest until an hour of {names[1]} costs {cheaper:.0%} less."


def risks(scenario: Scenario, speedups: SpeedupMap, found: Answers, warned: Sequence[str]) -> Section:
    """What could make the answer wrong, from the answer itself."""
    served, plan = found.served.answer, found.plan.answer
    worst = speedups.worst_source() if served is None else str(served.runs[best_name(served)]["price_source"])
    lines = [*warned, *_of_acceptance(scenario, speedups), *_of_prices(worst)]
    if served is not None:
        lines += [*_of_certainty(served), *_of_room(served), *_of_load(served)]
    lines += _of_workload(scenario)
    if plan is not None and plan.plan.best.replicas == 1:
        lines.append("One replica: while it restarts nobody is served; a second one is not in the count of GPUs.")
    return Section("Risks", [Bullets([*lines, f"Not modelled: {NOT_MODELLED}."])])


def _of_acceptance(scenario: Scenario, speedups: SpeedupMap) -> list[str]:
    origin = speedups.acceptance
    if origin is None or origin.basis == "measured":
        return []
    assert scenario.speculation is not None
    return [
        f"The acceptance of {scenario.speculation.drafter_name()} is {origin.basis}, not measured on this traffic: "
        "specsim fit reads yours from the engine's own logs."
    ]


def _of_prices(worst: str) -> list[str]:
    if worst in ("measured", "interpolated"):
        return []
    meant = {
        "extrapolated": "some steps lie beyond what was measured of this GPU's kernels",
        "borrowed": "nobody measured this GPU's kernels here: a sibling's efficiencies stand in",
        "roofline": "no measurement of this GPU is in use: steps are priced from its datasheet",
    }.get(worst, f"the least sure source of a step is {worst}")
    return [f"Prices: {meant}; specsim profile run measures your own."]


def _of_certainty(served: ServedAnswer) -> list[str]:
    confirmation = None if served.decision is None else served.decision.confirmation
    if confirmation is None or confirmation.sure:
        return []
    cell = confirmation.cell
    return [
        f"Whether drafting pays is not certain: the speed-up's 90 % interval is {cell.low:.2f} to {cell.high:.2f}."
    ]


def _of_room(served: ServedAnswer) -> list[str]:
    run, lines = served.runs[best_name(served)], list[str]()
    peak = run.get("peak_kv_cache_usage")
    if peak is not None and peak > FULL:
        lines.append(f"The KV cache was {peak:.0%} full at its peak; longer requests, or more of them, are preempted.")
    if run.get("preemptions"):
        lines.append(f"{run['preemptions']:,} requests were preempted and computed anew.")
    return lines


def _of_load(served: ServedAnswer) -> list[str]:
    """How far the load is from what the deployment serves."""
    name = best_name(served)
    own = own_load(served.scenarios[name])
    if own.clients is not None:
        return []
    steady = [one.level for one in served.curve if not one.runs[name]["saturated"]]
    if served.runs[name]["saturated"]:
        return ["The load is more than the deployment serves: its queue kept growing, and latencies have no figure."]
    share = own.rate_per_s / max(steady)
    return [f"The load is {share:.0%} of the largest that was seen to be served; bursts have little room."] * (
        share > 0.7
    )


def _of_workload(scenario: Scenario) -> list[str]:
    lengths = getattr(scenario.workload, "lengths", None)
    lines = []
    if getattr(lengths, "kind", None) == "fixed":
        lines.append(
            "Every request has the same lengths here; where they vary, waits and the KV cache vary with them."
        )
    if getattr(scenario.workload.arrivals, "kind", None) == "poisson":
        lines.append(
            "Arrivals are Poisson, at one rate: bursts and busy hours need a trace, or gamma or diurnal arrivals."
        )
    return lines
