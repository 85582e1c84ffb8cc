"""Loads on engines that are stepped side by side, each on a clock of its own: the sum of its steps' seconds.

On a shared machine a server's latency under a load tells little: within a run of half a minute the machine may change
by a factor of two, and a load that was 60 % of saturation is 120 % of it. Here the alternatives' engines take turns
step by step, the one whose clock is behind first, and a plain step of one more engine (the *pace*) follows each round
of turns. A step counts with the seconds that it would have taken had the pace been what it was when the steps were
profiled; arrivals are due on that clock, and where nothing runs it jumps to the next one. So every alternative meets
the same traffic, at its share of saturation, in the same states of the machine.

What is left out is what a server adds to its engine: HTTP, and scheduling a step while another runs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import fmean

from specsim.engines.adapter import Checkpoints, OfflineEngine, longest_sequence
from specsim.engines.client import StreamedAnswer
from specsim.engines.driver import Driver
from specsim.engines.prompts import PromptIds, prompts_of
from specsim.engines.run import requests_to_send, run_result, warm_up_requests
from specsim.engines.turns import IDLE_S, Pace, side_by_side
from specsim.errors import NoAnswer
from specsim.profiles.steps import PACE
from specsim.results import AcceptanceCounts, RunResult
from specsim.scenario import Scenario
from specsim.workload.request import RequestSpec

PACES = 6  # of the latest ones the machine's speed is the mean
PACE_STEPS, WARM_UP_STEPS = 48, 2  # of the pace in a stretch


class SteppedLoads:
    """Engines of a set of alternatives and the pace's. Use ``running``, then ``serve`` each load.

    ``pace_s``: seconds of a step of the shape PACE when steps were profiled. ``folder`` gets the engines' messages,
    which only a failure leaves there.
    """

    def __init__(
        self,
        engine: OfflineEngine,
        python: Path,
        folder: Path,
        pace_s: float,
        *,
        starting: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._engine, self._python, self._folder, self._pace_s = engine, python, folder, pace_s
        self._starting = starting
        self._drivers: dict[str, Driver] = {}
        self._speed: _Speed | None = None

    def check(self, scenario: Scenario, checkpoints: Checkpoints) -> None:
        """Raises InvalidInput or NoAnswer, before anything starts, for what the engine cannot run."""
        if not self._engine.load_job(scenario, checkpoints).shared:
            raise NoAnswer(
                "clock: steps has all alternatives' engines up at once, which share no GPU; leave it out of "
                "loads.yaml, and servers take turns run by run"
            )
        requests_to_send(scenario)

    @contextmanager
    def running(self, alternatives: Mapping[str, tuple[Scenario, Checkpoints]]) -> Iterator[SteppedLoads]:
        """Have the alternatives' engines up, by name; all are stopped at the end. Raises NoAnswer if one fails."""
        self._folder.mkdir(parents=True, exist_ok=True)
        scenario, checkpoints = next(iter(alternatives.values()))
        asked = {**alternatives, "the pace": (_pacing(scenario), checkpoints)}
        starts = [partial(self._started, number, *one) for number, one in enumerate(asked.items())]
        with side_by_side(starts) as drivers:
            *own, pacing = drivers
            self._drivers = dict(zip(alternatives, own, strict=True))
            beginnings = repeat({**asdict(PACE), "steps": WARM_UP_STEPS + PACE_STEPS})
            self._speed = _Speed(Pace(pacing, beginnings, WARM_UP_STEPS), self._pace_s)
            yield self

    def serve(self, scenarios: Mapping[str, Scenario]) -> dict[str, RunResult]:
        """One load under each alternative, by name, all side by side. Raises NoAnswer where an engine stops."""
        assert self._speed is not None  # inside ``running``
        arms = {}
        for name, scenario in scenarios.items():
            requests = requests_to_send(scenario)
            prompts = prompts_of(scenario, requests)
            few = _Arm(self._drivers[name], warm_up_requests(requests), prompts, concurrency=len(requests))
            while few.step(1.0):
                pass
            clients = scenario.workload.clients
            concurrency = None if clients is None else clients.concurrency
            arms[name] = _Arm(self._drivers[name], requests, prompts, concurrency=concurrency)
        turn, left = 0, list(arms.values())
        while left:
            if turn % len(left) == 0:
                self._speed.look()
            behind = min(left, key=lambda arm: arm.clock_s)
            time.sleep(IDLE_S)
            if not behind.step(self._speed.factor):
                left.remove(behind)
            turn += 1
        return {name: self._result(scenarios[name], name, arm) for name, arm in arms.items()}

    def _result(self, scenario: Scenario, name: str, arm: _Arm) -> RunResult:
        answers = sorted(arm.answers, key=lambda answer: answer.request.request_id)
        result = run_result(scenario, self._engine.kind, answers, arm.acceptance)
        return replace(result, num_kv_blocks=self._drivers[name].facts.get("num_kv_blocks"))

    def _started(self, number: int, name: str, asked: tuple[Scenario, Checkpoints]) -> Driver:
        log = self._folder / f"{self._engine.kind}-{number}.log"
        self._starting(f"starting {self._engine.kind} for {name}, log in {log}")
        engine = self._engine
        return Driver(
            self._python, engine.load_job(*asked).start, log, device="cpu", script=engine.script, kind=engine.kind
        )


