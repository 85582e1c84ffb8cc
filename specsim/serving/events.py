"""The SimPy drive: arrivals, clients, transfers, and one timeout a step of each replica; the step itself is compiled.

What happens at one instant happens in this order: steps end, then KV arrives, then requests do, then steps start;
among steps and transfers the replica with the lower number goes first, among requests the earlier one. So a request
that arrives as a step ends is in the next one, and a router sees what has finished by then. ``loop`` keeps the same
order without SimPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import heappush
from typing import Any

import simpy

from specsim.jit import Callback, compiled
from specsim.serving.fleet import Fleet, request_view
from specsim.serving.records import ARRIVES, ENDS, MOVES, STARTS
from specsim.serving.sinks import Sink
from specsim.serving.transfers import end_move
from specsim.serving.transitions import (
    ASKS,
    GOES_ON,
    IDLES,
    LOG_FULL,
    end_step,
    launch_step,
    send_request,
    start_step,
    take_request,
)
from specsim.workload.request import Requests

ORDERS = 2**40  # more than there are requests


class Environment(simpy.Environment):
    """SimPy's with events at absolute times, which ``now`` plus a delay would round."""

    def at(self, time_s: float, kind: int, order: int, then: Callable[[simpy.Event], None]) -> None:
        """Let ``then`` happen, at its place among what happens at the same time."""
        event = simpy.Event(self)
        event._ok, event._value, event.callbacks = True, None, [then]
        queue: list[Any] = self._queue
        heappush(queue, (time_s, (kind + 1) * ORDERS + order, next(self._eid), event))


def serve_by_events(fleet: Fleet, whole: Iterable[Requests], sink: Sink, *, at_once: bool = False) -> None:
    """Serve all requests, in order. ``at_once``: the sink hears of each request as it finishes.

    Raises NoAnswer for a request that could never run.
    """
    environment = Environment()
    feed = _Feed(environment, fleet, whole, sink, at_once)
    numbers = range(len(fleet.replicas))
    feed.waiting = {fleet.num_sources + number: _Replica(environment, feed, number) for number in numbers}
    feed.waiting |= {fleet.num_sources + len(numbers) + number: _Link(environment, feed, number) for number in numbers}
    feed.fill()
    environment.run()
    fleet.log.empty(sink)


class _Feed:
    """Requests on their way to the replicas, and what an event brings about."""

    def __init__(
        self, environment: Environment, fleet: Fleet, whole: Iterable[Requests], sink: Sink, at_once: bool
    ) -> None:
        self.waiting: dict[int, _Replica | _Link] = {}  # by slot
        self.fleet, self._record = fleet, fleet.record[0]
        # Views, which are read and written in half the time of a record's field.
        self._now_s, self._num_ahead, self._num_idle = (fleet.record[of] for of in ("now_s", "num_ahead", "num_idle"))
        self._environment, self._sink, self._at_once = environment, sink, at_once
        self._parts: Iterator[Requests] = iter(fleet.intake.parts(whole))

    def happen(self, what: Callback, argument: int) -> int:
        """Let something happen now, and plan what it brings about."""
        self._now_s[0] = self._environment.now
        status = what(self.fleet.at, argument)
        if count := self._num_ahead[0]:
            for event in self.fleet.ahead[:count]:
                self.waiting[int(event["slot"])].plan(float(event["time_s"]))
            self._num_ahead[0] = 0
        return status

    def tell(self, log_full: int) -> None:
        """Hand on what has happened, and let clients go on that have their answer."""
        if log_full or (self._at_once and self.fleet.log.finished):
            self.fleet.log.empty(self._sink)
        if self._num_idle[0]:
            self.fill()

    def fill(self) -> None:
        """Give each idle source the next request, if there is one, which comes at its time."""
        fleet, record, take = self.fleet, self._record, compiled(take_request)
        while record["first_idle"] < record["num_idle"]:
            if record["row"] == record["num_rows"]:
                if record["no_more_rows"]:
                    break
                fleet.end_part()
                fleet.intake.bring(next(self._parts, None))
                continue
            source = int(fleet.idle[record["first_idle"]])
            address = take(fleet.at, source)
            if not address:
                fleet.intake.more_records()
                continue
            record["first_idle"] += 1
            one = request_view(address)[0]
            arrives_s = float(one["arrival_s"] + record["request_s"])
            self._environment.at(arrives_s, ARRIVES, int(one["serial"]), partial(self._arrive, source, address))
        record["first_idle"] = record["num_idle"] = 0

    def _arrive(self, source: int, address: int, _: simpy.Event) -> None:
        sent = self.happen(compiled(send_request), address)
        if not sent or not self.fleet.closed:
            self.fleet.idle[0], self.fleet.idle_since[source] = source, self._environment.now
            self._num_idle[0] = 1
            self.fill()


class _Replica:
    """One replica: a step begins, passes and ends, as long as there is work."""

    def __init__(self, environment: Environment, feed: _Feed, number: int) -> None:
        self._environment, self._feed, self._number = environment, feed, number
        self._ends_s, self._idles = feed.fleet.replicas["now_s"][number : number + 1], True

    def plan(self, time_s: float) -> None:
        """There may be work."""
        if self._idles:
            self._idles = False
            self._environment.at(time_s, STARTS, self._number, self._start)

    def _start(self, event: simpy.Event) -> None:
        begun = self._feed.happen(compiled(start_step), self._number)
        if begun == ASKS:
            self._feed.fleet.answer(self._number)
            compiled(launch_step)(self._feed.fleet.at, self._number)
        self._idles = begun == IDLES
        if not self._idles:
            self._environment.at(float(self._ends_s[0]), ENDS, self._number, self._end)

    def _end(self, event: simpy.Event) -> None:
        status = self._feed.happen(compiled(end_step), self._number)
        self._feed.tell(status & LOG_FULL)
        environment = self._environment
        if not status & GOES_ON:
            self._idles = True
        elif environment.peek() > environment.now:  # nothing comes between
            self._start(event)
        else:
            environment.at(environment.now, STARTS, self._number, self._start)


class _Link:
    """What brings KV to one replica: the transfer that ends next tells of the one behind it."""

    def __init__(self, environment: Environment, feed: _Feed, number: int) -> None:
        self._environment, self._feed, self._number = environment, feed, number

    def plan(self, time_s: float) -> None:
        """KV will be there."""
        self._environment.at(time_s, MOVES, self._number, self._end)

    def _end(self, _: simpy.Event) -> None:
        self._feed.tell(self._feed.happen(compiled(end_move), self._number))
