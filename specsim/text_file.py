"""Text files that people bring, read whole; what cannot be read is told in one line."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile, GzipFile
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from specsim.errors import InvalidInput, shown

LONGEST_NAMED = 300  # characters of a path that a message repeats
LARGEST_BYTES = 2**30  # read whole, it and what is made of it stay in memory; larger files are read line by line


PACKED = {  # how files that a program packed begin, and what unpacks them; gzip's are read as they are
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"PK\x03\x04": ("zip", "unzip"),
}
GZIP = b"\x1f\x8b"


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """A file's UTF-8 text, a byte order mark dropped; one that gzip packed is unpacked as it is read.

    Raises InvalidInput for one that another program packed: it names what unpacks it.
    """
    file = path.open("rb")  # once: what a pipe has given is gone
    begins = file.peek(6)
    for mark, (program, command) in PACKED.items():
        if begins.startswith(mark):
            file.close()
            raise InvalidInput(f"{path} is packed by {program}; unpack it ({command} {path.name}) and give the text")
    if not begins.startswith(GZIP):
        return TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    file.close()
    return TextIOWrapper(GzipFile(path), encoding="utf-8-sig", newline=newline)


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
