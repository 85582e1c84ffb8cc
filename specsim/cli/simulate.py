"""``specsim simulate``: serve a scenario's workload in discrete events."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, messages, print_json
from specsim.errors import InvalidInput, SpecsimError

if TYPE_CHECKING:
    from rich.progress import Progress

    from specsim.results import RunResult
    from specsim.scenario import Scenario
    from specsim.serving.uncertainty import PredictedInterval

SERIES_INTERVALS = 500


def simulate(
    scenario: ScenarioArgument,
    settings: SetOption = None,
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
    warmup: Annotated[
        str, typer.Option(help="Leave out requests that arrive in the first seconds (30) or share (10%).")
    ] = "0",
    cooldown: Annotated[
        str, typer.Option(help="Leave out requests that arrive in the last seconds (30) or share (10%).")
    ] = "0",
    out: Annotated[Path | None, typer.Option(help="Folder for the summary and the tables of every run.")] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="The first run's timeline, FILE.json.gz for ui.perfetto.dev.")
    ] = None,
    series: Annotated[
        Path | None, typer.Option(help="The first run over time, FILE.csv: running, waiting, KV blocks, tokens.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Throughput and latency under load; the keys are those of ``vllm bench serve``."""
    from specsim.scenario import load_scenario

    if intervals:
        from specsim.serving.uncertainty import check_runs

        check_runs(intervals)
    question = load_scenario(scenario, settings or ())
    main = "speculation on" if question.speculation else "no speculation"
    alternatives: dict[str, Scenario] = {}
    if against_none and question.speculation is not None:
        alternatives["speculation off"] = question.without_speculation()
    for change in compare or ():
        alternatives[change] = load_scenario(scenario, [*(settings or ()), change])
    alternatives[main] = question
    trim = Margins(_margin(warmup, "--warmup"), _margin(cooldown, "--cooldown"))
    _tell_traces(question)
    whole = timeline is not None or series is not None or trim.any
    runs = Runs(main, trim, out=out, timeline=timeline, series=series, whole=whole)
    _tell_compilation()
    runs.all(alternatives, replications)
    done = {name: alternatives[name] for name, found in runs.summaries.items() if found}
    if not done:
        raise KeyboardInterrupt
    pairs = runs.pairs() if replications > 1 or compare else {}
    sure = _intervals(done, intervals, trim) if intervals else {}
    (_print_json if as_json else _print_tables)(runs, alternatives, pairs, sure)


Pairs = dict[str, list[dict[str, Any]]]


def _print_json(
    runs: Runs, alternatives: dict[str, Scenario], pairs: Pairs, sure: dict[str, dict[str, PredictedInterval]]
) -> None:
    from specsim.report.replications import predicted_json, replications_json

    question, first = alternatives[runs.main], runs.first()
    document: dict[str, Any] = {"name": question.name, "alternatives": first}
    if sure:
        document["intervals"] = {name: predicted_json(found) for name, found in sure.items()}
    if pairs:
        document["replications"] = {"first_seed": question.seed} | replications_json(pairs, runs.main)
    print_json(first.get(runs.main, {}) | document)


def _print_tables(
    runs: Runs, alternatives: dict[str, Scenario], pairs: Pairs, sure: dict[str, dict[str, PredictedInterval]]
) -> None:
    from specsim.report.assumed import deployment_lines, engine_line, price_line, ranking_line
    from specsim.report.replications import predicted_table, replications_table
    from specsim.report.tables import summary_table

    question, first = alternatives[runs.main], runs.first()
    console().print(replications_table(pairs, runs.main) if pairs else summary_table(first))
    if sure:
        console().print(predicted_table(sure))
    told = first.get(runs.main) or next(iter(first.values()))
    prices = price_line(question, told["prices"], told["price_source"])
    lines = [engine_line(question), prices, *deployment_lines(question), ranking_line(list(alternatives.values()))]
    for line in lines:
        if line is not None:
            console().print(line, soft_wrap=True, markup=False)
    repeated = pairs.get(runs.main, [])
    if len(repeated) > 1 and len({json.dumps(run | {"scenario_sha256": None}) for run in repeated}) == 1:
        messages().print("the replications are all alike: nothing in this scenario is drawn by the seed")
    for path in runs.written:
        messages().print(f"wrote {path}")


def _intervals(alternatives: dict[str, Scenario], runs: int, trim: Margins) -> dict[str, dict[str, PredictedInterval]]:
    """Intervals of each alternative's metrics under equal draws; of those that are done when Ctrl-C is pressed."""
    from specsim.assembly import assemble
    from specsim.report.replications import ROWS
    from specsim.serving.uncertainty import predicted_metrics

    found: dict[str, dict[str, PredictedInterval]] = {}
    with _progress() as progress:
        for name, scenario in alternatives.items():
            task = progress.add_task(f"{name}, intervals", total=runs)

            def advance(done: int, total: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=total)

            try:
                found[name] = predicted_metrics(
                    assemble(scenario), ROWS, runs=runs, vary_acceptance=True,
                    counted=trim.applied if trim.any else None, progress=advance,
                )  # fmt: skip
            except KeyboardInterrupt:
                messages().print("stopped by Ctrl-C: these are the intervals that were done")
                break
            progress.remove_task(task)
    return found


