"""``specsim measure --engine vllm``: a scenario on a real engine, with its drafter and without, taking turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from specsim.cli.options import console, messages, print_json
from specsim.engines import VLLM, Adapter, Arms, Checkpoints, OfflineEngine, SGLang, Transformers, engine_python
from specsim.engines.blocks import ArmRun, measure_blocks, ratios, read_runs
from specsim.errors import InvalidInput, unknown_name
from specsim.kept_files import only_writer
from specsim.scenario import Scenario

ON, OFF = "on", "off"
METRICS = {
    "output_throughput": "output tokens/s",
    "median_tpot_ms": "TPOT p50, ms",
    "median_itl_ms": "ITL p50, ms",
    "median_ttft_ms": "TTFT p50, ms",
    "p99_ttft_ms": "TTFT p99, ms",
    "spec_decode_acceptance_length": "acceptance length",
    "num_kv_blocks": "KV blocks",
}


@dataclass(frozen=True, slots=True)
class RealEngine:
    """Which engine, where it is installed, its models' folders (None: the scenario's weights), its first port."""

    kind: str
    installation: Path | None
    model: Path | None
    draft_model: Path | None
    port: int | None

    def adapter(self) -> Adapter:
        """Raises InvalidInput for an engine that there is no adapter for."""
        adapters: dict[str, Adapter] = {"vllm": VLLM(), "sglang": SGLang()}
        if self.kind not in adapters:
            raise unknown_name("--engine", self.kind, ("reference", *adapters))
        return adapters[self.kind]

    def offline(self) -> OfflineEngine:
        """Raises InvalidInput for an engine that cannot be stepped without a server."""
        engines: dict[str, OfflineEngine] = {"vllm": VLLM(), "transformers": Transformers()}
        if self.kind not in engines:
            raise unknown_name("--engine with --grid", self.kind, ("reference", *engines))
        return engines[self.kind]

    def python(self) -> Path:
        """Raises InvalidInput without an installation."""
        if self.installation is None:
            raise InvalidInput(
                f"--engine {self.kind} runs an installation of yours; give its folder with --{self.kind}"
            )
        return engine_python(self.installation, f"--{self.kind}")


def measure_arms(scenario: Scenario, engine: RealEngine, folder: Path, blocks: int, *, as_json: bool) -> None:
    """Run what ``folder`` lacks of so many blocks and print all of it."""
    if blocks < 1:
        raise InvalidInput(f"--blocks {blocks}: at least one")
    adapter, python = engine.adapter(), engine.python()
    arms = {ON: scenario, OFF: scenario.without_speculation()} if scenario.speculation else {OFF: scenario}
    checkpoints = {name: Checkpoints.of(arm, engine.model, engine.draft_model) for name, arm in arms.items()}
    for name, arm in arms.items():
        adapter.launch(arm, checkpoints[name], port=0)  # what the engine does not have is said before one starts
    with (
        only_writer(folder),
        Arms(adapter, python, folder, port=engine.port, starting=lambda what: messages().print(what)) as servers,
    ):
        of = {arm.sha256(): checkpoints[name] for name, arm in arms.items()}
        for run in measure_blocks(arms, lambda arm: servers.serve(arm, of[arm.sha256()]), folder, blocks):
            messages().print(
                f"block {run.block + 1} of {blocks}, {run.arm}: {run.summary['output_throughput']:.1f} tokens/s in "
                f"{run.summary['duration']:.1f} s"
            )
    runs = read_runs(folder, arms)
    print_json([asdict(run) for run in runs]) if as_json else console().print(_table(runs, list(arms)))


def _table(runs: Sequence[ArmRun], arms: Sequence[str]) -> Table:
    """Medians over the blocks, and on over off within each."""
    table = Table(title=f"{len({run.block for run in runs})} blocks; ratios within a block: median (least to most)")
    for column in ("metric", *arms, *(["on / off"] if ON in arms else [])):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for key, label in METRICS.items():
        cells = [_median([run.summary[key] for run in runs if run.arm == arm]) for arm in arms]
        if ON in arms:
            found = ratios(runs, key, ON, OFF)
            cells.append(f"{median(found):.3f} ({min(found):.3f} to {max(found):.3f})" if found else "-")
        table.add_row(label, *cells)
    return table


def _median(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    return f"{median(known):,.2f}" if known else "-"