class _Speed:
    """How the machine is now: ``factor`` times the seconds that a step takes are those of the profile."""

    def __init__(self, pace: Pace, profiled_s: float) -> None:
        self._pace, self._profiled_s = pace, profiled_s
        self._latest = deque[float](maxlen=PACES)
        self.factor = 1.0

    def look(self) -> None:
        time.sleep(IDLE_S)
        self._latest += [step["seconds"]["total"] for step in self._pace.steps(1)]
        self.factor = self._profiled_s / fmean(self._latest)


class _Arm:
    """An alternative's engine under a load, on its own clock.

    ``concurrency`` None: every request comes at its ``arrival_s``; else so many clients take turns through them, each
    sending its next one ``think_s`` after its last answer.
    """

    def __init__(
        self, driver: Driver, requests: Sequence[RequestSpec], prompts: PromptIds, *, concurrency: int | None
    ) -> None:
        self._driver, self._prompts, self._closed = driver, prompts, concurrency is not None
        self._waiting = deque(sorted(requests, key=_due_s) if concurrency is None else requests)
        self._clients = [0.0] * (concurrency or 0)  # when each that waits for no answer sends its next request
        self._running: dict[int, StreamedAnswer] = {}
        self.clock_s = 0.0
        self.answers: list[StreamedAnswer] = []
        self.acceptance = AcceptanceCounts()
        driver.begin({"load": True})

    def step(self, factor: float) -> bool:
        """The engine's next step, whose seconds count ``factor`` times; whether there was one."""
        if not self._running:
            next_s = self._next_s()
            if next_s is None:
                return False
            self.clock_s = max(self.clock_s, next_s)
        arriving = list(self._due())
        self._running |= {answer.request.request_id: answer for answer in arriving}
        sent = [
            {
                "id": answer.request.request_id,
                "prompt": list(self._prompts(answer.request)),
                "output_tokens": answer.request.output_tokens,
            }
            for answer in arriving
        ]
        for step in self._driver.steps(1, sent):
            self.clock_s += factor * step["seconds"]["total"]
            for drafted, accepted in zip(step["drafted"], step["accepted"], strict=True):
                self.acceptance.add(drafted, accepted)
            for request_id, tokens in step["tokens"]:
                self._book(self._running[request_id], tokens)
        return True

    def _book(self, answer: StreamedAnswer, tokens: int) -> None:
        """An answer has so many tokens now."""
        if tokens > answer.tokens:
            answer.chunks.append((self.clock_s, tokens))
        if tokens == answer.request.output_tokens:
            self.answers.append(self._running.pop(answer.request.request_id))
            self._clients.append(self.clock_s)

    def _next_s(self) -> float | None:
        """When the next request comes; None after the last."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        return min(self._clients) + first.think_s if self._closed else _due_s(first)

    def _due(self) -> Iterator[StreamedAnswer]:
        """The requests that have come by now, each sent when it was due."""
        while self._waiting and (not self._closed or self._clients):
            due_s = self._next_s()
            if due_s is None or due_s > self.clock_s:
                return
            if self._closed:
                self._clients.remove(min(self._clients))
            yield StreamedAnswer(self._waiting.popleft(), due_s)


def _due_s(request: RequestSpec) -> float:
    assert request.arrival_s is not None  # of an open loop
    return request.arrival_s


def _pacing(scenario: Scenario) -> Scenario:
    """The scenario's engine without a drafter, with room for the pace's steps."""
    plain = scenario.without_speculation()
    room = PACE.kv_len + PACE_STEPS + 2 * WARM_UP_STEPS
    limits = {
        "max_num_seqs": max(scenario.engine.max_num_seqs, PACE.sequences),
        "max_model_len": max(longest_sequence(plain), room),
    }
    paced: Scenario = plain.model_copy(update={"stated_engine": plain.stated_engine.model_copy(update=limits)})
    return paced
