"""What arrives: drawn from laws, or replayed from a trace.

Every random choice has a generator or counter of its own, keyed by the scenario's seed: arrivals, lengths, think
times, classes and shuffling do not move each other, nor does anything that the scenario says of speculation. Requests
come in blocks of one size whatever the number asked for, so that a run of 100 is the start of a run of a million.

    workload:                                       workload:
      kind: synthetic                                 kind: trace
      arrivals: {kind: diurnal, rate_per_s: 6,        path: production.csv
                 amplitude: 0.5}                      columns: {arrival: ts, prompt: in, output: out, class: app}
      lengths: {kind: trace, path: azure.csv}         time_unit: ms
      requests: 100000                                rate_per_s: 12
      classes:                                        max_prompt_tokens: 8000
        - {name: chat, weight: 3}                     classes:
        - name: code                                    - {name: code, acceptance: {kind: constant, rate: 0.9}}
          acceptance: {kind: constant, rate: 0.9}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from specsim.errors import InvalidInput
from specsim.scenario.acceptance_reference import Law
from specsim.scenario.trace_file import ScenarioLengths, TraceFile
from specsim.speculation.acceptance import Acceptance
from specsim.speculation.uniform import uniform
from specsim.validated import Validated
from specsim.workload.arrivals import Arrivals, ClosedLoopArrivals, RequestRate
from specsim.workload.lengths import LengthLaw
from specsim.workload.request import DEFAULT_CLASS, MAX_CLASSES, Requests, joined

BLOCK = 16_384
ARRIVALS, LENGTHS, THINKING, SHUFFLE = range(4)  # generators of a seed
CLASS_STREAM = 101  # of the counter-based numbers; those of acceptance laws are small


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


class TraceClass(Validated):
    """What sets a class of requests apart; a trace names classes in its class column."""

    name: str = Field(min_length=1)
    acceptance: Law | None = None  # None: the speculation's
    priority: int = Field(0, ge=-(2**31), lt=2**31)  # lower goes first, where the engine's policy looks at it


class RequestClass(TraceClass):
    """A share of the requests, ``weight`` against the others', with lengths of its own."""

    weight: PositiveFloat = Field(1.0, le=1e9)
    lengths: ScenarioLengths | None = None  # None: the workload's


