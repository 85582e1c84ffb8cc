"""Text files that people bring, read whole; what cannot be read is told in one line."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile, GzipFile
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TextIO

from specsim.errors import InvalidInput, shown

LONGEST_NAMED = 300  # characters of a path that a message repeats
LARGEST_BYTES = 2**30  # read whole, it and what is made of it stay in memory; larger files are read line by line
LONGEST_LINE = 2**24  # characters; of packed files, a few KB may unpack to any number of them


PACKED = {  # how files that a program packed begin, and what unpacks them; gzip's are read as they are
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
}
GZIP = b"\x1f\x8b"
_piped: dict[tuple[int, int, int], bytes] = {}  # what pipes have given, for whoever reads them again


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """A file's UTF-8 text, a byte order mark dropped; one that gzip packed is unpacked as it is read.

    A pipe is read whole, once, and then as any file. Raises InvalidInput for one that another program packed: it names
    what unpacks it.
    """
    pipe = BytesIO(_from_pipe(path)) if stat.S_ISFIFO(path.stat().st_mode) else None
    file = pipe or path.open("rb")
    begins = file.read(6)
    file.seek(0)
    for mark, (program, command) in PACKED.items():
        if begins.startswith(mark):
            file.close()
            raise InvalidInput(f"{path} is packed by {program}; unpack it ({command} {path.name}) and give the text")
    if not begins.startswith(GZIP):
        return TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    if pipe is None:
        file.close()
    return TextIOWrapper(GzipFile(path, fileobj=pipe), encoding="utf-8-sig", newline=newline)


def _from_pipe(path: Path) -> bytes:
    """What a pipe gives, kept until something else is written into it. Raises InvalidInput for more than 1 GiB."""
    told = path.stat()
    key = (told.st_dev, told.st_ino, told.st_mtime_ns)
    if key not in _piped:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
            told = os.fstat(file.fileno())
        if len(content) > LARGEST_BYTES:
            raise InvalidInput(f"{path} gave more than 1 GiB; write it into a file and give its path")
        key = (told.st_dev, told.st_ino, told.st_mtime_ns)
        _piped[key] = content
    return _piped[key]


def lines_of(file: TextIO, path: Path) -> Iterator[str]:
    """A file's lines. Raises InvalidInput for one longer than any table's."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise InvalidInput(
                f"{path}, line {number} is longer than {LONGEST_LINE:,} characters; give a file of one row a line"
            )
        yield line


def read_text(path: Path | str, what: str) -> str:
    """The file's text as ``open_text`` reads it; ``what`` names the file wanted (``a YAML file``).

    Raises InvalidInput: missing, a folder, not readable, larger than 1 GiB, not UTF-8, a path with a NUL, packed.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > LARGEST_BYTES:
            raise InvalidInput(f"{path} is larger than 1 GiB; give the path of {what}")
        with open_text(path) as file:
            text = file.read(LARGEST_BYTES + 1)
        if len(text) > LARGEST_BYTES:
            raise InvalidInput(f"{path} is larger than 1 GiB; give the path of {what}")
        return text
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; give the path of {what}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"cannot read {path}: it is not UTF-8 text; give the path of {what}") from None
    except (EOFError, zlib.error, BadGzipFile):
        raise InvalidInput(f"cannot read {path}: its gzip data is broken or cut short; give {what} whole") from None
    except OSError as error:
        named = path if len(str(path)) < LONGEST_NAMED else shown(str(path))
        raise InvalidInput(f"cannot read {named}: {error.strerror}; give the path of {what}") from None
    except ValueError:
        raise InvalidInput(f"{shown(str(path))} is no path: it holds a NUL; give the path of {what}") from None
