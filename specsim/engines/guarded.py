"""Commands that do not outlive this process, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")
KILLED_S = 10.0  # for a killed group to be gone


class GuardedProcess:
    """A command in a process group of its own, which has no process left once the command or this process has ended.

    ``process`` is its guard's: the command's standard streams and exit status are that one's too.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.STDOUT,
    ) -> None:
        held, cord = os.pipe()
        self._cord = os.fdopen(cord, "wb", buffering=0)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(GUARD), str(held), *command],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
                env=dict(environment),
                pass_fds=(held,),
            )
        except BaseException:
            self._cord.close()
            raise
        finally:
            os.close(held)

    def interrupt(self) -> None:
        """Ask the group to end, as Ctrl-C does; one that does not is killed in the end. Safe to call twice."""
        self._cord.close()

    def kill(self) -> None:
        """End the group at once. Safe to call twice, and from another thread than the one that waits."""
        with suppress(BrokenPipeError, ValueError):  # it has ended
            self._cord.write(b"x")

    def wait(self, limit_s: float) -> None:
        """Wait for the command to end, and kill it after ``limit_s``."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self._cord.close()


def run_guarded(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` with its output captured; it ends where this is interrupted."""
    guarded = GuardedProcess(command, environment, stderr=subprocess.PIPE)
    try:
        out, said = guarded.process.communicate()
    finally:
        guarded.kill()
        guarded.wait(KILLED_S)
    return subprocess.CompletedProcess(command, guarded.process.returncode, out, said)
