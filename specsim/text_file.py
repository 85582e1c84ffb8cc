"""Text files that people bring, read whole; what cannot be read is told in one line."""

from __future__ import annotations

from pathlib import Path

from specsim.errors import InvalidInput, shown

LONGEST_NAMED = 300  # characters of a path that a message repeats
LARGEST_BYTES = 2**30  # read whole, it and what is made of it stay in memory; larger files are read line by line


def read_text(path: Path | str, what: str) -> str:
    """The file's UTF-8 text, a byte order mark dropped; ``what`` names the file wanted (``a YAML file``).

    Raises InvalidInput: missing, a folder, not readable, larger than 1 GiB, not UTF-8, a path with a NUL.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > LARGEST_BYTES:
            raise InvalidInput(f"{path} is larger than 1 GiB; give the path of {what}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; give the path of {what}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"cannot read {path}: it is not UTF-8 text; give the path of {what}") from None
    except OSError as error:
        named = path if len(str(path)) < LONGEST_NAMED else shown(str(path))
        raise InvalidInput(f"cannot read {named}: {error.strerror}; give the path of {what}") from None
    except ValueError:
        raise InvalidInput(f"{shown(str(path))} is no path: it holds a NUL; give the path of {what}") from None
