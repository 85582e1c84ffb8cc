"""What several verbs share: their common options and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from specsim.errors import MissingExtra

if TYPE_CHECKING:
    from rich.progress import Progress

ScenarioArgument = Annotated[str, typer.Argument(help="A scenario's YAML path, or the name of a bundled one.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field: path.to.field=value (repeatable).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, messages on stderr.")]


def require_torch() -> None:
    """Raises MissingExtra where torch is not installed."""
    if find_spec("torch") is None:
        raise MissingExtra("torch", "profile")


def console() -> Console:
    """Where tables go: as wide as the terminal, or as COLUMNS says, else 120."""
    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=sys.stdout, width=None if wide else 120, highlight=False)


def messages() -> Console:
    """Where progress and remarks go: lines of any length, which a terminal wraps itself."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def progress_bar(*, counted: bool = True) -> Progress:
    """What is under way, how much is done and how long the rest takes.

    A bar on a terminal, gone when it ends; elsewhere a line now and then. ``counted``: what is done is a number of
    things, which is shown; else a share of the whole.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from specsim.cli.progress_lines import ProgressLines

    screen = messages()
    if not screen.is_terminal:
        return ProgressLines(screen)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *([MofNCompleteColumn()] if counted else []),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
    )


@contextmanager
def progress_of(what: str, *, counted: bool = True) -> Iterator[Callable[..., None]]:
    """A progress bar of one task, as a function of (done, all) and, if it likes, of what is being done."""
    with progress_bar(counted=counted) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int, now: str = what) -> None:
            bar.update(task, completed=done, total=total, description=now)

        yield tell


def print_json(document: Any) -> None:
    """One JSON document; NaN and infinity never appear in it."""
    print(json.dumps(document, indent=1, allow_nan=False, default=str))


def tell_compilation() -> None:
    """Say why the first run on a machine begins later than the next ones will."""
    from specsim.jit import is_kept
    from specsim.serving.loop import serve

    if not is_kept(serve):
        messages().print("compiling the simulator for this machine, once; it takes some ten seconds", soft_wrap=True)
