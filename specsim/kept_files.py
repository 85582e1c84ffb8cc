"""Files that hold what took long to make: written whole or not at all, by one writer at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from specsim.errors import InvalidInput, NoAnswer
from specsim.text_file import read_text


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a file beside ``path`` to write; once the block ends well, it takes the place of ``path``.

    A process that is killed or a disk that fills up leaves ``path`` as it was. Raises OSError that names ``path``.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        with naming(path):
            yield draft
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block names ``path``: of a full disk, Python tells no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8, or leave the one that was there."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into ``folder``, made if need be, until the block ends or the process dies.

    Raises NoAnswer where another one does already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    locks = Path(tempfile.gettempdir()) / f"specsim-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / f"{name}.lock", blocking=False)  # outside the folder, which may be shared or committed
    try:
        lock.acquire()
    except Timeout:
        raise NoAnswer(f"another process is writing into {folder}; wait for it or give another folder") from None
    try:
        yield
    finally:
        lock.release()


def append_text(path: Path, text: str) -> None:
    """Add whole lines to a file of lines, made if need be: a checkpoint. Raises OSError that names ``path``."""
    with naming(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(text)


def append_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Add rows to a CSV table, the columns' names first where it is new: a checkpoint."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    drop_torn_line(path)
    if not path.exists():
        writer.writerow(columns)
    writer.writerows(rows)
    append_text(path, text.getvalue())


def read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a table of lines; a last line that a killed process left torn is left out.

    Raises InvalidInput: not text, a row with other than the header's number of cells.
    """
    lines = read_text(path, "a table that specsim wrote").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    reader = csv.DictReader(whole, strict=True)
    try:
        for record in reader:
            if None in record or None in record.values():
                raise csv.Error(f"other than {len(reader.fieldnames or ())} cells")
            yield reader.line_num, record
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: {error}; remove the row, it is measured again") from None


def drop_torn_line(path: Path) -> None:
    """Remove what a kill or a full disk left of a last line, and a file that holds nothing else."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
    if not whole:
        path.unlink()
