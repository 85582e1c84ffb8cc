"""``specsim simulate``: serve a scenario's workload in discrete events."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, messages, print_json


def simulate(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    compare: Annotated[bool, typer.Option(help="Also simulate the same workload without speculation.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Throughput and latency under load; the keys are those of ``vllm bench serve``."""
    from specsim.report.tables import summary_table
    from specsim.scenario import Scenario, load_scenario
    from specsim.serving.simulate import simulate as run

    question = load_scenario(scenario, settings or ())
    alternatives: dict[str, Scenario] = {}
    if compare and question.speculation is not None:
        alternatives["speculation off"] = question.without_speculation()
    alternatives["speculation on" if question.speculation else "no speculation"] = question
    question.requests()  # a bad workload is told before the progress bar takes the screen
    summaries = {}
    with Progress(console=messages(), transient=True, disable=not messages().is_terminal) as progress:
        for name, alternative in alternatives.items():
            task = progress.add_task(name)

            def advance(done: int, total: int, task: TaskID = task) -> None:
                progress.update(task, completed=done, total=total)

            summaries[name] = run(alternative, progress=advance).summary(question.slo)
    if as_json:
        print_json(list(summaries.values())[-1] | {"name": question.name, "alternatives": summaries})
        return
    console().print(summary_table(summaries))
