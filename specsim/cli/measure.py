"""``specsim measure``: answer the same question by running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from specsim.cli.groups import OptionGroup
from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.cases import Case, ServedStage
    from specsim.cli.measure_engine import RealEngine
    from specsim.scenario import Scenario


OwnRun = Literal["lossless", "grid", "saturation", "loads"]


@dataclass(frozen=True, slots=True)
class RealEngineOptions(OptionGroup):
    """An engine that runs it in place of the reference engine, and how."""

    engine: Annotated[str, typer.Option(help="Which engine runs it: reference, vllm or sglang.")] = "reference"
    installation: Annotated[
        Path | None,
        typer.Option("--vllm", "--sglang", help="The engine's virtual environment, or its Python."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(help="Model, as ever; of a real engine its folder, of which config.json alone is read."),
    ] = None
    draft_model: Annotated[Path | None, typer.Option(help="The draft model's folder, likewise.")] = None
    blocks: Annotated[int, typer.Option(help="Times that a real engine runs each arm, interleaved.")] = 3
    port: Annotated[int | None, typer.Option(help="First port of a real engine's servers; else free ones.")] = None
    minutes: Annotated[
        float | None, typer.Option(help="A real engine's grid or loads stop after so long; the same command goes on.")
    ] = None

    def real(self) -> RealEngine:
        from specsim.cli.measure_engine import RealEngine

        folder = None if self.model is None else Path(self.model)
        return RealEngine(self.engine, self.installation, folder, self.draft_model, self.port)


@dataclass(frozen=True, slots=True)
class OwnRuns(OptionGroup):
    """Runs of their own, in place of the workload."""

    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Compare greedy output with and without the scenario's drafter, by dtype. A draft model is a noisy "
            "copy of the target then.",
        ),
    ] = False
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Measure the batch x k map instead of the workload. SCENARIO may be a case: the maps of its drafters "
            "go to its own table.",
        ),
    ] = False
    saturation: Annotated[
        bool,
        typer.Option(
            "--saturation", help="SCENARIO is a case's folder with loads.yaml: measure its saturation. Resumes."
        ),
    ] = False
    loads: Annotated[
        bool, typer.Option("--loads", help="Then measure the case's loads, at shares of the saturation. Resumes.")
    ] = False

    def asked(self) -> OwnRun | None:
        """The one that is asked for. Raises InvalidInput for several."""
        names: tuple[OwnRun, ...] = get_args(OwnRun)
        asked = [name for name in names if getattr(self, name)]
        if len(asked) > 1:
            listed = [f"--{name}" for name in names]
            raise InvalidInput(f"{', '.join(listed[:-1])} and {listed[-1]} are runs of their own; give one of them")
        return asked[0] if asked else None


@dataclass(frozen=True, slots=True)
class GridOptions(OptionGroup):
    """Where a grid's table is, and how long each of its cells is measured."""

    out: Annotated[Path, typer.Option(help="Table that --grid writes and resumes from; a real engine's folder.")] = (
        Path("measured.csv")
    )
    repeats: Annotated[int, typer.Option(help="Interleaved repeats of --grid.")] = 4
    cell_seconds: Annotated[float, typer.Option(help="Seconds that one cell of --grid runs, about.")] = 2.0


