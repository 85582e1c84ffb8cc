"""A checkpoint's records, one JSON object a line, read into a pydantic model; damaged lines are told, not traced."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from specsim.errors import Faults, InvalidInput
from specsim.json_file import parse_json
from specsim.kept_files import drop_torn_line
from specsim.specs.faults import explain
from specsim.text_file import read_text

REMOVE = "remove the line, and what it was is measured again"
Record = TypeVar("Record", bound=BaseModel)


def read_record_lines(path: Path, model: type[Record]) -> list[Record]:
    """The records of a file that this package wrote; none without it. A last line that a kill left torn is dropped.

    Raises InvalidInput: every other line that is none, by its number.
    """
    drop_torn_line(path)
    if not path.exists():
        return []
    faults, found = Faults(), list[Record]()
    for number, line in enumerate(read_text(path, "a checkpoint that specsim wrote").splitlines(), 1):
        with faults.kept():
            try:
                found.append(model.model_validate(parse_json(line)))
            except ValidationError as error:
                raise InvalidInput(f"{path}, line {number}: {explain(error, model)}; {REMOVE}") from None
            except ValueError as error:
                raise InvalidInput(f"{path}, line {number} is not JSON: {error}; {REMOVE}") from None
    faults.tell()
    return found
