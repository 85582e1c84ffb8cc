"""``specsim predict``: the batch × k map of a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup
from specsim.cli.lists import COUNTS, WholeNumbers, list_option, whole_numbers
from specsim.cli.options import JsonOption, console, print_json, progress_of
from specsim.cli.question import Question, takes_question

if TYPE_CHECKING:
    from specsim.analytic.exits import Exit
    from specsim.analytic.load import LoadBatch
    from specsim.analytic.speedups import SpeedupMap
    from specsim.assembly import Assembly
    from specsim.report.verdict import Verdict
    from specsim.scenario import Asked


@dataclass(frozen=True, slots=True)
class MapOptions(OptionGroup):
    """Which cells the map has, and what they count."""

    batches: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "Batch sizes, comma-separated; default 1, 2, 4, ..."),
    ] = None
    context: Annotated[
        float | None, typer.Option(help="Decoding alone at this KV length in tokens, whatever the workload.")
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(help="Batch size the verdict speaks about; default what the load leads to."),
    ] = None
    decode_only: Annotated[bool, typer.Option("--decode-only", help="Leave out what prompts cost.")] = False

    def answered(self, machine: Assembly) -> tuple[SpeedupMap, LoadBatch]:
        """The map, and the batch that the verdict speaks about."""
        from specsim.analytic.load import answered_map

        with progress_of("draft lengths") as progress:
            return answered_map(
                machine,
                batch=self.batch,
                batches=self.batches,
                context_tokens=self.context,
                decode_only=self.decode_only,
                progress=progress,
            )


@takes_question
def predict(
    question: Question,
    cells: MapOptions,
    exit_layers: Annotated[
        WholeNumbers | None,
        list_option(whole_numbers(), "Also choose among these exit layers of an early-exit drafter, comma-separated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Speed-up of every draft length at every batch size, prompts included, by formula."""
    from specsim.analytic.exits import best_exits
    from specsim.assembly import assemble
    from specsim.report.predicted import prediction_json
    from specsim.report.verdict import verdict

    asked = question.ask()
    machine = assemble(asked.scenario)
    speedups, load = cells.answered(machine)
    exits: Sequence[Exit] = ()
    if exit_layers is not None:
        exits = best_exits(
            machine,
            exit_layers,
            batches=speedups.batches,
            context_tokens=cells.context,
            decode_only=cells.decode_only,
        )
    answer = verdict(speedups, load)
    if as_json:
        document = prediction_json(asked, speedups, answer)
        print_json(document | ({"exits": [best.as_json() for best in exits]} if exits else {}))
    else:
        _print(asked, speedups, exits, answer)


def _print(asked: Asked, speedups: SpeedupMap, exits: Sequence[Exit], answer: Verdict) -> None:
    from specsim.report.assumed import assumed_lines, longest_draft, unstated_line
    from specsim.report.tables import exit_table, map_table, split_table

    out = console()
    out.print(f"[bold]{answer.sentence}[/bold]\n{answer.about}\n{answer.limits}\n")
    out.print(map_table(speedups))
    out.print()
    out.print(split_table(speedups))
    if exits:
        out.print(exit_table(exits))
    out.print()
    for line in (*assumed_lines(asked.scenario, speedups), *unstated_line((*asked.assumed, *longest_draft(asked)))):
        out.print(line, markup=False)
