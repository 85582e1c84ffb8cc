"""Requests on their way to the replicas of one clock."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import simpy

from specsim.errors import InvalidInput
from specsim.serving.clock import ARRIVES, Instant
from specsim.serving.replica import Replica
from specsim.serving.router import RouterName, candidates, chosen
from specsim.workload.request import RequestSpec


class Feed:
    """Submits requests in order: at their times, or as ``clients`` (how many) get their answers."""

    def __init__(
        self, environment: simpy.Environment, requests: Iterable[RequestSpec], fleet: Sequence[Replica], *,
        clients: int | None, router: RouterName, seed: int,
    ) -> None:  # fmt: skip
        self.rejected = 0
        self.arrivals_s: list[float] = []
        self._environment = environment
        self._closed = clients is not None
        self._queue: Iterator[RequestSpec] = iter(requests)
        self._fleet = fleet
        self._router: RouterName = router
        self._seed = seed
        self._sent = 0
        if clients is None:
            environment.process(self._open_loop())
        else:
            for request in islice(self._queue, clients):
                self._send(request, environment.now)

    def on_finish(self, now_s: float) -> None:
        """A client has its answer; one that does not think is heard before the replica's next step."""
        request = next(self._queue, None) if self._closed else None
        if request is None:
            return
        if request.think_s:
            self._environment.process(self._after_thinking(request, now_s + request.think_s))
        else:
            self._send(request, now_s)

    def _open_loop(self) -> Generator[simpy.Event, Any, None]:
        environment = self._environment
        for request in self._queue:
            arrival_s = request.arrival_s
            if arrival_s is None:
                raise InvalidInput(
                    f"request {request.request_id} has no arrival time; give one, or closed-loop clients"
                )
            while environment.now < arrival_s:  # now + (arrival - now) may fall one rounding short of it
                yield Instant(environment, arrival_s - environment.now, ARRIVES)
            self._send(request, arrival_s)

    def _after_thinking(self, request: RequestSpec, arrival_s: float) -> Generator[simpy.Event, Any, None]:
        environment = self._environment
        while environment.now < arrival_s:
            yield Instant(environment, arrival_s - environment.now, ARRIVES)
        self._send(request, arrival_s)

    def _send(self, request: RequestSpec, arrival_s: float) -> None:
        number = np.array([self._sent])
        asked = candidates(self._router, len(self._fleet), self._seed, number)[0].tolist()
        self._sent += 1
        self.arrivals_s.append(arrival_s)
        one = chosen(asked, lambda index: self._fleet[index].unfinished)
        if not self._fleet[one].submit(request, arrival_s):
            self.rejected += 1
            self.on_finish(arrival_s)
