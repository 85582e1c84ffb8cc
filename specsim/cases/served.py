"""The runs of a served case: the closed loop that finds its saturation, then loads at shares of it.

The saturation is the median over the repeats of requests/s of a closed loop of ``max_num_seqs`` clients, from its
first request to its last, so that the ends of the run, where fewer are in flight, count too. A run's seed is the
scenario's own in every repeat: repeats differ by what the machine does, never by the workload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from specsim.cases.case import Case
from specsim.cases.loads import OWN, Loads
from specsim.errors import InvalidInput
from specsim.results.served_rows import SATURATION, SCENARIO, ServedRow, load_predictions, load_rows
from specsim.scenario import Scenario, load_scenario
from specsim.workload.arrivals import ClosedLoopArrivals, OpenArrivals

ServedStage = Literal["saturation", "loads"]


@dataclass(frozen=True, slots=True)
class ServedRun:
    """One load under one alternative, in full; ``variant`` names the acceptance, and only ``scenario`` is measured."""

    load: str
    alternative: str
    variant: str
    scenario: Scenario


def run_name(run: ServedRun) -> str:
    """A run's name in ``conditions.csv``."""
    return f"{run.load}/{run.alternative}"


def loads_of(case: Case) -> Loads:
    """The case's loads. Raises InvalidInput for a map."""
    if case.loads is None:
        raise InvalidInput(f"{case.folder} has no loads.yaml, so nothing is served there; measure its map with --grid")
    return case.loads


def saturation_runs(case: Case) -> list[ServedRun]:
    """A closed loop of ``max_num_seqs`` clients under every alternative."""
    runs = []
    for name, settings in loads_of(case).alternatives.items():
        scenario = _configured(case, f"alternative {name!r}", settings)
        clients = ClosedLoopArrivals(concurrency=scenario.engine.max_num_seqs)
        runs.append(ServedRun(SATURATION, name, SCENARIO, _arriving(scenario, clients)))
    return runs


def require_saturation(case: Case) -> None:
    """Raises InvalidInput unless every repeat of the saturation has been measured, of the case as it is now."""
    left = _saturation_left(case)
    if left:
        raise InvalidInput(
            f"{case.saturation} lacks {left} runs of {loads_of(case).repeats} repeats; go on: specsim measure "
            f"{case.folder} --saturation"
        )


def _saturation_left(case: Case) -> int:
    runs = saturation_runs(case)
    rows = rows_to_extend(case.saturation, runs)
    return sum(1 for _ in still_to_run(runs, rows, repeats=loads_of(case).repeats, seed=case.scenario.seed))


def saturation_per_s(case: Case) -> dict[str, float]:
    """Requests per second of every alternative's saturation, median over the repeats there are.

    Raises InvalidInput for an alternative without any.
    """
    rates: dict[str, list[float]] = {name: [] for name in loads_of(case).alternatives}
    for row in rows_of(case.saturation, saturation_runs(case)):
        rates[row.alternative].append(row.metrics["request_throughput"] or 0.0)
    lacking = [name for name, found in rates.items() if not found]
    if lacking:
        raise InvalidInput(
            f"{case.saturation} has no run of {lacking[0]}; measure it first: specsim measure {case.folder} "
            "--saturation"
        )
    return {name: float(np.median(found)) for name, found in rates.items()}


def load_runs(case: Case, *, variants: bool = False) -> list[ServedRun]:
    """Every load under every alternative, with ``variants`` also in the other acceptance laws.

    Arrival rates are shares times the measured saturation. An alternative without speculation has no variants.
    """
    loads, saturation = loads_of(case), saturation_per_s(case)
    runs = []
    for name, settings in loads.alternatives.items():
        rate_per_s = saturation[name if loads.saturation_of == OWN else loads.saturation_of]
        scenarios = {SCENARIO: _configured(case, f"alternative {name!r}", settings)}
        if variants and scenarios[SCENARIO].speculation is not None:
            scenarios |= {
                variant: _configured(case, f"alternative {name!r}, variant {variant!r}", (*settings, *law))
                for variant, law in loads.laws(name).items()
            }
        for variant, scenario in scenarios.items():
            for load, shares in loads.loads.items():
                assert not isinstance(shares, ClosedLoopArrivals)  # the file's own rules saw to it
                runs.append(ServedRun(load, name, variant, _arriving(scenario, shares.faster(rate_per_s))))
    return runs


