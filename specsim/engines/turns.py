"""Engines that stay up side by side on one device and take turns step by step.

A shared machine changes by a third within seconds, so that two engines' steps compare only where each is taken right
beside one of the other: then the ratio of their means repeats within a few percent. Only one of them is ever at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

from specsim.engines.driver import Driver, Step, StepSkipped
from specsim.errors import NoAnswer

IDLE_S = 0.006  # a CPU engine's threads spin for 5 ms after a step (KMP_BLOCKTIME), on the cores of whoever is next


@contextmanager
def side_by_side(starts: Sequence[Callable[[], Driver]]) -> Iterator[list[Driver]]:
    """Engines up together, in the order given; all are stopped at the end, and where one does not start.

    All start at once, so that none has the better place: of three plain engines alike, steps took those 3 to 18 %
    longer that had begun while no other was up, in each of seven trials, whoever went first in a turn. Where one
    fails or the user interrupts, those on their way are killed.
    """
    begun: list[Driver] = []
    stopping = Event()
    with ExitStack() as up:

        def ready(start: Callable[[], Driver]) -> Driver:
            driver = start()
            begun.append(driver)
            if stopping.is_set():
                driver.kill()
            return up.enter_context(driver)

        with ThreadPoolExecutor(len(starts)) as pool:
            starting = [pool.submit(ready, start) for start in starts]
            try:
                for one in as_completed(starting):
                    one.result()
            except BaseException:
                stopping.set()
                pool.shutdown(wait=False)
                for driver in begun:
                    driver.kill()
                raise
        yield [one.result() for one in starting]


class Pace:
    """An engine's steps of one kind without an end, for others to take turns with: begun anew whenever they end."""

    def __init__(self, driver: Driver, beginnings: Iterator[Mapping[str, Any]], warm_up: int) -> None:
        """``beginnings``: what each next stretch of steps is of, as Driver.begin takes it; its first are left out."""
        self._driver, self._beginnings, self._warm_up = driver, beginnings, warm_up
        self._begun = False

    def steps(self, count: int) -> list[Step]:
        """The next ones. Raises NoAnswer where a stretch has none, or the engine runs other steps than asked for."""
        found: list[Step] = []
        while len(found) < count:
            fresh = not self._begun
            try:
                if fresh:
                    self._driver.begin(next(self._beginnings))
                    self._driver.steps(self._warm_up)
                more = self._driver.steps(count - len(found))
            except StepSkipped as error:  # not of the step that takes turns with it
                raise NoAnswer(
                    "the engine without a drafter, whose steps the others are held against, cannot run them: "
                    f"{error}; give it more memory for its KV cache"
                ) from None
            if fresh and not more:
                raise NoAnswer("the engine without a drafter ran no step; give longer outputs or more num_kv_blocks")
            self._begun = bool(more)
            found += [one for one in more if one["seconds"]]
        return found


def in_turn(driver: Driver, pace: Pace) -> Iterator[tuple[Step, Step | None]]:
    """The steps of what ``driver`` has begun, each that is timed with one of the pace right after it.

    An engine that stops between no steps (transformers' ``generate``) has run all of its own by then.
    """
    while own := driver.steps(1):
        for one in own:
            time.sleep(IDLE_S)
            yield one, pace.steps(1)[0] if one["seconds"] else None
        time.sleep(IDLE_S)
