"""A sweep's file: a scenario, and the settings that vary over it.

    scenario: scenario.yaml
    answer: predict
    grid: {speculation.max_draft_tokens: [1, 2, 3, 4, 5], deployment.tensor_parallel: [1, 2, 4]}
    lists: {gpu: [h100-sxm, b200], name: [hopper, blackwell]}
    random: {workload.arrivals.concurrency: {low: 1, high: 128, whole: true, log: true}}
    samples: 20

A point takes one value of each of ``grid``, one position of all ``lists`` together, and one of ``samples`` draws;
every combination is a point, and each, once, with no drafter too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from specsim.assembly import assemble
from specsim.errors import InvalidInput, SpecsimError, unknown_name
from specsim.scenario import Scenario
from specsim.scenario.natural_names import with_field_names
from specsim.scenario.read import apply_settings, load_scenario, scenario_of
from specsim.specs.yaml_file import read_yaml
from specsim.validated import Validated
from specsim.version import __version__

PRESETS = Path(__file__).parents[2] / "presets" / "sweeps"
MOST_POINTS = 1_000_000
AnswerName = Literal["predict", "simulate", "plan"]


class DrawnNumber(Validated):
    """A number drawn evenly between two others, or between their logarithms; ``whole``: rounded."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> DrawnNumber:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} and high {self.high:g}; give low <= high, above 0 where log is on")
        return self

    def drawn(self, random: np.random.Generator) -> float | int:
        """One number."""
        u = float(random.random())
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return round(value) if self.whole else value


class Choices(Validated):
    """One of some values, each alike."""

    choices: tuple[Any, ...] = Field(min_length=1)

    def drawn(self, random: np.random.Generator) -> Any:
        """One value."""
        return self.choices[int(random.integers(len(self.choices)))]


class SweepFile(Validated):
    """What a sweep asks. ``scenario``: its fields, a path or a bundled name. ``off``: each point also with no drafter.

    ``usd_per_gpu_hour``: one price or one a GPU; None: the scenario's.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str = "sweep"
    scenario: str | dict[str, Any]
    answer: AnswerName = "predict"
    set: Mapping[str, Any] = Field(default_factory=dict)
    grid: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    lists: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    random: Mapping[str, DrawnNumber | Choices] = Field(default_factory=dict)
    samples: PositiveInt | None = None
    seed: NonNegativeInt = 0
    off: bool = True
    usd_per_gpu_hour: PositiveFloat | Mapping[str, PositiveFloat] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SweepFile:
        lengths = {path: len(values) for path, values in self.lists.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"lists move together and have {lengths} values; give each as many")
        if bool(self.random) != (self.samples is not None):
            raise ValueError("random and samples belong together; give both or neither")
        seen = [*self.grid, *self.lists, *self.random]
        twice = next((path for path in seen if seen.count(path) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} varies in two places; name each field once")
        if self.count() > MOST_POINTS:
            raise ValueError(f"{self.count():,} points; a sweep has at most {MOST_POINTS:,}")
        return self

    def count(self) -> int:
        """Combinations, those with no drafter left out."""
        moved = len(next(iter(self.lists.values()), (None,)))
        return math.prod(len(values) for values in self.grid.values()) * moved * (self.samples or 1)

    def settings(self) -> Iterator[dict[str, Any]]:
        """What each point sets, grid outermost."""
        random = np.random.default_rng(self.seed)
        together = [dict(zip(self.lists, row, strict=True)) for row in zip(*self.lists.values(), strict=True)] or [{}]
        draws = [{path: law.drawn(random) for path, law in self.random.items()} for _ in range(self.samples or 1)]
        for cell in itertools.product(*self.grid.values()):
            for row, draw in itertools.product(together, draws):
                yield dict(zip(self.grid, cell, strict=True)) | row | draw


@dataclass(frozen=True, slots=True)
class Point:
    """One question. ``key``: of its content and what answers it; the same question has the same one anywhere.

    ``scenario`` is None where the settings make none, and ``refused`` says why.
    """

    key: str
    settings: dict[str, Any]
    scenario: Scenario | None
    refused: str | None = None


def read_sweep(reference: Path | str) -> SweepFile:
    """The sweep of a path or a bundled name, its scenario's path resolved against its own folder.

    Raises InvalidInput.
    """
    path, names = Path(reference), sorted(one.stem for one in PRESETS.glob("*.yaml"))
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        if str(reference) not in names:
            raise unknown_name("sweep", str(reference), names)
        path = PRESETS / f"{reference}.yaml"
    sweep = read_yaml(path, SweepFile)
    if isinstance(sweep.scenario, str):
        beside = path.parent / sweep.scenario
        return sweep.model_copy(update={"scenario": str(beside.resolve())}) if beside.is_file() else sweep
    return sweep


def sweep_points(sweep: SweepFile) -> list[Point]:
    """Every point once, in the file's order, those with no drafter behind the first that has the same load.

    Raises InvalidInput where not one point makes a scenario.
    """
    found: dict[str, Point] = {}
    for settings in sweep.settings():
        for point in _points(sweep, settings):
            found.setdefault(point.key, point)
    points = list(found.values())
    if all(point.scenario is None for point in points):
        raise InvalidInput(f"no point of the sweep makes a scenario; the first: {points[0].refused}")
    return points


def _points(sweep: SweepFile, settings: dict[str, Any]) -> Iterator[Point]:
    """A combination of settings, and the same with no drafter."""
    texts = [f"{path}={json.dumps(value)}" for path, value in (dict(sweep.set) | settings).items()]
    try:
        scenario = _scenario(sweep, texts)
        yield Point(content_key(scenario, sweep.answer), settings, scenario)
    except SpecsimError as error:
        key = _digest("refused", __version__, json.dumps(sweep.scenario, sort_keys=True), *texts)
        yield Point(key, settings, None, str(error))
        return
    if sweep.off and scenario.speculation is not None:
        plain = scenario.without_speculation()
        apart = {path: value for path, value in settings.items() if not path.startswith("speculation")}
        yield Point(content_key(plain, sweep.answer), apart | {"speculation": None}, plain)


def _scenario(sweep: SweepFile, settings: list[str]) -> Scenario:
    if isinstance(sweep.scenario, str):
        return load_scenario(sweep.scenario, settings)
    fields = with_field_names({"name": sweep.name} | deepcopy(sweep.scenario))
    apply_settings(fields, settings)
    return scenario_of(fields, folder=Path(), where=f"the scenario of sweep {sweep.name}")


def own_prices(points: Sequence[Point]) -> dict[str, float] | None:
    """USD an hour that the scenarios state, by GPU; None unless every GPU has one."""
    scenarios = [one.scenario for one in points if one.scenario is not None]
    prices = {one.gpu.name: one.usd_per_gpu_hour for one in scenarios if one.usd_per_gpu_hour is not None}
    return prices if prices.keys() >= {one.gpu.name for one in scenarios} else None


def content_key(scenario: Scenario, answer: str) -> str:
    """Hash of all that an answer depends on: the resolved scenario, its traces, its profile, and specsim's version.

    Its name and prices in money move no answer.
    """
    profile = assemble(scenario).profile
    fields = scenario.model_dump(mode="json", by_alias=True, exclude={"name", "usd_per_gpu_hour"})
    return _digest(
        answer,
        __version__,
        json.dumps(fields, sort_keys=True),
        json.dumps(scenario.engine.model_dump(mode="json"), sort_keys=True),
        "" if profile is None else profile.sha256,
        *(file.content_sha256() for file in scenario.workload.trace_files()),
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
