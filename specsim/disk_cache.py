"""What takes long to make and depends on files alone, kept in the user's cache folder between runs.

One file an entry, named by the hash of its key, in a folder named by the state of the code. Files appear in one piece
and hold a hash of themselves, so that a torn write, two processes at once or a full disk cost nothing but the making.
Where the folder cannot be written nothing is kept. A folder of other code is removed when a new one is begun.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")

_SOURCES = ("arrays.py", "profiles", "specs", "surfaces")  # what makers are made of; of what else, their keys say
_LIBRARIES = ("numpy", "scipy")


def kept(key: str, make: Callable[[], Made]) -> Made:
    """The entry of a key, made by ``make`` where it is not kept yet; the key says all that ``make`` depends on."""
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.pickle"
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    digest, body = content[:32], content[32:]
    if body and hashlib.sha256(body).digest() == digest:
        entry: Made = pickle.loads(body)
        return entry
    made = make()
    body = pickle.dumps(made, pickle.HIGHEST_PROTOCOL)
    with contextlib.suppress(OSError):
        _write(path, hashlib.sha256(body).digest() + body)
    return made


def cache_folder() -> Path:
    """Where this code keeps its entries; ``XDG_CACHE_HOME`` says where a user's caches are."""
    return _home() / "specsim" / state_of_code(*_SOURCES)


def _home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


@lru_cache
def state_of_code(*sources: str) -> str:
    """A hash of files and folders of the package, and of the libraries and the Python that they run on."""
    digest = hashlib.sha256(sys.version.encode())
    for library in _LIBRARIES:
        try:
            digest.update(version(library).encode())
        except PackageNotFoundError:  # a library without metadata: its entries are told apart by nothing
            digest.update(b"?")
    package = Path(__file__).parent
    for source in sources:
        place = package / source
        for path in _files(place) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    """Code and the data that it reads."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml"))


def _write(path: Path, content: bytes) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.parent.iterdir():
            if other != path.parent:
                shutil.rmtree(other, ignore_errors=True)
    number, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        os.replace(draft, path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