@takes_question
def measure(
    asked: Question,
    on: RealEngineOptions,
    own: OwnRuns,
    grid: GridOptions,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Serve the workload on the wall clock, or measure the map that ``predict`` predicts."""
    what = own.asked()
    if on.engine != "reference":
        _on_real_engine(asked, on, what, grid, as_json=as_json)
        return
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    asked = _named(asked, on.model)
    if what == "saturation" or what == "loads":
        _measure_case_loads(_case(asked), what, device)
    elif what == "grid":
        _measure_grid(asked, grid, device=device)
    elif what == "lossless":
        compare_outputs(_question(asked), device, as_json=as_json)
    else:
        _serve(_question(asked), device, as_json=as_json)


def _on_real_engine(
    asked: Question, on: RealEngineOptions, what: OwnRun | None, grid: GridOptions, *, as_json: bool
) -> None:
    from specsim.cli.measure_engine import measure_arms

    if what == "lossless":
        raise InvalidInput("--lossless is the reference engine's alone; leave out --engine")
    if what == "grid":
        _measure_engine_map(asked, on, grid)
    elif what == "saturation" or what == "loads":
        _measure_engine_loads(_case(asked), what, on)
    else:
        measure_arms(_of_engine(asked, on.model), on.real(), grid.out.with_suffix(""), on.blocks, as_json=as_json)


def _named(asked: Question, model: str | None) -> Question:
    """Asked about a model, if one is named."""
    return asked if model is None else replace(asked, short=asked.short | {"model": model})


def _of_engine(asked: Question, model: str | None) -> Scenario:
    """A real engine's ``model`` is a folder beside a scenario, and the model of a question without one."""
    return _named(asked, model if asked.reference is None else None).ask().scenario


def _question(asked: Question) -> Scenario:
    question = asked.ask().scenario.run_by("reference")
    require_torch()
    return question


def _serve(question: Scenario, device: str, *, as_json: bool) -> None:
    from specsim.assembly import assemble
    from specsim.reference.timing.run import serve
    from specsim.report.served import run_table

    summary = serve(assemble(question), device=device).summary(question.slo)
    print_json(summary | {"name": question.name}) if as_json else console().print(run_table({question.name: summary}))


def _measure_grid(asked: Question, grid: GridOptions, *, device: str) -> None:
    from specsim.cases import names_case, own_drafter

    if asked.reference is not None and names_case(asked.reference):
        require_torch()
        case = _map_case(asked)
        drafters, out = case.drafters, case.measured
    else:
        drafters, out = own_drafter(_question(asked)), grid.out
    from specsim.cli.case_runs import measure_maps

    measure_maps(drafters, out, device=device, repeats=grid.repeats, cell_seconds=grid.cell_seconds)
    messages().print(f"wrote {out}", soft_wrap=True)


def _measure_engine_map(asked: Question, on: RealEngineOptions, grid: GridOptions) -> None:
    from specsim.cases import names_case, own_drafter
    from specsim.cli.engine_map import measure_engine_map

    if asked.reference is not None and names_case(asked.reference):
        case = _map_case(asked)
        drafters, out = case.drafters, case.measured
    else:
        drafters, out = own_drafter(_of_engine(asked, on.model)), grid.out
    complete = measure_engine_map(drafters, on.real(), out, grid.repeats, minutes=on.minutes)
    _tell_written(str(out), complete)


def _measure_engine_loads(case: Case, what: ServedStage, on: RealEngineOptions) -> None:
    from specsim.cli.engine_served import measure_engine_served

    complete = measure_engine_served(case, what, on.real(), on.minutes)
    _tell_written(f"{what} of {case.folder}", complete)


def _tell_written(what: str, complete: bool) -> None:
    left = "" if complete else ", not complete; run the same command to go on"
    messages().print(f"wrote {what}{left}", soft_wrap=True)


def _case(asked: Question) -> Case:
    from specsim.cases import load_case

    if asked.reference is None:
        raise InvalidInput("--saturation and --loads are of a case; name its folder")
    given = next((name for name, value in asked.short.items() if value is not None), None)
    if asked.settings or given is not None:
        option = "--set" if given is None else f"--{given.replace('_', '-')}"
        raise InvalidInput(
            f"{option} would measure another case than the folder holds; write it into the case's files"
        )
    return load_case(asked.reference)


def _map_case(asked: Question) -> Case:
    """A case that is a map, and predicted already."""
    case = _case(asked)
    if case.loads is not None:
        raise InvalidInput(f"{case.folder} holds served loads and no map; measure its --saturation and its --loads")
    if not case.predicted.exists():
        raise InvalidInput(f"predict before measuring: specsim validate {case.folder} --predict")
    return case


def _measure_case_loads(case: Case, what: ServedStage, device: str) -> None:
    from specsim.cli.case_runs import measure_served

    require_torch()
    messages().print(f"wrote {measure_served(case, what, device=device)}", soft_wrap=True)


def compare_outputs(question: Scenario, device: str, *, as_json: bool) -> None:
    """Greedy output with the scenario's drafter against plain greedy output, in float64, float32 and bfloat16."""
    from rich.table import Table

    from specsim.reference.decoding.choice import drafter_of
    from specsim.reference.decoding.lossless import by_dtype

    asked = question.speculation
    if asked is None or not asked.max_draft_tokens:
        raise InvalidInput(
            f"scenario {question.name!r} drafts nothing, so there is nothing to compare; name a program"
        )
    reports = by_dtype(question.model, drafter_of(asked), draft_tokens=asked.max_draft_tokens, device=device)
    if as_json:
        print_json([asdict(report) | {"identical_share": report.identical_share} for report in reports])
        return
    table = Table(title="greedy output with speculation against without, on random weights")
    for column in ("dtype", "outputs", "identical", "accepted drafts", "largest logit lead where they part"):
        table.add_column(column, justify="right")
    for report in reports:
        rate = report.acceptance_rate
        table.add_row(
            report.dtype,
            str(report.sequences),
            f"{report.identical_share:.0%}",
            "-" if rate is None else f"{rate:.0%}",
            f"{max(report.gaps):.2g}" if report.gaps else "-",
        )
    console().print(table)
