"""Simulating alternatives of one question under equal seeds: what ``simulate`` prints about."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specsim.cli.options import messages, progress_bar
from specsim.errors import InvalidInput, SpecsimError

if TYPE_CHECKING:
    from specsim.report.replications import ReplicatedSummaries
    from specsim.results import RunResult
    from specsim.scenario import Scenario

SERIES_INTERVALS = 500


@dataclass(frozen=True, slots=True)
class Margins:
    """Warm-up and end of a run that do not count: seconds, or shares of the time over which requests arrive."""

    warmup: tuple[float, str]
    cooldown: tuple[float, str]

    @property
    def any(self) -> bool:
        """Whether anything is left out."""
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
        with progress_bar() as progress:
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

    def pairs(self) -> ReplicatedSummaries:
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


def margin(text: str, option: str) -> tuple[float, str]:
    """Seconds (30), or a share (10%). Raises InvalidInput for anything else."""
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
