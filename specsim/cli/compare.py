"""``specsim compare``: which drafter for a model and a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup
from specsim.cli.lists import COUNTS, Names, WholeNumbers, list_option, names
from specsim.cli.options import JsonOption, console, messages, print_json, progress_bar
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.planning.compare import Comparison
    from specsim.scenario import Asked, Scenario


@dataclass(frozen=True, slots=True)
class DrafterOptions(OptionGroup):
    """What is compared, and how it is known to fare."""

    drafters: Annotated[
        Names | None,
        list_option(names, "Drafters, comma-separated: techniques, draft models, files; default those engines serve."),
    ] = None
    fit: Annotated[
        list[str] | None,
        typer.Option(help="Acceptance from your logs: FILE for the one drafter, or DRAFTER=FILE (repeatable)."),
    ] = None

    def asked(self, question: Question) -> tuple[dict[str, Asked], dict[str, str]]:
        """(the question with each drafter, those that were left out and why)."""
        from specsim.planning.compare import with_each

        left_out: dict[str, str] = {}
        compared = list(self.drafters or _usual(question, left_out))
        logs = _logs(self.fit or (), compared)
        asked = with_each(
            compared,
            lambda name: _with_drafter(question, name, logs.get(name, [])),
            None if self.drafters else left_out,
        )
        return asked, left_out


@takes_question
def compare(
    question: Question,
    choice: DrafterOptions,
    batches: Annotated[
        WholeNumbers | None,
        list_option(COUNTS, "Batch sizes, comma-separated; default 1, 2, 4, .. 128."),
    ] = None,
    simulated: Annotated[
        int, typer.Option(min=0, help="How many are simulated at the load, the best by formula.")
    ] = 12,
    as_json: JsonOption = False,
) -> None:
    """Drafters and off side by side: speed-up by batch size, best k, memory, TTFT and TPOT at the load."""
    from specsim.planning.compare import compare as find

    asked, left_out = choice.asked(question)
    scenarios = {name: one.scenario for name, one in asked.items()}
    with progress_bar() as bar:
        task = bar.add_task("", total=1 + len(asked) + min(simulated, len(asked)), completed=-1)
        found = find(
            scenarios,
            left_out=left_out,
            batches=batches,
            simulated=simulated,
            progress=lambda name: bar.update(task, description=name, advance=1),
        )
    _print(found, next(iter(asked.values())), scenarios, as_json=as_json)


def _usual(question: Question, left_out: dict[str, str]) -> list[str]:
    """The drafter that the question itself names, and what engines serve with such a model."""
    from specsim.planning.compare import usual_drafters

    plain = replace(question, short=question.short | {"drafter": "off", "draft_tokens": None}).ask().scenario
    usual, left = usual_drafters(plain.model, question.options().drafter)
    left_out |= left
    return usual


def _with_drafter(question: Question, name: str, logs: list[Path]) -> Asked:
    """The question with this drafter, its acceptance from logs if there are any."""
    asked = replace(question, short=question.short | {"drafter": name}).ask()
    if not logs:
        return asked
    from specsim.interop.acceptance import read_log_files
    from specsim.planning.compare import accepting_as_logged

    return accepting_as_logged(asked, read_log_files(logs), ", ".join(map(str, logs)))


def _logs(fits: Sequence[str], compared: list[str]) -> dict[str, list[Path]]:
    """By drafter, the logs that its acceptance is fitted to. Raises InvalidInput where it is not clear whose."""
    found: dict[str, list[Path]] = {}
    for text in fits:
        name, separator, file = text.partition("=")
        if not separator and len(compared) != 1:
            raise InvalidInput(f"--fit {text!r} does not say whose log it is; write DRAFTER={text}")
        drafter = name if separator else compared[0]
        if drafter not in compared:
            raise InvalidInput(
                f"--fit names drafter {drafter!r}, which is not compared; compared: {', '.join(compared)}"
            )
        found.setdefault(drafter, []).append(Path(file if separator else text))
    return found


def _print(found: Comparison, asked: Asked, scenarios: dict[str, Scenario], *, as_json: bool) -> None:
    from specsim.report.assumed import deployment_lines, engine_line, ranking_line, unstated_line
    from specsim.report.comparison import acceptance_lines, at_load_table, by_batch_table, comparison_lines

    for name, why in found.left_out.items():
        messages().print(f"left out, {name}: {why}", markup=False)
    question = asked.scenario
    assumed = [one for one in asked.assumed if not one.startswith(("the acceptance", "draft model"))]
    if as_json:
        document = {"name": question.name, "assumed": assumed, "serving_engine": question.assumed_engine()}
        print_json(document | found.as_json())
        return
    out = console()
    first, *rest = comparison_lines(found)
    ranking = ranking_line(one.speculation for one in scenarios.values())
    out.print(f"[bold]{first}[/bold]")
    for line in [*rest, *([ranking] if ranking else [])]:
        out.print(line)
    for table in (by_batch_table(found), at_load_table(found, question.slo)):
        out.print()
        out.print(table)
    out.print()
    lines = [*acceptance_lines(found), engine_line(question)]
    lines += [f"Prices: {question.model.name} on {question.gpu.name} by {found.price_name}."]
    for line in [*lines, *deployment_lines(question), *unstated_line(assumed)]:
        out.print(line, markup=False)