def rows_of(path: Path, runs: Sequence[ServedRun]) -> list[ServedRow]:
    """The rows measured so far; none without the file. Raises InvalidInput for one that is of none of these runs."""
    known = {(run.load, run.alternative) for run in runs}
    rows = load_rows(path) if path.exists() else []
    for row in rows:
        if (row.load, row.alternative) not in known:
            raise InvalidInput(
                f"{path} holds {row.load} under {row.alternative}, which loads.yaml does not name; restore it "
                "or move the table away"
            )
    return rows


def rows_to_extend(path: Path, runs: Sequence[ServedRun]) -> list[ServedRow]:
    """As ``rows_of``, for what is to be measured or predicted on top: every row must have run what its run is now.

    Scoring takes rows as they are, because a scenario may gain fields that change its hash and no answer.
    """
    rows = rows_of(path, runs)
    hashes = {(run.load, run.alternative): run.scenario.sha256() for run in runs}
    for row in rows:
        if row.scenario_sha256 != hashes[row.load, row.alternative]:
            raise InvalidInput(
                f"{path}: repeat {row.repeat} of {row.load} under {row.alternative} ran another scenario than the "
                "case holds now; restore the case or move the table away"
            )
    return rows


def runs_to_measure(case: Case, what: ServedStage) -> tuple[list[ServedRun], Path]:
    """The runs of a case's saturation or loads, and the table they go to.

    Raises InvalidInput for loads whose saturation is not measured or that were not predicted first, and for a
    saturation whose loads were. Repeats can be added to loads at any time: their rates stay.
    """
    if what == "saturation":
        if case.predicted.exists() and _saturation_left(case):
            raise InvalidInput(
                f"{case.predicted} stands on the saturation as it was measured, and more of it would move the loads; "
                "remove the prediction if nothing has tested it"
            )
        return saturation_runs(case), case.saturation
    runs = load_runs(case)
    foretold = {(one.load, one.alternative, one.scenario_sha256) for one in load_predictions(case.predicted)}
    lacking = [run for run in runs if (run.load, run.alternative, run.scenario.sha256()) not in foretold]
    if lacking:
        raise InvalidInput(
            f"{case.predicted} predicts no {lacking[0].load} under {lacking[0].alternative} as the case holds it now; "
            f"predict before measuring: specsim validate {case.folder} --predict"
        )
    return runs, case.measured


def still_to_run(
    runs: Sequence[ServedRun], done: Collection[ServedRow], *, repeats: int, seed: int
) -> Iterator[tuple[int, ServedRun]]:
    """(repeat, run) of what no row holds yet: repeat by repeat, each in a shuffled order of its own."""
    held = {(row.repeat, row.load, row.alternative) for row in done}
    for repeat in range(repeats):
        for index in np.random.default_rng([seed, repeat]).permutation(len(runs)):
            if (repeat, runs[index].load, runs[index].alternative) not in held:
                yield repeat, runs[index]


def _configured(case: Case, what: str, settings: Sequence[str]) -> Scenario:
    try:
        scenario = load_scenario(str(case.folder / "scenario.yaml"), settings, settings_folder=case.folder)
    except InvalidInput as error:
        raise InvalidInput(f"{case.folder / 'loads.yaml'}: {what}: {error}") from None
    conditioned: Scenario = scenario.model_copy(update={"conditions": case.scenario.conditions})
    return conditioned


def _arriving(scenario: Scenario, arrivals: OpenArrivals | ClosedLoopArrivals) -> Scenario:
    """The scenario under other arrivals, which take the place of everything that timed its requests."""
    workload = scenario.workload
    timing: dict[str, Any] = {name: None for name in ("speed", "rate_per_s") if name in type(workload).model_fields}
    changed = workload.model_copy(update=timing | {"arrivals": arrivals})
    loaded: Scenario = scenario.model_copy(update={"workload": changed})
    return loaded
