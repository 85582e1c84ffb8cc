"""The text that the models learn: the source of the running Python's standard library, in a fixed order.

Two kinds of document: ``code`` (one module each) and ``prose`` (one topic of ``pydoc_data.topics`` each, the language
reference as plain text). A document is held out by the hash of its name, so the choice does not move when others come
or go. Left out: tests, tables of characters, and packages that are not part of the library.
"""

from __future__ import annotations

import hashlib
import pydoc_data.topics
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__"}
ONE_HELD_OUT_IN = {"code": 16, "prose": 4}


@dataclass(frozen=True, slots=True)
class Document:
    """One text: its name, its domain (``code`` or ``prose``) and what it says."""

    name: str
    domain: str
    text: str

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.name.encode()).digest()[0] % ONE_HELD_OUT_IN[self.domain] == 0


def documents() -> Iterator[Document]:
    """Every document of this interpreter's library, modules by path and then topics by name."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        place = path.relative_to(root)
        if not LEFT_OUT.intersection(place.parts) and not place.parts[0].startswith("config-"):
            yield Document(place.as_posix(), "code", path.read_text(encoding="utf-8", errors="replace"))
    for name, text in sorted(pydoc_data.topics.topics.items()):
        yield Document(f"topic:{name}", "prose", text)


def split() -> tuple[list[Document], list[Document]]:
    """(documents to train on, documents held out)."""
    train: list[Document] = []
    held_out: list[Document] = []
    for document in documents():
        (held_out if document.held_out else train).append(document)
    return train, held_out


def digest(texts: list[Document]) -> str:
    """SHA-256 over names and texts: equal digests mean equal training data."""
    total = hashlib.sha256()
    for document in texts:
        total.update(f"{document.name}\0{document.text}\0".encode())
    return total.hexdigest()