@dataclass(frozen=True, slots=True)
class Margins:
    """Warm-up and end of a run that do not count: seconds, or shares of the time over which requests arrive."""

    warmup: tuple[float, str]
    cooldown: tuple[float, str]

    @property
    def any(self) -> bool:
        return bool(self.warmup[0] or self.cooldown[0])

    def applied(self, result: RunResult) -> RunResult:
        """The result without requests that arrived in the margins."""
        if not self.any:
            return result
        arrivals = [r.arrival_s for r in result.requests] or [0.0]
        first, last = min(arrivals), max(arrivals)
        skipped, left = (
            amount * (last - first) / 100 if unit == "%" else amount for amount, unit in (self.warmup, self.cooldown)
        )
        return result.trimmed(first + skipped, last - left)


@dataclass(slots=True)
class Runs:
    """Simulates alternatives under the same seeds in turn, so that stopping early leaves pairs."""

    main: str
    margins: Margins
    out: Path | None
    timeline: Path | None
    series: Path | None
    whole: bool = False  # keep every record, however many
    summaries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)

    def all(self, alternatives: dict[str, Scenario], replications: int) -> None:
        """Run everything; Ctrl-C keeps what is done and, of the run under way, what it could tell."""
        from specsim.assembly import assemble
        from specsim.serving.simulate import simulate as run

        self.summaries = {name: [] for name in alternatives}
        single = replications * len(alternatives) == 1
        in_turn = sorted(alternatives, key=lambda name: name != self.main)  # what is asked first: its error ends all
        with _progress() as progress:
            for number in range(replications):
                for name in in_turn:
                    if name not in self.summaries:
                        continue
                    alternative = alternatives[name]
                    seeded = alternative.model_copy(update={"seed": alternative.seed + number})
                    task = progress.add_task(name if replications == 1 else f"{name}, seed {seeded.seed}", total=None)

                    def advance(done: int, total: int, task: Any = task) -> None:
                        progress.update(task, completed=done, total=total)

                    try:
                        result = run(assemble(seeded), progress=advance, keep=self.whole or None)
                    except SpecsimError as error:
                        if name == self.main:
                            raise
                        _tell_left_out(name, error)
                        del self.summaries[name]
                        progress.remove_task(task)
                        continue
                    except KeyboardInterrupt:
                        messages().print("stopped by Ctrl-C: these are the runs that were done")
                        return
                    progress.remove_task(task)
                    if result.interrupted and self.summaries[name]:
                        messages().print("stopped by Ctrl-C: the run under way is left out, the others are whole")
                        return
                    folder = self.out and (self.out if single else self.out / _folder_name(name, seeded.seed))
                    self._keep(name, seeded, result, folder, draw=name == self.main and number == 0)
                    if result.interrupted:
                        messages().print("stopped by Ctrl-C: the last run counts what it had finished")
                        return

    def first(self) -> dict[str, dict[str, Any]]:
        """The first run's summary of every alternative that has one."""
        return {name: found[0] for name, found in self.summaries.items() if found}

    def pairs(self) -> Pairs:
        """The replications that every alternative has done; empty where some have none."""
        whole = min(map(len, self.summaries.values()))
        return {name: found[:whole] for name, found in self.summaries.items()} if whole else {}

    def _keep(self, name: str, scenario: Scenario, result: RunResult, folder: Path | None, *, draw: bool) -> None:
        from specsim.assembly import assemble
        from specsim.report.bench_serve import bench_serve_header
        from specsim.report.timeline import write_timeline
        from specsim.results.files import write_run, write_series
        from specsim.results.series import series

        counted = self.margins.applied(result) if result.requests else result
        header = bench_serve_header(scenario)
        prices = {"prices": assemble(scenario).price_name}
        self.summaries[name].append(header | counted.summary(scenario.slo) | prices)
        if folder is not None:
            dated = {"date": datetime.now(UTC).strftime("%Y%m%d-%H%M%S")} | header
            self.written += write_run(folder, counted, slo=scenario.slo, header=dated)
        if draw and self.timeline is not None:
            write_timeline(self.timeline, result)
            self.written.append(self.timeline)
        if draw and self.series is not None:
            end_s = max((step.start_s + step.duration_s for step in result.steps), default=1.0)
            write_series(self.series, series(result.steps, end_s / SERIES_INTERVALS))
            self.written.append(self.series)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = messages()
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=screen,
        transient=True, disable=not screen.is_terminal,
    )  # fmt: skip


def _margin(text: str, option: str) -> tuple[float, str]:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(%?)", text.strip())
    amount = float(match[1]) if match else -1.0
    if match is None or (match[2] and amount >= 100):
        raise InvalidInput(
            f"{option} {text!r} is neither seconds nor a share below 100 %; write for instance 30 or 10%"
        )
    return amount, match[2]


def _folder_name(name: str, seed: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._=-]+', '-', name).strip('-.') or 'run'}-seed{seed}"


def _tell_left_out(name: str, error: SpecsimError) -> None:
    messages().print(f"left out, {name}: {error}", markup=False)


def _tell_compilation() -> None:
    """Say why the first run on a machine begins later than the next ones will."""
    from specsim.scheduling.compiled import is_compiled
    from specsim.serving.loop import serve

    if not is_compiled(serve):
        messages().print("compiling the simulator for this machine, once; it takes some ten seconds", soft_wrap=True)


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
