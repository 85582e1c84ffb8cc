"""What concerns the whole suite: its workers, their threads and their memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("suite")
MOST_WORKERS = 4  # each holds torch, numba's code and its own fixtures: about 1.5 GB at the end of a run

os.environ.pop("COLUMNS", None)  # how wide the terminal is that the suite is run in

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and NumPy are imported: one thread a worker, not one a core
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core for the whole suite; none on one core, and for files or tests named on the command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return 0 if chosen or cores == 1 else min(cores, MOST_WORKERS)


_compiling = pytest.StashKey[subprocess.Popen[bytes]]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Compile while workers collect tests: each would compile the same at the same time."""
    command = [sys.executable, "-m", "tests.compile_first"]
    config.stash[_compiling] = subprocess.Popen(command, cwd=Path(__file__).parent.parent)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """No test begins before it is done; where it failed, tests that need it fail and say so."""
    node.config.stash[_compiling].wait()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, then those with the most: no worker begins a long one when the others are done."""
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


@pytest.fixture(scope="module", autouse=True)
def _only_what_a_module_makes_is_searched_for_garbage() -> None:
    """The engine collects garbage before each measured cell, and each time would search all that the suite holds."""
    gc.collect()
    gc.freeze()