class SyntheticWorkload(Validated):
    """Requests drawn from arrival and length laws; without ``classes`` all are of one class, ``default``."""

    kind: Literal["synthetic"] = "synthetic"
    arrivals: Arrivals
    lengths: ScenarioLengths | None = None
    requests: PositiveInt = Field(le=10**8)  # some hours of simulation
    classes: tuple[RequestClass, ...] = Field((), max_length=MAX_CLASSES)

    @model_validator(mode="after")
    def _every_class_has_lengths(self) -> Self:
        _refuse_repeated(one.name for one in self.classes)
        bare = [one.name for one in self.classes if one.lengths is None]
        if self.lengths is None and (bare or not self.classes):
            raise ValueError(f"lengths are missing{f' and class {bare[0]!r} has none' if bare else ''}; add them")
        return self

    @property
    def clients(self) -> ClosedLoopArrivals | None:
        """The closed loop's clients; None in an open loop."""
        return self.arrivals if isinstance(self.arrivals, ClosedLoopArrivals) else None

    def count(self) -> int:
        """Requests in the workload."""
        return self.requests

    def chunks(self, seed: int, size: int = BLOCK) -> Iterator[Requests]:
        """The requests in parts of ``size`` rows; what they hold does not depend on it."""
        return _in_parts(self._blocks(seed), size, self.requests)

    def draw(self, seed: int) -> Requests:
        """All requests at once."""
        return joined(list(self.chunks(seed)))

    def mean_lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens."""
        classes = self._classes()
        means = np.array([self._law(one).means() for one in classes])
        prompt, output = np.average(means, axis=0, weights=[one.weight for one in classes]).tolist()
        return prompt, output

    def acceptance_by_class(self) -> dict[str, Acceptance]:
        """Laws of the classes that have their own; these take the place of the speculation's."""
        return {one.name: one.acceptance for one in self.classes if one.acceptance is not None}

    def trace_files(self) -> list[TraceFile]:
        """The traces whose lengths it draws."""
        laws = (self.lengths, *(one.lengths for one in self.classes))
        return [law for law in laws if isinstance(law, TraceFile)]

    def _classes(self) -> tuple[RequestClass, ...]:
        return self.classes or (RequestClass(name=DEFAULT_CLASS),)

    def _law(self, one: RequestClass) -> LengthLaw:
        law = one.lengths if one.lengths is not None else self.lengths
        assert law is not None  # the validator saw to it
        return law

    def _blocks(self, seed: int) -> Iterator[Requests]:
        """Endless blocks of BLOCK requests."""
        classes, arrivals = self._classes(), self.arrivals
        shared = _generator(seed, LENGTHS)
        own = [shared if one.lengths is None else _generator(seed, LENGTHS, i) for i, one in enumerate(classes)]
        thinking, arriving = _generator(seed, THINKING), _generator(seed, ARRIVALS)
        times = None if isinstance(arrivals, ClosedLoopArrivals) else arrivals.blocks_s(BLOCK, arriving)
        weights = np.array([one.weight for one in classes])
        names, first = tuple(one.name for one in classes), 0
        while True:
            numbers = np.arange(first, first + BLOCK)
            index = _drawn_classes(seed, numbers, weights)
            prompts, outputs = np.empty((2, BLOCK), np.int32)
            if self.lengths is not None:
                prompts, outputs = self.lengths.draw(BLOCK, shared)
            for number, (one, generator) in enumerate(zip(classes, own, strict=True)):
                if one.lengths is not None:
                    theirs, mine = one.lengths.draw(BLOCK, generator), index == number
                    prompts, outputs = (
                        np.where(mine, new, old) for new, old in zip(theirs, (prompts, outputs), strict=True)
                    )
            yield Requests(
                arrival_s=None if times is None else next(times),
                prompt_tokens=prompts,
                output_tokens=outputs,
                class_index=index,
                classes=names,
                priorities=tuple(one.priority for one in classes),
                first_id=first,
                think_s=arrivals.think_times_s(BLOCK, thinking) if isinstance(arrivals, ClosedLoopArrivals) else None,
            )
            first += BLOCK


