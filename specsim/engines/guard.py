"""Runs one command in a process group of its own and ends the whole group when whoever started this is gone.

``python -P guard.py CORD COMMAND...``: the file descriptor CORD is a pipe's end. Once the other end closes, because
its holder let go or died in whatever way, the group gets SIGINT, then SIGTERM, then SIGKILL; a byte on it is SIGKILL
at once. Imports nothing of specsim, so it starts at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_S = (20.0, 5.0, 5.0)  # after each signal


def main(cord: int, command: list[str]) -> int:
    """The command's exit status; its group has no process left."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the holder, whose end is what counts here
        signal.signal(number, lambda *_: None)  # the command would inherit SIG_IGN, and never stop of its own accord
    process = subprocess.Popen(command, start_new_session=True)
    threading.Thread(target=_end_with_cord, args=(cord, process), daemon=True).start()
    status = process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # what the command left behind
    return status


def _end_with_cord(cord: int, process: subprocess.Popen[bytes]) -> None:
    at_once = bool(os.read(cord, 1))
    signals = zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), GRACE_S, strict=True)
    for number, wait_s in [(signal.SIGKILL, GRACE_S[-1])] if at_once else signals:
        _signal_group(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
