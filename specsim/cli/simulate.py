"""``specsim simulate``: serve a scenario's workload in discrete events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.groups import OptionGroup
from specsim.cli.options import JsonOption, console, messages, print_json, progress_bar, tell_compilation
from specsim.cli.question import Question, takes_question
from specsim.cli.simulated import Margins, Runs, margin

if TYPE_CHECKING:
    from specsim.report.replications import ReplicatedSummaries
    from specsim.scenario import Asked, Scenario
    from specsim.serving.uncertainty import PredictedInterval

OFF, ON = "speculation off", "speculation on"


@dataclass(frozen=True, slots=True)
class RunOptions(OptionGroup):
    """What of a run counts, and what is written of it."""

    warmup: Annotated[
        str, typer.Option(help="Leave out requests that arrive in the first seconds (30) or share (10%).")
    ] = "0"
    cooldown: Annotated[
        str, typer.Option(help="Leave out requests that arrive in the last seconds (30) or share (10%).")
    ] = "0"
    out: Annotated[Path | None, typer.Option(help="Folder for the summary and the tables of every run.")] = None
    timeline: Annotated[
        Path | None, typer.Option(help="The first run's timeline, FILE.json.gz for ui.perfetto.dev.")
    ] = None
    series: Annotated[
        Path | None, typer.Option(help="The first run over time, FILE.csv: running, waiting, KV blocks, tokens.")
    ] = None

    def runs(self, main: str) -> Runs:
        """``main``: the alternative that is asked about."""
        trim = Margins(margin(self.warmup, "--warmup"), margin(self.cooldown, "--cooldown"))
        whole = self.timeline is not None or self.series is not None or trim.any
        return Runs(main, trim, out=self.out, timeline=self.timeline, series=self.series, whole=whole)


@takes_question
def simulate(
    asked: Question,
    run: RunOptions,
    against_none: Annotated[
        bool, typer.Option("--against-no-speculation/--alone", help="Also simulate with no drafter loaded.")
    ] = True,
    compare: Annotated[
        list[str] | None, typer.Option(help="Also simulate with path.to.field=value, equal seeds (repeatable).")
    ] = None,
    replications: Annotated[int, typer.Option(min=1, max=10_000, help="Runs under seed, seed+1, ...")] = 1,
    intervals: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="RUNS",
            help="90 % intervals from so many more runs (24 do), each at prices "
            "as wrong as they may be and with other luck in acceptance; 0: none.",
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Throughput and latency under load; the keys are those of ``vllm bench serve``."""
    if intervals:
        from specsim.serving.uncertainty import check_runs

        check_runs(intervals)
    answered, changes = asked.ask(), compare or []
    main = ON if answered.scenario.speculation else "no speculation"
    alternatives = _alternatives(asked, answered.scenario, main, changes, against_none=against_none)
    runs = run.runs(main)
    _tell_traces(answered.scenario)
    tell_compilation()
    runs.all(alternatives, replications)
    done = {name: alternatives[name] for name, found in runs.summaries.items() if found}
    if not done:
        raise KeyboardInterrupt
    repeated = runs.pairs() if replications > 1 or changes else {}
    compared = [(main, OFF), *((change, main) for change in changes)]
    compared = [pair for pair in compared if set(pair) <= repeated.keys()]
    sure = _intervals(done, intervals, runs.margins) if intervals else {}
    answer = _Simulated(answered, runs, done, repeated, compared, sure)
    answer.print_json() if as_json else answer.print()


def _alternatives(
    asked: Question, question: Scenario, main: str, changes: list[str], *, against_none: bool
) -> dict[str, Scenario]:
    """What is simulated: off first, then what is asked about, then that with each change."""
    found = {OFF: question.without_speculation()} if against_none and question.speculation is not None else {}
    return found | {main: question} | {change: asked.ask([change]).scenario for change in changes}


