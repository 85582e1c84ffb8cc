"""``specsim fit``: what an engine's logs say of acceptance, as a law for a scenario."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json

if TYPE_CHECKING:
    from specsim.interop.acceptance import AcceptanceRecord, LawOfLogs
    from specsim.speculation.fit import ChosenLaw, Estimate


def fit(
    logs: Annotated[
        list[Path],
        typer.Argument(help="Dumps of /metrics, server logs, bench JSON, responses or acceptance traces."),
    ],
    out: Annotated[
        Path, typer.Option(help="The law's file: paste it, or give its path as speculation.acceptance.")
    ] = Path("acceptance.yaml"),
    before: Annotated[
        Path | None, typer.Option(help="An earlier dump of the same server's /metrics; only what came after counts.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where a dump holds several.")] = None,
    drafter: Annotated[str | None, typer.Option(help="Which drafter, where a trace holds several.")] = None,
    concentration: Annotated[
        float | None,
        typer.Option(
            min=1e-3, max=1e6, help="How alike requests are, from elsewhere: of their Beta law, for pooled counters."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The acceptance law of your logs, chosen by rounds held back, with what they cannot tell."""
    from specsim.interop.acceptance import law_of_logs, read_log_files
    from specsim.kept_files import replace_text
    from specsim.report.fitted_acceptance import law_lines, law_yaml, untold_lines

    records = read_log_files(logs, before, model=model, drafter=drafter)
    found = law_of_logs(records, concentration=concentration)
    told, untold = law_lines(found.chosen), untold_lines(found.chosen, found.rounds)
    names = ", ".join(f"{path.name} ({record.format})" for path, record in zip(logs, records, strict=True))
    replace_text(out, law_yaml(found.chosen, [f"fitted by specsim fit to {names}", *told]))
    notes = [note for record in records for note in record.notes]
    if as_json:
        print_json(_document(found.chosen) | {"not_told": untold, "notes": notes, "file": str(out)})
        return
    _print(logs, records, found, told, untold)
    for note in notes:
        messages().print(f"note: {note}", markup=False)
    messages().print(f"wrote {out}; use it with --set speculation.acceptance={out}", markup=False)


def _print(
    logs: list[Path], records: list[AcceptanceRecord], found: LawOfLogs, told: list[str], untold: list[str]
) -> None:
    from specsim.report.fitted_acceptance import candidates_table, read_table

    screen = console()
    for line in told:
        screen.print(line, markup=False)
    screen.print(read_table(logs, records, found.used))
    if found.chosen.candidates:
        screen.print(candidates_table(found.chosen))
    for line in ("what these logs cannot tell:", *(f"  {line}" for line in untold)):
        screen.print(line, markup=False)


def _document(chosen: ChosenLaw) -> dict[str, Any]:
    from specsim.report.fitted_acceptance import law_fields

    return {
        "acceptance": law_fields(chosen),
        "law": chosen.name,
        "level": chosen.level,
        "draft_tokens": chosen.draft_tokens,
        "acceptance_length": _numbers(chosen.acceptance_length),
        "numbers": {name: _numbers(one) for name, one in chosen.numbers.items()},
        "candidates": [asdict(one) for one in chosen.candidates],
    }


def _numbers(one: Estimate) -> dict[str, float | None]:
    values = {"value": one.value, "low": one.low, "high": one.high}
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
