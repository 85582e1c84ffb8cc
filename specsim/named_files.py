"""Files that people name in a scenario, an option or a pasted command line; which of them a name may reach.

On a command line a name means a file of this machine. A server that answers strangers opens only what they gave it:
within ``only_files`` a name means one of those files, and nothing else is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from specsim.errors import InvalidInput, shown

_given: ContextVar[Mapping[str, Path] | None] = ContextVar("_given", default=None)  # None: any of this machine


@contextmanager
def only_files(given: Mapping[str, Path]) -> Iterator[None]:
    """Within it names reach these files and folders alone, by their keys."""
    token = _given.set(given)
    try:
        yield
    finally:
        _given.reset(token)


def file_named(name: str | Path) -> Path:
    """Where a named file or folder is, whether it exists or not. Raises InvalidInput for one that was not given."""
    given = _given.get()
    if given is None:
        return Path(name)
    if str(name) not in given:
        raise InvalidInput(f"{shown(str(name))} names a file, and none of that name was uploaded here; upload it")
    return given[str(name)]


def is_file(name: str | Path) -> bool:
    """Whether a name reaches a file."""
    return _may_reach(name) and file_named(name).is_file()


def is_folder(name: str | Path) -> bool:
    """Whether a name reaches a folder."""
    return _may_reach(name) and file_named(name).is_dir()


def _may_reach(name: str | Path) -> bool:
    given = _given.get()
    return given is None or str(name) in given
