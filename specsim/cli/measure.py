"""``specsim measure``: answer the same question by running it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.cases import Case
    from specsim.cli.measure_engine import RealEngine
    from specsim.scenario import Scenario

OWN_RUNS = ("--lossless", "--grid", "--saturation", "--loads")  # of the reference engine, in place of the workload
_ALL_OWN = f"{', '.join(OWN_RUNS[:-1])} and {OWN_RUNS[-1]}"


@takes_question
def measure(
    asked: Question,
    engine: Annotated[str, typer.Option(help="Which engine runs it: reference, vllm or sglang.")] = "reference",
    installation: Annotated[
        Path | None,
        typer.Option("--vllm", "--sglang", help="The engine's virtual environment, or its Python."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model, as ever; of a real engine its folder, of which config.json alone is read."),
    ] = None,
    draft_model: Annotated[Path | None, typer.Option(help="The draft model's folder, likewise.")] = None,
    blocks: Annotated[int, typer.Option(help="Times that a real engine runs each arm, interleaved.")] = 3,
    port: Annotated[int | None, typer.Option(help="First port of a real engine's servers; else free ones.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Compare greedy output with and without the scenario's drafter, by dtype. A draft model is a noisy "
            "copy of the target then.",
        ),
    ] = False,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Measure the batch x k map instead of the workload. SCENARIO may be a case: the maps of its drafters "
            "go to its own table.",
        ),
    ] = False,
    saturation: Annotated[
        bool,
        typer.Option(
            "--saturation", help="SCENARIO is a case's folder with loads.yaml: measure its saturation. Resumes."
        ),
    ] = False,
    loads: Annotated[
        bool, typer.Option("--loads", help="Then measure the case's loads, at shares of the saturation. Resumes.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Table that --grid writes and resumes from; a real engine's folder.")
    ] = Path("measured.csv"),
    repeats: Annotated[int, typer.Option(help="Interleaved repeats of --grid.")] = 4,
    cell_seconds: Annotated[float, typer.Option(help="Seconds that one cell of --grid runs, about.")] = 2.0,
    minutes: Annotated[
        float | None, typer.Option(help="A real engine's grid or loads stop after so long; the same command goes on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the workload on the wall clock, or measure the map that ``predict`` predicts."""
    own = [name for name, asked in zip(OWN_RUNS, (lossless, grid, saturation, loads), strict=True) if asked]
    if engine != "reference":
        from specsim.cli.measure_engine import RealEngine, measure_arms

        real = RealEngine(engine, installation, None if model is None else Path(model), draft_model, port)
        if own == ["--grid"]:
            _measure_engine_map(asked, model, real, out, repeats, minutes)
        elif own in (["--saturation"], ["--loads"]):
            _measure_engine_loads(_case(asked), "saturation" if saturation else "loads", real, minutes)
        elif own:
            raise InvalidInput("--lossless is the reference engine's, and the others are runs of their own; give one")
        else:
            measure_arms(_of_engine(asked, model), real, out.with_suffix(""), blocks, as_json=as_json)
        return
    if len(own) > 1:
        raise InvalidInput(f"{_ALL_OWN} are runs of their own; give one of them")
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    asked = _named(asked, model)
    if saturation or loads:
        _measure_case_loads(_case(asked), "saturation" if saturation else "loads", device)
    elif grid:
        _measure_grid(asked, out, device=device, repeats=repeats, cell_seconds=cell_seconds)
    else:
        question = _question(asked)
        compare_outputs(question, device, as_json=as_json) if lossless else _serve(question, device, as_json=as_json)


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


def _measure_grid(asked: Question, out: Path, *, device: str, repeats: int, cell_seconds: float) -> None:
    from specsim.cases import names_case, own_drafter

    if asked.reference is not None and names_case(asked.reference):
        require_torch()
        _measure_case_maps(_map_case(asked), device=device, repeats=repeats, cell_seconds=cell_seconds)
        return
    drafter = own_drafter(_question(asked))
    from specsim.cli.case_runs import measure_maps

    measure_maps(drafter, out, device=device, repeats=repeats, cell_seconds=cell_seconds)
    messages().print(f"wrote {out}")


def _measure_engine_map(
    asked: Question, model: str | None, engine: RealEngine, out: Path, repeats: int, minutes: float | None
) -> None:
    from specsim.cases import names_case, own_drafter
    from specsim.cli.engine_map import measure_engine_map

    if asked.reference is not None and names_case(asked.reference):
        case = _map_case(asked)
        drafters, out = case.drafters, case.measured
    else:
        drafters = own_drafter(_of_engine(asked, model))
    complete = measure_engine_map(drafters, engine, out, repeats, minutes=minutes)
    left = "" if complete else ", not complete; run the same command to go on"
    messages().print(f"wrote {out}{left}", soft_wrap=True)


def _measure_engine_loads(
    case: Case, what: Literal["saturation", "loads"], engine: RealEngine, minutes: float | None
) -> None:
    from specsim.cli.engine_served import measure_engine_served

    complete = measure_engine_served(case, what, engine, minutes)
    left = "" if complete else ", not complete; run the same command to go on"
    messages().print(f"wrote {what} of {case.folder}{left}", soft_wrap=True)


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


def _measure_case_loads(case: Case, what: Literal["saturation", "loads"], device: str) -> None:
    from specsim.cli.case_runs import measure_served

    require_torch()
    messages().print(f"wrote {measure_served(case, what, device=device)}", soft_wrap=True)


def _measure_case_maps(case: Case, *, device: str, repeats: int, cell_seconds: float) -> None:
    from specsim.cli.case_runs import measure_maps

    measure_maps(case.drafters, case.measured, device=device, repeats=repeats, cell_seconds=cell_seconds)
    messages().print(f"wrote {case.measured}", soft_wrap=True)


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
