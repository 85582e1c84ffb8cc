"""Processes of this machine that share a command's work, and end with it however it ends."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of ``count``; None for one, which is this process.

    Begun anew, not forked: a fork would copy the progress bar's thread in whatever state it is.
    """
    if count == 1:
        yield None
        return
    from specsim.planning.workers import end_with_parent

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=end_with_parent) as pool:
        yield pool
