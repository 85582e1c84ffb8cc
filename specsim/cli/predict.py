"""``specsim predict``: the batch × k map of a scenario."""

from __future__ import annotations

from typing import Annotated

import typer

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, print_json


def predict(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    batches: Annotated[str | None, typer.Option(help="Batch sizes, comma-separated; default 1, 2, 4, ...")] = None,
    context: Annotated[float | None, typer.Option(help="KV length in tokens; default the workload's mean.")] = None,
    batch: Annotated[int, typer.Option(help="Running sequences that the verdict speaks about.")] = 1,
    exit_layers: Annotated[
        str | None, typer.Option(help="Also choose among these exit layers of an early-exit drafter, comma-separated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Speed-up of every draft length at every batch size, by formula."""
    from specsim.analytic.exits import best_exits
    from specsim.analytic.rounds import speedup_map
    from specsim.assembly import assemble
    from specsim.report.tables import acceptance_line, exit_table, map_table, split_table
    from specsim.report.verdict import verdict
    from specsim.scenario import load_scenario

    question = load_scenario(scenario, settings or ())
    sizes, layers = whole_numbers(batches, "--batches"), whole_numbers(exit_layers, "--exit-layers")
    machine = assemble(question)
    speedups = speedup_map(machine, batches=sizes, context_tokens=context)
    exits = best_exits(machine, layers, batches=sizes, context_tokens=context) if layers else ()
    if as_json:
        print_json(speedups.as_json() | ({"exits": [best.as_json() for best in exits]} if exits else {}))
        return
    out = console()
    answer = verdict(speedups, batch)
    out.print(f"[bold]{answer.sentence}[/bold]\n{answer.limits}")
    out.print(map_table(speedups))
    out.print(split_table(speedups))
    if exits:
        out.print(exit_table(exits))
    out.print(acceptance_line(speedups), soft_wrap=True, markup=False)
    out.print(
        f"{question.model.name} on {question.gpu.name}, prices: {speedups.price_name}, "
        f"context {speedups.cells[0].context_tokens:.0f} tokens",
        soft_wrap=True,
    )


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """``1,2,4`` as integers; raises InvalidInput for anything else."""
    from specsim.errors import InvalidInput

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(f"{option} {text!r} is not a list of whole numbers; write for instance 1,2,4") from None
