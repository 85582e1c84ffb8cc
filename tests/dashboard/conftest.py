"""The page as ``specsim dashboard`` serves it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_START_S = 60


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server of this module's own answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "specsim.cli.main", "dashboard", "--port", str(port)]
    server = subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True)
    found = f"http://127.0.0.1:{port}"
    try:
        _wait(found)
        yield found
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _wait(address: str) -> None:
    end = time.monotonic() + LONGEST_START_S
    while True:
        try:
            urlopen(f"{address}/_stcore/health", timeout=1).read()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
