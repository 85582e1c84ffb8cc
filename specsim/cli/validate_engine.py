"""``specsim validate SCENARIO --engine vllm``: profile steps, predict, measure, compare, on the user's machine."""

from __future__ import annotations

import time
from pathlib import Path

from specsim.cases import Case, own_drafter
from specsim.cases.map import committed_prediction
from specsim.cases.scores import MapScore, score_map
from specsim.cli.case_runs import map_axes, predict_into
from specsim.cli.engine_map import measure_engine_map
from specsim.cli.measure_engine import RealEngine
from specsim.cli.options import console, messages, print_json
from specsim.engines import Checkpoints
from specsim.errors import InvalidInput
from specsim.profiles.steps import StepGrid
from specsim.profiling.steps.engine_steps import measure_steps
from specsim.report.validation.json_document import fidelity_document
from specsim.report.validation.map_tables import regret_sheet
from specsim.report.validation.speedup_tables import speedup_lines, speedup_sheet
from specsim.scenario import Scenario

STEPS = "steps"  # the profile's folder in the run's
STEP_REPEATS, MAP_REPEATS = 10, 4  # at most; time decides
PROFILE_SHARE = 0.45  # of the time
MOST_LENGTHS = 4  # draft lengths that are looked at: each may need an engine of its own


def validate_on_engine(
    scenario: Scenario, engine: RealEngine, out: Path, *, minutes: float, draft_lengths: tuple[int, ...], as_json: bool
) -> None:
    """Run what ``out`` lacks and print one table. ``minutes``: for all of it, after which the same command goes on.

    Raises InvalidInput where ``out`` holds another scenario's run, and as ``measure --grid --engine`` does.
    """
    folders = Checkpoints.of(scenario, engine.model, engine.draft_model)
    lengths = draft_lengths or few(map_axes(scenario)[1])
    engine.offline().job(scenario, folders, max(lengths))  # what the engine does not have is said before it starts
    until = time.monotonic() + 60 * minutes
    asked = _priced(scenario, out / STEPS)
    case = Case(out.name, out, asked, own_drafter(asked))
    if not case.predicted.exists():  # it stands on the profile as it was
        messages().print(f"1/3 steps of {engine.kind}")
        _profile(scenario, folders, engine, out / STEPS, PROFILE_SHARE * minutes, lengths)
    messages().print("2/3 prediction")
    _predict(case)
    messages().print("3/3 measurement")
    left = (until - time.monotonic()) / 60
    if not measure_engine_map(case.drafters, engine, case.measured, MAP_REPEATS, draft_lengths=lengths, minutes=left):
        messages().print("not every repeat was measured in this time; the same command goes on")
    score = score_map(case, next(iter(case.drafters)))
    if as_json:
        print_json(fidelity_document([score]))
        return
    screen = console()
    for sheet in (speedup_sheet(score), regret_sheet(score.told)):
        screen.print(sheet.fitted(screen.width))
    for line in (*speedup_lines([score]), _told_line(score)):
        screen.print(line, markup=False)


def _told_line(score: MapScore) -> str:
    told = score.told
    return (
        f"round times, which drift with the machine: mean |error| {told.mean_absolute_error():.1%}, bias "
        f"{told.mean_error():+.1%}; following the predicted k loses at most {told.worst_regret():.1%}"
    )


def _profile(
    scenario: Scenario, folders: Checkpoints, engine: RealEngine, out: Path, minutes: float, lengths: tuple[int, ...]
) -> None:
    if engine.kind != "vllm":
        raise InvalidInput(f"--engine {engine.kind}: steps are measured of vllm alone; measure its map with --grid")
    assert scenario.speculation is not None  # own_drafter saw to it
    drafter = folders.drafter if scenario.speculation.draft_model else None
    measure_steps(
        engine.python(),
        folders.target,
        out,
        name=scenario.model.name,
        gpu=scenario.gpu.name,
        device="cpu" if scenario.gpu.kind == "cpu" else "cuda",
        drafters={scenario.speculation.drafter_name(): drafter},
        grid=grid_of(scenario, lengths),
        repeats=STEP_REPEATS,
        minutes=minutes,
    )


def grid_of(scenario: Scenario, lengths: tuple[int, ...]) -> StepGrid:
    """Steps that tell the map's apart without being them: other batch sizes between its ends, and other KV lengths.

    Of 2 sequences too: on a CPU 2 tokens can take longer than 4, which no neighbour tells.
    """
    largest = max(map_axes(scenario)[0])
    between = [3 * 2**power for power in range(largest.bit_length()) if 3 * 2**power < largest]
    context = scenario.mean_context_tokens()
    return StepGrid(
        tuple(sorted({1, min(2, largest), *between, largest})),
        lengths,
        tuple(sorted({max(8, round(context / 2) | 1), round(1.5 * context) | 1})),
        (),
        (),
    )


def few(lengths: list[int]) -> tuple[int, ...]:
    """The shortest, the longest and some between; all where they are few."""
    if len(lengths) <= MOST_LENGTHS + 2:
        return tuple(lengths)
    step = (len(lengths) - 1) / (MOST_LENGTHS - 1)
    return tuple(sorted({lengths[round(place * step)] for place in range(MOST_LENGTHS)} | {1}))


def _priced(scenario: Scenario, steps: Path) -> Scenario:
    """The scenario priced by these steps; they are of an engine that schedules one step at a time."""
    limits = scenario.stated_engine.model_copy(update={"async_scheduling": False})
    cost = scenario.cost.model_copy(update={"source": "steps", "profile": str(steps)})
    priced: Scenario = scenario.model_copy(update={"cost": cost, "stated_engine": limits})
    return priced


def _predict(case: Case) -> None:
    """Write the prediction, or keep the one that stands."""
    if not case.predicted.exists():
        predict_into(case, repeats=1)  # at least; time decides
        return
    for name, scenario in case.drafters.items():
        kept = committed_prediction(case, name)
        if kept is None or kept["scenario_sha256"] != scenario.sha256():
            raise InvalidInput(f"{case.folder} holds the run of another scenario; give another folder with --out")
