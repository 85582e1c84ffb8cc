"""Uploaded files: how large they may be, where they lie, and which the session's names reach."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from specsim.errors import InvalidInput

MOST_KEPT_BYTES = 2**29  # of all sessions; the oldest files go first
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read of one kind of upload."""

    megabytes: float
    lines: int = 200_000
    files: int = 1


@dataclass(frozen=True, slots=True)
class Upload:
    """``name``: as a question may call it, whatever the browser said."""

    name: str
    content: bytes

    @classmethod
    def of(cls, given: Sequence[tuple[str, bytes]], limits: Limits) -> list[Upload]:
        """Files as (name, content). Raises InvalidInput where they are too many, too large or too long."""
        if len(given) > limits.files:
            raise InvalidInput(f"{len(given)} files are given; this takes {limits.files} at most")
        for name, content in given:
            if len(content) > limits.megabytes * 1e6:
                raise InvalidInput(
                    f"{safe_name(name)} has {len(content) / 1e6:.1f} MB; at most {limits.megabytes:g} MB are read here"
                )
            if content.count(b"\n") > limits.lines:
                raise InvalidInput(f"{safe_name(name)} has more than {limits.lines:,} lines; give a part of it")
        return [cls(safe_name(name), content) for name, content in given]

    def text(self) -> str:
        """As UTF-8. Raises InvalidInput for anything else."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{self.name} is not UTF-8 text; give the file as it was written") from None


def safe_name(name: str) -> str:
    """The last part of a file's name, of letters, digits, dots and dashes."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".")[-LONGEST_NAME:] or "file"


def kept(upload: Upload) -> Path:
    """The upload as a file of a name of its own making."""
    suffix = Path(upload.name).suffix
    path = _folder() / f"{hashlib.sha256(upload.content).hexdigest()[:24]}{suffix}"
    path.write_bytes(upload.content)
    _forget_oldest()
    return path


def kept_folder(uploads: Sequence[Upload]) -> Path:
    """Several uploads as the files of one folder."""
    digest = hashlib.sha256(b"".join(one.name.encode() + one.content for one in uploads)).hexdigest()
    folder = _folder() / digest[:24]
    folder.mkdir(exist_ok=True)
    for one in uploads:
        (folder / one.name).write_bytes(one.content)
    _forget_oldest()
    return folder


def name_file(name: str, path: Path) -> None:
    """Let this session's questions reach a kept file by a name."""
    st.session_state.setdefault("files", {})[name] = path


def named_files() -> Mapping[str, Path]:
    """What this session's questions may reach."""
    found: Mapping[str, Path] = st.session_state.get("files", {})
    return found


def in_own_names(text: str) -> str:
    """A message about kept files with the names that the session gave them."""
    for name, path in named_files().items():
        text = text.replace(str(path), name)
    return text


def _folder() -> Path:
    return Path(_temporary().name)


@st.cache_resource(show_spinner=False)
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """One of this process, gone with it."""
    return tempfile.TemporaryDirectory(prefix="specsim-uploads-")


def _forget_oldest() -> None:
    """Keep the newest files within what all sessions may hold."""
    files = sorted((path for path in _folder().rglob("*") if path.is_file()), key=lambda path: -path.stat().st_mtime)
    held = 0
    for path in files:
        held += path.stat().st_size
        if held > MOST_KEPT_BYTES:
            path.unlink(missing_ok=True)
