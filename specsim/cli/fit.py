"""``specsim fit``: what an engine's logs say of acceptance, as a law for a scenario."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from specsim.cli.options import JsonOption, console, messages, print_json


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
        typer.Option(min=1e-3, help="How alike requests are, from elsewhere: of their Beta law, for pooled counters."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The acceptance law of your logs, chosen by rounds held back, with what they cannot tell."""
    from specsim.errors import InvalidInput
    from specsim.interop.acceptance import read_log_file, rounds_of
    from specsim.kept_files import replace_text
    from specsim.report.fitted_acceptance import (
        candidates_table,
        law_fields,
        law_lines,
        law_yaml,
        read_table,
        untold_lines,
    )
    from specsim.speculation.fit import choose_law, law_of_mean, spread_given

    if before is not None and len(logs) > 1:
        raise InvalidInput(f"--before belongs to one dump of /metrics and {len(logs)} logs are given; give it alone")
    records = [read_log_file(path, before, model=model, drafter=drafter) for path in logs]
    rounds = None
    used: tuple[bool, ...] = (True,) + (False,) * (len(records) - 1)
    if any(record.counts is not None for record in records):
        rounds, used = rounds_of(records)
        chosen = choose_law(rounds)
    else:
        mean = records[0].mean
        assert mean is not None  # a record has counts or a mean
        chosen = law_of_mean(mean.acceptance_length, mean.draft_tokens, mean.rounds)
    if concentration is not None:
        if rounds is not None and not rounds.pooled:
            raise InvalidInput(
                "--concentration is for pooled counters; these logs tell requests apart, so leave it out"
            )
        chosen = spread_given(chosen, concentration)
    told, untold = law_lines(chosen), untold_lines(chosen, rounds)
    names = ", ".join(f"{path.name} ({record.format})" for path, record in zip(logs, records, strict=True))
    replace_text(out, law_yaml(chosen, [f"fitted by specsim fit to {names}", *told]))
    notes = [note for record in records for note in record.notes]
    if as_json:
        document: dict[str, Any] = {
            "acceptance": law_fields(chosen),
            "law": chosen.name,
            "level": chosen.level,
            "draft_tokens": chosen.draft_tokens,
            "acceptance_length": _numbers(chosen.acceptance_length),
            "numbers": {name: _numbers(one) for name, one in chosen.numbers.items()},
            "candidates": [asdict(one) for one in chosen.candidates],
            "not_told": untold,
            "notes": notes,
            "file": str(out),
        }
        print_json(document)
        return
    screen = console()
    screen.print(read_table(logs, records, used))
    if chosen.candidates:
        screen.print(candidates_table(chosen))
    for line in told:
        screen.print(line, markup=False, soft_wrap=True)
    screen.print("what these logs cannot tell:")
    for line in untold:
        screen.print(f"  {line}", markup=False, soft_wrap=True)
    for note in notes:
        messages().print(f"note: {note}", markup=False)
    messages().print(f"wrote {out}; use it with --set speculation.acceptance={out}", markup=False)


def _numbers(one: Any) -> dict[str, float | None]:
    import math

    return {
        name: value if math.isfinite(value) else None
        for name, value in (("value", float(one.value)), ("low", float(one.low)), ("high", float(one.high)))
    }
