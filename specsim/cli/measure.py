"""``specsim measure``: answer the same question by running it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specsim.cli.options import JsonOption, ScenarioArgument, SetOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.cases import Case
    from specsim.cli.measure_engine import RealEngine
    from specsim.scenario import Scenario

OWN_RUNS = ("--lossless", "--grid", "--saturation", "--loads")  # of the reference engine, in place of the workload
_ALL_OWN = f"{', '.join(OWN_RUNS[:-1])} and {OWN_RUNS[-1]}"


def measure(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    engine: Annotated[str, typer.Option(help="Which engine runs it: reference, vllm or sglang.")] = "reference",
    installation: Annotated[
        Path | None,
        typer.Option("--vllm", "--sglang", help="The engine's virtual environment, or its Python."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="The target's folder for a real engine; only config.json is read (random weights)."),
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
    from specsim.scenario import load_scenario

    own = [name for name, asked in zip(OWN_RUNS, (lossless, grid, saturation, loads), strict=True) if asked]
    if engine != "reference":
        from specsim.cli.measure_engine import RealEngine, measure_arms

        real = RealEngine(engine, installation, model, draft_model, port)
        if own == ["--grid"]:
            _measure_engine_map(scenario, settings, real, out, repeats, minutes)
            return
        if own in (["--saturation"], ["--loads"]):
            _measure_engine_loads(_case(scenario, settings), "saturation" if saturation else "loads", real, minutes)
            return
        if own:
            raise InvalidInput("--lossless is the reference engine's, and the others are runs of their own; give one")
        measure_arms(load_scenario(scenario, settings or ()), real, out.with_suffix(""), blocks, as_json=as_json)
        return
    if len(own) > 1:
        raise InvalidInput(f"{_ALL_OWN} are runs of their own; give one of them")
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"--device {device!r} is neither cpu nor cuda; choose one")
    if saturation or loads:
        _measure_case_loads(_case(scenario, settings), "saturation" if saturation else "loads", device)
    elif grid:
        _measure_grid(scenario, settings, out, device=device, repeats=repeats, cell_seconds=cell_seconds)
    else:
        question = _question(scenario, settings)
        compare_outputs(question, device, as_json=as_json) if lossless else _serve(question, device, as_json=as_json)


def _question(reference: str, settings: list[str] | None) -> Scenario:
    from specsim.scenario import load_scenario

    question = load_scenario(reference, settings or ()).run_by("reference")
    require_torch()
    return question


def _serve(question: Scenario, device: str, *, as_json: bool) -> None:
    from specsim.assembly import assemble
    from specsim.reference.timing.run import serve
    from specsim.report.served import run_table

    summary = serve(assemble(question), device=device).summary(question.slo)
    print_json(summary | {"name": question.name}) if as_json else console().print(run_table({question.name: summary}))


def _measure_grid(
    reference: str, settings: list[str] | None, out: Path, *, device: str, repeats: int, cell_seconds: float
) -> None:
    from specsim.cases import names_case, own_drafter

    if names_case(reference):
        require_torch()
        case = _map_case(reference, settings)
        _measure_case_maps(case, device=device, repeats=repeats, cell_seconds=cell_seconds)
        return
    drafter = own_drafter(_question(reference, settings))
    from specsim.cli.case_runs import measure_maps

    measure_maps(drafter, out, device=device, repeats=repeats, cell_seconds=cell_seconds)
    messages().print(f"wrote {out}")


def _measure_engine_map(
    reference: str, settings: list[str] | None, engine: RealEngine, out: Path, repeats: int, minutes: float | None
) -> None:
    from specsim.cases import names_case, own_drafter
    from specsim.cli.engine_map import measure_engine_map
    from specsim.scenario import load_scenario

    if names_case(reference):
        case = _map_case(reference, settings)
        drafters, out = case.drafters, case.measured
    else:
        drafters = own_drafter(load_scenario(reference, settings or ()))
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


def _case(reference: str, settings: list[str] | None) -> Case:
    from specsim.cases import load_case

    if settings:
        raise InvalidInput("--set would measure another case than the folder holds; write it into the case's files")
    return load_case(reference)


def _map_case(reference: str, settings: list[str] | None) -> Case:
    """A case that is a map, and predicted already."""
    case = _case(reference, settings)
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
