"""All-reduce and all-gather over the GPUs of this machine, one process each (torch.distributed, NCCL)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from specsim.profiles.schema import Row, spread_of

SIZES_BYTES = tuple(2**power for power in range(12, 30, 2))
OPERATIONS = ("all_reduce", "all_gather")
WARM_UPS, SAMPLES, CALLS = 5, 15, 10
ADDRESS = "tcp://127.0.0.1:29517"


def collective_rows() -> Iterator[Row]:
    """Rows for 2, 4, ... ranks, as many as there are GPUs; none with fewer than two. ``bytes``: the whole tensor."""
    ranks = 2
    while ranks <= torch.cuda.device_count():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "times.json"
            start_processes(_run, args=(ranks, str(path)), nprocs=ranks)
            for operation, size, seconds in json.loads(path.read_text()):
                median, p10, p90 = spread_of(seconds)
                yield Row(
                    shape=(float(size), float(ranks)),
                    operation=operation,
                    dtype="bfloat16",
                    kernel="nccl",
                    cache="warm",
                    mode="eager",
                    median_s=median,
                    p10_s=p10,
                    p90_s=p90,
                    samples=SAMPLES,
                )
        ranks *= 2


def _run(rank: int, ranks: int, path: str) -> None:
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=ADDRESS, rank=rank, world_size=ranks)
    found = [(op, size, _seconds(op, size, ranks)) for op in OPERATIONS for size in SIZES_BYTES]
    if rank == 0:
        Path(path).write_text(json.dumps(found))
    dist.destroy_process_group()


def _seconds(operation: str, size: int, ranks: int) -> list[float]:
    """Seconds of one call, SAMPLES times, on this rank's stream."""
    whole = torch.zeros(size // 2, device="cuda", dtype=torch.bfloat16)
    share = whole[: size // 2 // ranks].clone()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples = []
    for number in range(WARM_UPS + SAMPLES):
        dist.barrier()
        start.record()
        for _ in range(CALLS):
            if operation == "all_reduce":
                dist.all_reduce(whole)
            else:
                dist.all_gather_into_tensor(whole, share)
        end.record()
        end.synchronize()
        if number >= WARM_UPS:
            samples.append(start.elapsed_time(end) / 1e3 / CALLS)
    return samples
