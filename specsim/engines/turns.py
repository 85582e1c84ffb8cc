"""Engines that stay up side by side on one device and take turns step by step.

A shared machine changes by a third within seconds, so that two engines' steps compare only where each is taken right
beside one of the other: then the ratio of their means repeats within a few percent. Only one of them is ever at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any

from specsim.engines.driver import Driver, Step
from specsim.errors import NoAnswer

IDLE_S = 0.006  # a CPU engine's threads spin for 5 ms after a step (KMP_BLOCKTIME), on the cores of whoever is next
AT_ONCE = 2  # engines that start at a time: mostly imports, a core each


@contextmanager
def side_by_side(starts: Sequence[Callable[[], Driver]]) -> Iterator[list[Driver]]:
    """Engines up together, in the order given; all are stopped at the end, and where one does not start.

    None is begun any more once one has failed or the user has interrupted; those on their way are waited for.
    """
    with ExitStack() as kept, ThreadPoolExecutor(AT_ONCE) as pool:
        starting = [pool.submit(start) for start in starts]
        try:
            wait(starting, return_when=FIRST_EXCEPTION)
        finally:
            for one in starting:
                one.cancel()
            begun = [one for one in starting if not one.cancelled()]
            failed = [error for one in begun if (error := one.exception()) is not None]
            drivers = [kept.enter_context(one.result()) for one in begun if one.exception() is None]
        if failed:
            raise failed[0]
        yield drivers


class Pace:
    """An engine's steps of one kind without an end, for others to take turns with: begun anew whenever they end."""

    def __init__(self, driver: Driver, beginnings: Iterator[Mapping[str, Any]], warm_up: int) -> None:
        """``beginnings``: what each next stretch of steps is of, as Driver.begin takes it; its first are left out."""
        self._driver, self._beginnings, self._warm_up = driver, beginnings, warm_up
        self._begun = False

    def steps(self, count: int) -> list[Step]:
        """The next ones. Raises NoAnswer where a stretch has none."""
        found: list[Step] = []
        while len(found) < count:
            fresh = not self._begun
            if fresh:
                self._driver.begin(next(self._beginnings))
                self._driver.steps(self._warm_up)
            more = self._driver.steps(count - len(found))
            if fresh and not more:
                raise NoAnswer("the engine without a drafter ran no step; give longer outputs or more num_kv_blocks")
            self._begun = bool(more)
            found += more
        return found


def in_turn(driver: Driver, pace: Pace) -> Iterator[tuple[Step, Step]]:
    """The steps of what ``driver`` has begun, each with one of the pace right after it.

    An engine that stops between no steps (transformers' ``generate``) has run all of its own by then.
    """
    while own := driver.steps(1):
        time.sleep(IDLE_S)
        yield from zip(own, pace.steps(len(own)), strict=True)
        time.sleep(IDLE_S)
