"""Order among events of one instant: steps end, then requests arrive, then steps start.

So a request that arrives as a step ends is in the next one, and a router sees what has finished by then.
"""

from __future__ import annotations

from typing import cast

import simpy
from simpy.events import EventPriority

ENDS, ARRIVES, STARTS = 1, 2, 3


class Instant(simpy.Event):
    """An event ``delay_s`` from now, at its place among those of the same time."""

    def __init__(self, environment: simpy.Environment, delay_s: float, order: int) -> None:
        super().__init__(environment)
        self._ok, self._value = True, None
        environment.schedule(self, cast(EventPriority, order), delay_s)