@dataclass(frozen=True, slots=True)
class _Simulated:
    """What was simulated. ``repeated``: replications that all alternatives have; ``compared``: (what, to what)."""

    asked: Asked
    runs: Runs
    scenarios: dict[str, Scenario]
    repeated: ReplicatedSummaries
    compared: list[tuple[str, str]]
    sure: dict[str, dict[str, PredictedInterval]]

    def print_json(self) -> None:
        from specsim.report.replications import predicted_json, replications_json

        question, first = self.asked.scenario, self.runs.first()
        document: dict[str, Any] = {
            "name": question.name,
            "assumed": list(self.asked.assumed),
            "slo": self._slo(),
            "alternatives": first,
        }
        if self.sure:
            document["intervals"] = {name: predicted_json(found) for name, found in self.sure.items()}
        if self.repeated:
            made = replications_json(self.repeated, self.compared)
            document["replications"] = {"first_seed": question.seed} | made
        print_json({**first.get(self.runs.main, {}), **document})

    def print(self) -> None:
        from specsim.report.replications import predicted_table, replications_tables
        from specsim.report.served import run_table

        out, first = console(), self.runs.first()
        for name, lines in self._verdicts().items():
            out.print(f"[bold]{name}[/bold]")
            for line in lines:
                out.print(f"  {line}", markup=False)
        if self.repeated:
            for table in replications_tables(self.repeated, self.compared, self.asked.scenario.seed):
                out.print(table)
        else:
            out.print(run_table(first, OFF))
        if self.sure:
            out.print(predicted_table(self.sure))
        for line in self._assumed():
            out.print(line, markup=False)
        main = self.repeated.get(self.runs.main, [])
        if len(main) > 1 and len({json.dumps({**run, "scenario_sha256": None}) for run in main}) == 1:
            messages().print("the replications are all alike: nothing in this scenario is drawn by the seed")
        for path in self.runs.written:
            messages().print(f"wrote {path}")

    def _slo(self) -> dict[str, Any] | None:
        """By alternative, whether its first run met the SLO, and each bound."""
        from specsim.results import slo_findings, slo_met

        slo = self.asked.scenario.slo
        if slo is None:
            return None
        return {
            name: {"met": slo_met(run, slo), "bounds": [one.as_json() for one in slo_findings(run, slo)]}
            for name, run in self.runs.first().items()
        }

    def _verdicts(self) -> dict[str, list[str]]:
        """By alternative: what the SLO says to its first run, and what limited it."""
        from specsim.assembly import assemble
        from specsim.report.served import limited_line, slo_line

        slo, found = self.asked.scenario.slo, {}
        for name, run in self.runs.first().items():
            limited = limited_line(run, assemble(self.scenarios[name]))
            lines = [] if slo is None or not slo.states_anything else [slo_line(run, slo)]
            found[name] = [*lines, *([limited] if limited else [])]
        return found

    def _assumed(self) -> list[str]:
        from specsim.report.assumed import longest_draft, ranking_line, run_lines, unstated_line

        first = self.runs.first()
        told = first.get(self.runs.main) or next(iter(first.values()))
        ranking = ranking_line(one.speculation for one in self.scenarios.values())
        lines = run_lines(self.asked.scenario, told["prices"], told["price_source"])
        return [
            *lines,
            *([ranking] if ranking else []),
            *unstated_line((*self.asked.assumed, *longest_draft(self.asked))),
        ]


def _intervals(alternatives: dict[str, Scenario], runs: int, trim: Margins) -> dict[str, dict[str, PredictedInterval]]:
    """Intervals of each alternative's metrics under equal draws; of those that are done when Ctrl-C is pressed."""
    from specsim.assembly import assemble
    from specsim.report.served import PREDICTED
    from specsim.serving.uncertainty import predicted_metrics

    found: dict[str, dict[str, PredictedInterval]] = {}
    with progress_bar() as progress:
        for name, scenario in alternatives.items():
            task = progress.add_task(f"{name}, intervals", total=runs)

            def advance(done: int, total: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=total)

            try:
                found[name] = predicted_metrics(
                    assemble(scenario),
                    PREDICTED,
                    runs=runs,
                    vary_acceptance=True,
                    counted=trim.applied if trim.any else None,
                    progress=advance,
                )
            except KeyboardInterrupt:
                messages().print("stopped by Ctrl-C: these are the intervals that were done")
                break
            progress.remove_task(task)
    return found


def _tell_traces(question: Scenario) -> None:
    """Refuse a bad trace before the progress bar takes the screen, and say what was read of good ones."""
    workload = question.workload
    next(workload.chunks(question.seed))
    for file in workload.trace_files():
        trace = file.trace()
        requests, arrivals = trace.requests, trace.requests.arrival_s
        span = "" if arrivals is None else f" over {arrivals[-1] - arrivals[0]:,.0f} s"
        lengths = f"{requests.prompt_tokens.mean():,.0f} tokens in, {requests.output_tokens.mean():,.0f} out"
        facts = (f"{len(requests):,} requests{span}", f"mean {lengths}", *trace.remarks())
        messages().print(f"trace {file.path} ({trace.format}): {', '.join(facts)}", soft_wrap=True)
