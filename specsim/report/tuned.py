"""What tune found, for people: the verdict, the candidates under the load, the schedule by batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from specsim.planning.confirm import OFF, SCHEDULE, Confirmation, Trial
from specsim.planning.tune import Tuning
from specsim.report.served import number, slo_line
from specsim.results import Slo, slo_met


def _narrow(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False, pad_edge=False
    )


def confirmed_lines(found: Confirmation, slo: Slo | None) -> list[str]:
    """On or off, which k, how much faster, how sure; what the SLO says."""
    bounds = [slo] if slo is not None and slo.states_anything else []
    return [f"[bold]{decision_sentence(found)}[/bold]", *(_slo_line(found, one) for one in bounds)]


def _slo_line(found: Confirmation, slo: Slo) -> str:
    """Of the chosen candidate: means over the seeds, as its row has them, or the first run that misses the SLO."""
    chosen = found.chosen
    missed = [(seed, run) for seed, run in zip(found.seeds, chosen.runs, strict=True) if not slo_met(run, slo)]
    if not missed:
        return slo_line(chosen.summary(), slo)
    seed, run = missed[0]
    return f"With seed {seed}: {slo_line(run, slo)}"


def formula_sentence(tuning: Tuning) -> str:
    """What the schedule is worth at every batch."""
    if not tuning.pays:
        return f"By formula no k pays at any batch size up to {tuning.batches[-1].batch}."
    mean, low, high = tuning.gain_over_off()
    return (
        f"By formula the best single k over all batch sizes is {tuning.fixed_draft_tokens}; the schedule gives "
        f"{tuning.gain_over_fixed():.2f}x its output tokens/s, and {mean:.2f}x the output tokens/s of no drafter "
        f"(90 %: {low:.2f} to {high:.2f}): means over batch sizes {tuning.batches[0].batch} to "
        f"{tuning.batches[-1].batch}, "
        f"each doubling alike, at {tuning.context_tokens:,.0f} tokens of context."
    )


def decision_sentence(found: Confirmation) -> str:
    """On or off, which k, how much faster, how sure."""
    cell, off = found.cell, found.trial(OFF)
    doubt = "" if found.sure else ", so not certain"
    gain = (
        f"{cell.speedup:.2f}x output tokens/s at batch {cell.batch} (90 % interval {cell.low:.2f} to "
        f"{cell.high:.2f}{doubt})"
    )
    best = found.best_fixed()
    if found.off:
        return (
            f"OFF: mean E2E {number(off.e2e_s)} s; {best.name}, the best of all draft lengths, "
            f"{number(best.e2e_s)} s; by formula {gain}"
        )
    what = "the schedule" if found.chosen.name == SCHEDULE else f"{found.chosen.policy.longest} drafts a round"
    beside = ""
    if found.chosen.name == SCHEDULE:
        beside = f", best single k ({best.policy.longest}) {number(best.e2e_s)} s"
    return f"ON, {what}: mean E2E {number(off.e2e_s)} s off -> {number(found.chosen.e2e_s)} s{beside}; {gain}"


def trials_table(found: Confirmation, slo: Slo | None) -> Table:
    """Every candidate under the load: means over the seeds, the chosen one marked."""
    asked = slo if slo is not None and slo.states_anything else None
    seeds = f"seeds {found.seeds[0]} to {found.seeds[-1]}"
    table = _narrow(f"your load simulated, {seeds}; * chosen")
    table.add_column("drafts")
    for heading in ("E2E\nmean s", "vs off", "TTFT\np95 ms", "TPOT\np95 ms", "output\ntok/s", "batch"):
        table.add_column(heading, justify="right")
    if asked is not None:
        table.add_column("SLO", justify="right")
    off = found.trial(OFF)
    for one in found.trials:
        mark = "*" if one is found.chosen else " "
        met = [] if asked is None else ["met" if one.meets(asked) else "missed"]
        table.add_row(f"{mark}{one.name}", *_trial_row(one, off), *met)
    return table


def _trial_row(one: Trial, off: Trial) -> list[str]:
    keys = ("p95_ttft_ms", "p95_tpot_ms", "output_throughput", "mean_batch")
    faster = off.e2e_s / one.e2e_s
    return [f"{one.e2e_s:.3g}", f"{faster:.2f}x", *(number(one.mean(key)) for key in keys)]


def context_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """The best k by batch size (rows) and KV length (columns), decoding alone; 0 is off."""
    table = _narrow("best draft length by KV length in tokens, decoding alone")
    table.add_column("batch", justify="right")
    rows: dict[int, list[str]] = {}
    for column, one in enumerate(found):
        table.add_column(f"{one['context_tokens']:,}", justify="right")
        for best in one["best"]:
            cells = rows.setdefault(best["batch"], [])
            cells += ["-"] * (column - len(cells))
            k = f"k={best['draft_tokens']}" if best["draft_tokens"] else "off"
            cells.append(f"{k} {best['speedup']:.2f}")
    for batch, cells in sorted(rows.items()):
        table.add_row(str(batch), *cells, *["-"] * (len(found) - len(cells)))
    return table


def schedule_table(tuning: Tuning) -> Table:
    """Speed-up over no drafter at both ends of each range of a batch -> k schedule, beside the best single k's."""
    table = _narrow("batch size -> draft length k, by formula")
    priced = tuning.batches[-1].batch
    if priced < tuning.max_num_seqs:
        table.caption, table.caption_justify = f"speed-ups up to batch {priced}, the largest priced", "left"
    for column in ("batch", "k", "speed-up", "90 % interval", f"k={tuning.fixed_draft_tokens} throughout"):
        table.add_column(column, justify="right")
    for first, last, k in tuning.ranges():
        inside = [row for row in tuning.batches if first <= row.batch <= last]
        low, high = min(row.low for row in inside), max(row.high for row in inside)
        table.add_row(
            f"{first}-{last}" if last > first else str(first),
            str(k) if k else "off",
            *(_both_ends(inside[0].speedup, inside[-1].speedup), f"{low:.2f} to {high:.2f}"),
            _both_ends(inside[0].fixed_speedup, inside[-1].fixed_speedup),
        )
    return table


def _both_ends(first: float, last: float) -> str:
    return f"{first:.2f}" if f"{first:.2f}" == f"{last:.2f}" else f"{first:.2f} to {last:.2f}"
