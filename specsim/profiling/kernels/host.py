"""Host time: the engine's own between its passes, and what launching, replaying and copying inputs cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from specsim.profiles.schema import Row, spread_of
from specsim.profiling.device.machine import inspect
from specsim.profiling.device.timer import WallClock
from specsim.profiling.kernels import in_pass
from specsim.reference.timing.host import host_times

REPEATS, LAUNCHES = 15, 200
LAUNCHED = {"cpu": {"layer", "launch"}, "cuda": {"launch", "graph_replay"}}


def engine_rows(batches: Sequence[int], device: str, dtype: str, seconds_per_cell: float) -> Iterator[Row]:
    """The reference engine's step and what drafting adds, by batch."""
    for found in host_times(list(batches), device=device, seconds_per_cell=seconds_per_cell):
        times = (found.median_s, found.p10_s, found.p90_s)
        yield _row(found.part, found.sequences, dtype, "reference engine", times, found.samples)


def launch_rows(device: str, dtype: str) -> Iterator[Row]:
    """LAUNCHED of the device: on a CPU what lies between a layer's kernels, launches, on a GPU replays of graphs."""
    if device == "cpu":
        between_s = in_pass.between_kernels_s(inspect(device), dtype)
        yield _row("layer", 1, dtype, "between kernels", spread_of(between_s), len(between_s))
    yield _timed("launch", 1, dtype, "add_", _launches(device))
    if device == "cuda":
        yield _timed("graph_replay", 1, dtype, "CUDAGraph.replay", _replays())


def copy_rows(batches: Sequence[int], dtype: str) -> Iterator[Row]:
    """Copies of a step's inputs to a GPU, by batch."""
    for batch in batches:
        yield _timed("input_copy", batch, dtype, "pinned int64 rows, two copies", _copies(batch))


def _timed(operation: str, sequences: int, dtype: str, kernel: str, run: Callable[[], None]) -> Row:
    """Host seconds of one of the LAUNCHES that ``run`` makes."""
    clock = WallClock()
    run()
    _wait()
    seconds = []
    for _ in range(REPEATS):
        seconds.append(clock.seconds(run) / LAUNCHES)
        _wait()
    return _row(operation, sequences, dtype, kernel, spread_of(seconds), REPEATS)


def _row(
    operation: str, sequences: int, dtype: str, kernel: str, times: tuple[float, float, float], samples: int
) -> Row:
    return Row(
        shape=(float(sequences),),
        operation=operation,
        dtype=dtype,
        kernel=kernel,
        cache="warm",
        mode="eager",
        median_s=times[0],
        p10_s=times[1],
        p90_s=times[2],
        samples=samples,
    )


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _launches(device: str) -> Callable[[], None]:
    x = torch.zeros(1, device=device)

    def run() -> None:
        for _ in range(LAUNCHES):
            x.add_(1.0)

    return run


def _replays() -> Callable[[], None]:
    x = torch.zeros(1, device="cuda")
    x.add_(1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.add_(1.0)

    def run() -> None:
        for _ in range(LAUNCHES):
            graph.replay()

    return run


def _copies(batch: int) -> Callable[[], None]:
    """Token ids and positions of a step, host to device."""
    rows = torch.zeros(2, batch, dtype=torch.int64, pin_memory=True)
    target = torch.empty(2, batch, dtype=torch.int64, device="cuda")

    def run() -> None:
        for _ in range(LAUNCHES):
            target[0].copy_(rows[0], non_blocking=True)
            target[1].copy_(rows[1], non_blocking=True)

    return run
