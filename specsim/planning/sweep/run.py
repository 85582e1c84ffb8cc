"""Points answered by many workers through joblib: processes of this machine (loky), a Dask or a Ray cluster.

What a worker loses, by dying or being killed, is answered again, a few times; what the command loses when it is killed
is what had not come back by then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

from joblib import Parallel, delayed, parallel_config

from specsim.errors import MissingExtra, NoAnswer, SpecsimError
from specsim.planning.sweep.answers import Answer, AnswerRow
from specsim.planning.sweep.kept import KeptRows
from specsim.planning.sweep.points import Point
from specsim.planning.workers import end_with_parent
from specsim.progress import Progress
from specsim.scenario import Scenario

Backend = Literal["loky", "dask", "ray"]
ATTEMPTS = 3
POINTS_A_WORKER = 8  # handed out at once where a backend returns results only together
LOST = {"BrokenProcessPool", "KilledWorker", "RayError"}  # loky, Dask, Ray: a worker died


def run_points(
    points: Sequence[Point],
    answer: Answer,
    kept: KeptRows,
    *,
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    progress: Progress | None = None,
) -> int:
    """Answer the points that ``kept`` lacks, keep each as it comes, and return how many were answered.

    A point without an answer is kept with its ``error``. ``progress`` hears (finished, all). Raises MissingExtra for a
    backend that is not installed, NoAnswer where workers keep dying.
    """
    for point in points:
        if point.scenario is None and point.key not in kept.rows:
            kept.add(point, {"error": point.refused})
    before = sum(point.key in kept.rows for point in points)
    for attempt in range(ATTEMPTS):
        missing = [point for point in points if point.key not in kept.rows]
        if not missing:
            break
        by_key = {point.key: point for point in missing}
        try:
            with _workers(backend, address, jobs):
                finished = len(points) - len(missing)
                for now, (key, row) in enumerate(_answers(missing, answer, backend, jobs), finished + 1):
                    kept.add(by_key[key], row)
                    if progress is not None:
                        progress(now, len(points))
        except Exception as error:
            if not LOST & {kind.__name__ for kind in type(error).__mro__}:
                raise
            if attempt + 1 == ATTEMPTS:
                left = sum(point.key not in kept.rows for point in points)
                raise NoAnswer(
                    f"workers died {ATTEMPTS} times with {left} points left ({type(error).__name__}); give them more "
                    "memory or fewer --jobs: the same command goes on from there"
                ) from None
    return sum(point.key in kept.rows for point in points) - before


def answered(answer: Answer, key: str, scenario: Scenario) -> tuple[str, AnswerRow]:
    """What a worker does."""
    try:
        return key, answer(scenario) | {"error": None}
    except SpecsimError as error:
        return key, {"error": str(error)}


def _answers(points: Sequence[Point], answer: Answer, backend: Backend, jobs: int) -> Iterator[tuple[str, AnswerRow]]:
    """(key, row) as they come; of Ray's pool, which returns no stream, a few points a worker at a time."""
    tasks = [delayed(answered)(answer, point.key, point.scenario) for point in points]
    if backend != "ray":
        yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
        return
    with Parallel(n_jobs=jobs) as parallel:
        together = POINTS_A_WORKER * parallel._effective_n_jobs()
        for first in range(0, len(tasks), together):
            yield from parallel(tasks[first : first + together])


@contextmanager
def _workers(backend: Backend, address: str | None, jobs: int) -> Iterator[None]:
    """joblib's workers, those of a cluster at ``address`` or started here and ended afterwards."""
    start = {"loky": _loky, "dask": _dask, "ray": _ray}[backend]
    own = {"inner_max_num_threads": 1, "initializer": end_with_parent} if backend == "loky" else {}
    with start(address, jobs), parallel_config(backend=backend, **own):
        yield


@contextmanager
def _loky(address: str | None, jobs: int) -> Iterator[None]:
    from joblib.externals.loky import get_reusable_executor

    try:
        yield
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _dask(address: str | None, jobs: int) -> Iterator[None]:
    if find_spec("distributed") is None:
        raise MissingExtra("distributed", "dask")
    from distributed import Client, LocalCluster

    if address is not None:
        with Client(address):
            yield
        return
    workers = None if jobs < 1 else jobs
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster),
    ):
        yield


@contextmanager
def _ray(address: str | None, jobs: int) -> Iterator[None]:
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray")
    import ray
    from ray.util.joblib import register_ray

    local: dict[str, Any] = {"num_cpus": None if jobs < 1 else jobs, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level="error", **(local if address is None else {}))
    register_ray()
    try:
        yield
    finally:
        ray.shutdown()
