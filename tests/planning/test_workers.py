"""Workers end with the command that began them, killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

POOL = """
import os, time
from specsim.cli.workers import worker_processes
if __name__ == "__main__":
    with worker_processes(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""
LOKY = """
import os, time
from joblib import Parallel, delayed
from specsim.planning.sweep.run import _workers
if __name__ == "__main__":
    with _workers("loky", None, 2):
        (number,) = Parallel(n_jobs=2)([delayed(os.getpid)()])
        print(number, flush=True)
        Parallel(n_jobs=2)([delayed(time.sleep)(60)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("script", [POOL, LOKY], ids=["pool", "loky"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_command_that_is_killed(script: str, sent: signal.Signals, tmp_path: os.PathLike) -> None:
    path = os.path.join(tmp_path, "script.py")
    with open(path, "w") as file:
        file.write(script)
    command = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    worker = int(command.stdout.readline())
    assert alive(worker)
    command.send_signal(sent)
    command.wait()
    until = time.monotonic() + 30
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(worker)


def alive(number: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
