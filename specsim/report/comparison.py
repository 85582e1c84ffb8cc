"""Drafters side by side, for terminals of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from specsim.planning.compare import Compared, Comparison
from specsim.report.served import number
from specsim.results import Slo, slo_met
from specsim.units import GB


def _narrow(title: str, padding: int = 1) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, padding), show_edge=False, pad_edge=False
    )


def comparison_lines(found: Comparison) -> list[str]:
    """What to take: at the load, and over batch sizes where it changes."""
    best, cell = found.drafters[0], found.drafters[0].at_load
    before, after = found.plain["mean_e2el_ms"], best.served["mean_e2el_ms"] if best.served else None
    with_k = f"{best.name} with {best.draft_tokens} drafts"
    if cell.speedup > 1.0 if after is None else after < before:
        doubt = "" if cell.low > 1 else ", so not certain"
        served = "" if after is None else f"mean E2E {number(before, 1e-3)} s -> {number(after, 1e-3)} s; "
        first = (
            f"{with_k} is best at your load: {served}{cell.speedup:.2f}x output tokens/s at batch {cell.batch} "
            f"(90 % interval {cell.low:.2f} to {cell.high:.2f}{doubt})"
        )
        if best.basis != "measured":
            origin = best.speculation.acceptance_origin
            where = "" if best.basis == "assumed" else f" ({origin.counted_on()})"
            first += f"; its acceptance is {best.basis}{where}, not measured on your traffic"
    else:
        first = f"Off is best at your load: {with_k}, the best of all, loses to it"
    level = ", ".join(one.name for one in found.level_at_load()) if cell.speedup > 1.0 else ""
    tie = [f"Level with {best.name}, as the 90 % intervals of their speed-ups overlap: {level}"] if level else []
    return [first, *tie, f"By batch size: {_ranges(found)}"]


def _ranges(found: Comparison) -> str:
    """``eagle3 up to 64, off from 128``."""
    told: list[tuple[str, int, int]] = []
    for batch in found.batches:
        best = found.winner(batch)
        name = best.name if best is not None else "off"
        if told and told[-1][0] == name:
            told[-1] = (name, told[-1][1], batch)
        else:
            told.append((name, batch, batch))
    return ", ".join(
        f"{name} at {first}" if first == last else f"{name} at {first} to {last}" for name, first, last in told
    )


def by_batch_table(found: Comparison) -> Table:
    """Speed-up over no drafter and the k that gives it; ``*``: the best of a batch size, ``=``: level."""
    table = _narrow("speed-up over no drafter by batch size; k: its best draft length\n*: the best; =: level with it")
    table.add_column("drafter", overflow="fold")
    for batch in found.batches:
        table.add_column(str(batch), justify="right", no_wrap=True)
    winners = {batch: found.winner(batch) for batch in found.batches}
    level = {batch: found.level(batch) for batch in found.batches}
    for one in found.drafters:
        cells = []
        for batch in found.batches:
            if batch not in one.speedups.batches:
                cells.append("-")
                continue
            cell = one.best_drafting(batch)
            text = f"{cell.speedup:.2f}\nk={cell.draft_tokens}"
            mark = "=" if one in level[batch] else ""
            cells.append(f"[bold]*{text}[/bold]" if one is winners[batch] else f"{mark}{text}")
        table.add_row(one.name, *cells)
    speeds = [f"{found.cells[batch].output_tokens_per_s:,.0f}" for batch in found.batches]
    table.add_row("off:\ntokens/s", *speeds)
    return table


def at_load_table(found: Comparison, slo: Slo | None) -> Table:
    """Each drafter simulated under the load with its best k, beside off."""
    table = _narrow(f"at your load (batch {found.load_batch} with no drafter), simulated with its best k", padding=0)
    slo = slo if slo is not None and slo.states_anything else None
    headings = ["drafter", "k", "AL", "speed-up\n(90 %)", "TTFT\np95 ms", "TPOT\np95 ms", "E2E\nmean s", "GB/\nGPU"]
    headings += ["KV\nroom", *(["SLO"] if slo is not None else []), "accep-\ntance"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "drafter" else "right", no_wrap=True)
    for one in found.drafters:
        table.add_row(*_load_row(one, found), *_slo_cell(one.served, slo), one.basis)
    kv = f"{found.plain_kv_tokens / 1e3:,.0f}k"
    table.add_row("off", "0", "1", "1", *_latencies(found.plain), "-", kv, *_slo_cell(found.plain, slo), "-")
    return table


def _load_row(one: Compared, found: Comparison) -> list[str]:
    cell = one.at_load
    kv = one.kv_tokens / found.plain_kv_tokens - 1
    return [
        one.name,
        str(one.draft_tokens),
        f"{cell.tokens_per_round:.2f}",
        f"{cell.speedup:.2f}\n{cell.low:.2f}-{cell.high:.2f}",
        *_latencies(one.served),
        f"+{one.draft_weight_bytes / GB:.2f}",
        f"{kv:+.0%}",
    ]


def _latencies(run: Mapping[str, Any] | None) -> list[str]:
    if run is None:
        return ["-"] * 3
    return [number(run["p95_ttft_ms"]), number(run["p95_tpot_ms"]), number(run["mean_e2el_ms"], 1e-3)]


def _slo_cell(run: Mapping[str, Any] | None, slo: Slo | None) -> list[str]:
    if slo is None:
        return []
    return ["-" if run is None else "met" if slo_met(run, slo) else "missed"]


def acceptance_lines(found: Comparison) -> list[str]:
    """What each drafter's acceptance rests on."""
    lines = []
    for one in found.drafters:
        lines.append(f"  {one.name}: {one.speculation.acceptance_origin.sentence()}")
    return ["Acceptance:", *lines]
