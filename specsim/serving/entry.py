"""The one way from Python into what is compiled: a whole run, or one replica's step in three calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from specsim.jit import entry, is_kept
from specsim.scheduling.price import prices_at, step_seconds
from specsim.scheduling.records import work_at
from specsim.scheduling.sources import sources
from specsim.serving.loop import serve
from specsim.serving.transitions import (
    decide_step,
    end_move,
    end_step,
    fleet_at,
    launch_step,
    log_full,
    send,
    start_step,
    take_row,
)

SERVE, TAKE, SEND, START, DECIDE, LAUNCH, END, MOVE, PRICE = range(9)


@lru_cache(maxsize=1)
def compiled() -> Callable[[int, int, int, int], int]:
    """``call(operation, address, argument, k)``: of a fleet with a replica's number, a source or a request's address;
    or PRICE of a PRICES record and a WORK record, whose ``seconds`` and ``rank`` it sets. END returns whether there is
    work for another step, plus 2 where the log must be emptied, as MOVE does, which ends a transfer.

    Compiled when first called, which takes some ten seconds, and then read from numba's cache.
    """

    def serving(operation: int, address: int, argument: int, k: int) -> int:
        if operation == PRICE:
            work = work_at(argument)
            work.seconds, work.rank = step_seconds(prices_at(address), work, k)
            return 0
        fleet = fleet_at(address)
        if operation == SERVE:
            return serve(fleet)
        if operation == TAKE:
            return take_row(fleet, argument)
        if operation == SEND:
            return int(send(fleet, argument))
        if operation == START:
            return start_step(fleet, argument)
        if operation == DECIDE:
            return int(decide_step(fleet, argument))
        if operation == LAUNCH:
            launch_step(fleet, argument)
            return 0
        if operation == MOVE:
            end_move(fleet, argument)
            return 2 * int(log_full(fleet))
        return int(end_step(fleet, argument)) + 2 * int(log_full(fleet))

    here = Path(__file__)
    return entry(
        serving, [*sources(), here, *(here.with_name(f"{one}.py") for one in ("loop", "router", "transitions"))]
    )


def is_compiled() -> bool:
    """Whether this machine keeps the compiled code of these sources."""
    return is_kept(compiled())
