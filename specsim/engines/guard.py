"""Runs one command in a process group of its own and ends the whole group when whoever started this is gone.

``python -P guard.py COMMAND...``: standard input is the cord. Once it closes, because its holder let go or died in
whatever way, the group gets SIGINT, then SIGTERM, then SIGKILL. Imports nothing of specsim, so it starts at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_S = (20.0, 5.0, 5.0)  # after each signal


def main(command: list[str]) -> int:
    """The command's exit status; its group has no process left."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the holder, whose end is what counts here
        signal.signal(number, lambda *_: None)  # the command would inherit SIG_IGN, and never stop of its own accord
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_cord, args=(process,), daemon=True).start()
    status = process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # what the command left behind
    return status


def _end_with_cord(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 64):
        pass
    for number, wait_s in zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), GRACE_S, strict=True):
        _signal_group(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
