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
    as_json: JsonOption = False,
) -> None:
    """Speed-up of every draft length at every batch size, by formula."""
    from specsim.analytic.rounds import speedup_map
    from specsim.report.tables import map_table, split_table
    from specsim.report.verdict import verdict
    from specsim.scenario import load_scenario

    question = load_scenario(scenario, settings or ())
    speedups = speedup_map(question, batches=whole_numbers(batches, "--batches"), context_tokens=context)
    if as_json:
        print_json(speedups.as_json())
        return
    out = console()
    answer = verdict(speedups, batch)
    out.print(f"[bold]{answer.sentence}[/bold]\n{answer.limits}")
    out.print(map_table(speedups))
    out.print(split_table(speedups))
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
