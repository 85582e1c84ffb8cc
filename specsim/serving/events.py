"""The SimPy drive: arrivals, clients, and one timeout a step of each replica; the step itself is the compiled one.

What happens at one instant happens in this order: steps end, then requests arrive, then steps start; among steps the
replica with the lower number goes first, among requests the earlier one. So a request that arrives as a step ends is
in the next one, and a router sees what has finished by then. ``loop`` keeps the same order without SimPy.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from heapq import heappush
from typing import Any

import simpy

from specsim.serving.entry import END, LAUNCH, SEND, START, TAKE, compiled
from specsim.serving.fleet import Fleet, request_view
from specsim.serving.loop import ARRIVES, ENDS, STARTS
from specsim.serving.sinks import Sink
from specsim.workload.request import Requests

ORDERS = 2**40  # more than there are requests


class Environment(simpy.Environment):
    """SimPy's with events at absolute times, which ``now`` plus a delay would round."""

    def at(self, time_s: float, kind: int, order: int, event: simpy.Event | None = None) -> simpy.Event:
        """An event, or the one given, at its place among those of the same time."""
        event = simpy.Event(self) if event is None else event
        event._ok, event._value = True, None
        queue: list[Any] = self._queue
        heappush(queue, (time_s, (kind + 1) * ORDERS + order, next(self._eid), event))
        return event


def serve_by_events(fleet: Fleet, whole: Iterable[Requests], sink: Sink, *, at_once: bool = False) -> None:
    """Serve all requests, in order. ``at_once``: the sink hears of each request as it finishes.

    Raises NoAnswer for a request that could never run.
    """
    environment = Environment()
    feed = _Feed(environment, fleet, whole)
    feed.replicas = [
        _Replica(environment, fleet, feed, sink, number, at_once) for number in range(len(fleet.replicas))
    ]
    feed.fill()
    environment.run()
    fleet.log.empty(sink)


class _Feed:
    """Requests on their way to the replicas."""

    def __init__(self, environment: Environment, fleet: Fleet, whole: Iterable[Requests]) -> None:
        self.replicas: list[_Replica] = []
        self._environment, self._fleet, self._call = environment, fleet, compiled()
        self._parts: Iterator[Requests] = iter(fleet.parts(whole))

    def fill(self) -> None:
        """Give each idle source the next request, if there is one, which comes at its time."""
        fleet, record = self._fleet, self._fleet.record[0]
        while record["first_idle"] < record["num_idle"]:
            if record["row"] == record["num_rows"]:
                if record["no_more_rows"]:
                    break
                fleet.end_part()
                fleet.bring(next(self._parts, None))
                continue
            if not record["spare_request"]:
                fleet.more_records()
            source = int(fleet.idle[record["first_idle"]])
            record["first_idle"] += 1
            address = self._call(TAKE, fleet.at, source, 0)
            one = request_view(address)[0]
            arrival = self._environment.at(float(one["arrival_s"]), ARRIVES, int(one["serial"]))
            assert arrival.callbacks is not None
            arrival.callbacks.append(partial(self._arrive, source, address))
        record["first_idle"] = record["num_idle"] = 0

    def _arrive(self, source: int, address: int, _: simpy.Event) -> None:
        fleet = self._fleet
        fleet.record["now_s"] = self._environment.now
        number = self._call(SEND, fleet.at, address, 0)
        if number >= 0:
            self.replicas[number].wake()
        if number < 0 or not fleet.closed:
            fleet.idle[0] = source
            fleet.record["num_idle"] = 1
            self.fill()


class _Replica:
    """One replica: a step begins, passes and ends, as long as there is work."""

    def __init__(
        self, environment: Environment, fleet: Fleet, feed: _Feed, sink: Sink, number: int, at_once: bool
    ) -> None:  # fmt: skip
        self._environment, self._fleet, self._feed, self._sink = environment, fleet, feed, sink
        self._number, self._at_once, self._idle = number, at_once, environment.event()
        environment.process(self._serve())

    def wake(self) -> None:
        """There is work."""
        if not self._idle.triggered:
            self._environment.at(self._environment.now, STARTS, self._number, self._idle)

    def _serve(self) -> Generator[simpy.Event, Any, None]:
        environment, fleet, number, call = self._environment, self._fleet, self._number, compiled()
        clock, own = fleet.record[0], fleet.replicas[number]
        start: simpy.Event = self._idle
        while True:
            yield start
            clock["now_s"] = environment.now
            if call(START, fleet.at, number, 0):
                fleet.answer(number)
            call(LAUNCH, fleet.at, number, 0)
            yield environment.at(float(own["now_s"]), ENDS, number)
            clock["now_s"] = environment.now
            status = call(END, fleet.at, number, 0)
            if status >= 2 or (self._at_once and fleet.log.finished):
                fleet.log.empty(self._sink)
            if clock["num_idle"]:
                self._feed.fill()
            if status % 2:
                start = environment.at(environment.now, STARTS, number)
            else:
                start = self._idle = environment.event()