class TraceWorkload(TraceFile):
    """Requests replayed from a file.

    ``requests`` keeps the first ones. ``shuffle`` permutes the requests over the arrival times, by the scenario's
    seed. ``speed`` divides the arrival times, or ``rate_per_s`` does so that this becomes their mean rate, or
    ``arrivals`` replaces them. ``classes`` says more of classes that the file names.
    """

    kind: Literal["trace"] = "trace"
    requests: PositiveInt | None = None
    shuffle: bool = False
    speed: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    rate_per_s: RequestRate | None = None
    arrivals: Arrivals | None = None
    classes: tuple[TraceClass, ...] = Field((), max_length=MAX_CLASSES)

    @model_validator(mode="after")
    def _one_way_to_retime(self) -> Self:
        _refuse_repeated(one.name for one in self.classes)
        given = [name for name in ("speed", "rate_per_s", "arrivals") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both change the arrival times; keep one")
        return self

    @property
    def clients(self) -> ClosedLoopArrivals | None:
        """The closed loop's clients; None in an open loop."""
        return self.arrivals if isinstance(self.arrivals, ClosedLoopArrivals) else None

    def count(self) -> int:
        """Requests in the workload."""
        return self.requests or len(self.trace().requests)

    def chunks(self, seed: int, size: int = BLOCK) -> Iterator[Requests]:
        """The requests in parts of ``size`` rows."""
        return self.draw(seed).chunks(size)

    def draw(self, seed: int) -> Requests:
        """All requests at once. Raises InvalidInput as ``trace`` does, and for too few of them or unknown classes."""
        requests = self.trace().requests
        if self.requests is not None and self.requests > len(requests):
            raise InvalidInput(
                f"trace {self.path} has {len(requests)} requests and requests is {self.requests}; ask for fewer, or "
                "draw lengths of kind trace in a synthetic workload"
            )
        unknown = [one.name for one in self.classes if one.name not in requests.classes]
        if unknown:
            raise InvalidInput(
                f"trace {self.path} names no class {unknown[0]!r}; its classes: {', '.join(requests.classes[:9])}"
            )
        priority_of = {one.name: one.priority for one in self.classes}
        requests = replace(requests, priorities=tuple(priority_of.get(name, 0) for name in requests.classes))
        if self.shuffle:
            times = requests.arrival_s
            shuffled = requests.take(_generator(seed, SHUFFLE).permutation(len(requests)))
            requests = replace(shuffled, arrival_s=times)
        return self._retimed(requests.part(0, self.requests or len(requests)), seed)

    def mean_lengths(self) -> tuple[float, float]:
        """Mean prompt and output tokens; of a shuffled part, those of the part under seed 0."""
        requests = self.draw(0)
        return float(requests.prompt_tokens.mean()), float(requests.output_tokens.mean())

    def acceptance_by_class(self) -> dict[str, Acceptance]:
        """Laws of the classes that have their own; these take the place of the speculation's."""
        return {one.name: one.acceptance for one in self.classes if one.acceptance is not None}

    def trace_files(self) -> list[TraceFile]:
        """The trace that it replays."""
        return [self]

    def _retimed(self, requests: Requests, seed: int) -> Requests:
        count, arrivals = len(requests), self.arrivals
        if isinstance(arrivals, ClosedLoopArrivals):
            thinking = arrivals.think_times_s(count, _generator(seed, THINKING))
            return replace(requests, arrival_s=None, think_s=thinking)
        if arrivals is not None:
            return replace(requests, arrival_s=arrivals.times_s(count, _generator(seed, ARRIVALS)))
        times = requests.arrival_s
        if times is None:
            raise InvalidInput(f"trace {self.path} holds lengths without arrival times; add workload.arrivals")
        if self.rate_per_s is not None:
            span_s = float(times[-1] - times[0])
            if not span_s:
                raise InvalidInput(
                    f"trace {self.path}: all arrive at once, so no speed makes rate_per_s; add arrivals"
                )
            return replace(requests, arrival_s=times * ((count - 1) / span_s / self.rate_per_s))
        return replace(requests, arrival_s=times / (self.speed or 1.0))


Workload = Annotated[SyntheticWorkload | TraceWorkload, Field(discriminator="kind")]


def _refuse_repeated(names: Iterable[str]) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValueError(f"class {name!r} is given twice; give each class once")
        seen.add(name)


def _drawn_classes(seed: int, numbers: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int16]:
    """The class of each request number: a function of the seed and the number alone."""
    if len(weights) == 1:
        return np.zeros(len(numbers), np.int16)
    limits = np.cumsum(weights) / weights.sum()
    drawn = np.searchsorted(limits, uniform(seed, numbers, np.zeros_like(numbers), stream=CLASS_STREAM), side="right")
    return np.minimum(drawn, len(weights) - 1).astype(np.int16)


def _in_parts(blocks: Iterator[Requests], size: int, total: int) -> Iterator[Requests]:
    """The first ``total`` rows of endless blocks in parts of ``size``."""
    held: list[Requests] = []
    left = total
    while left:
        wanted = min(size, left)
        while sum(map(len, held)) < wanted:
            held.append(next(blocks))
        whole = joined(held)
        yield whole.part(0, wanted)
        held, left = [whole.part(wanted, len(whole))], left - wanted
